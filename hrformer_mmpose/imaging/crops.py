"""From a person's box to the network's input, and from there back to the image.

The geometry is MMPose's (`GetBBoxCenterScale`, `TopdownAffine`, `TopdownPoseEstimator`) to the bit,
float32 where it has float32, so that poses are those of `tools/test.py`.

Shapes: n boxes, K keypoints, w and h of the input.
"""

import cv2
import numpy as np

from ..errors import DataError

BOX_PADDING = 1.25  # GetBBoxCenterScale's default: the crop is this much larger than the box
HUGE = 1e18  # of coordinates that are no longer numbers of pixels; float32 still squares them


def as_boxes(boxes, name: str) -> np.ndarray:
    """Boxes with scores.

    Args:
        boxes: n rows of x0, y0, x1, y1 in pixels, or of these and a score. name: for messages.

    Returns:
        (n, 5) float32, an array of its own; scores are 1 where none are given.

    Raises:
        DataError: not numbers, or not of that shape.
    """
    wanted = 'rows of x0, y0, x1, y1[, score]'
    if boxes is None:
        raise DataError(f'the boxes of {name} are None, not {wanted} (an empty list for nobody)')
    try:
        with np.errstate(over='ignore'):  # becomes infinite, which is told of later
            given = np.asarray(boxes)
            if given.dtype.kind not in 'biufO':  # text of digits would pass for numbers
                raise TypeError(given.dtype)
            array = given.astype(np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f'the boxes of {name} are not {wanted}') from error
    if array.size == 0:
        return np.zeros((0, 5), np.float32)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise DataError(
            f'the boxes of {name} have the shape {array.shape}, not (n, 4) or (n, 5): {wanted}'
        )
    if array.shape[1] == 5:
        return array
    return np.column_stack([array, np.ones(len(array), np.float32)])


def unusable(boxes: np.ndarray, shape: tuple[int, ...]) -> list[tuple[int, str]]:
    """Rows that hold no person, and why.

    Args:
        boxes: (n, 5). shape: (H, W, ...) of the image.
    """
    H, W = shape[:2]
    found = []
    for index, (x0, y0, x1, y1, score) in enumerate(boxes.tolist()):
        if not all(abs(value) < HUGE for value in (x0, y0, x1, y1, score)):  # also of NaN
            found.append((index, 'holds NaN or infinite values'))
        elif x1 <= x0 or y1 <= y0:
            found.append((index, f'has no area: {x0:g}, {y0:g}, {x1:g}, {y1:g} (x0, y0, x1, y1)'))
        elif x1 <= 0 or y1 <= 0 or x0 >= W or y0 >= H:
            found.append(
                (index, f'lies outside the image of {W}x{H}: {x0:g}, {y0:g}, {x1:g}, {y1:g}')
            )
    return found


def centers_and_scales(
    boxes: np.ndarray, input_size: tuple[int, int], padding: float = BOX_PADDING
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and sizes of the crops, (n, 2) each, in pixels of the image.

    Args:
        boxes: (n, 4) or (n, 5), float32. input_size: (w, h). padding: crop over box.
    """
    centers = (boxes[:, 2:4] + boxes[:, :2]) * 0.5
    w, h = np.hsplit((boxes[:, 2:4] - boxes[:, :2]) * padding, 2)
    ratio = input_size[0] / input_size[1]
    wide, high = np.hstack([w, w / ratio]), np.hstack([h * ratio, h])
    return centers, np.where(w > h * ratio, wide, high)


def crop_matrix(
    center: np.ndarray, scale: np.ndarray, input_size: tuple[int, int], udp: bool
) -> np.ndarray:
    """Affine map from the image's pixels to the input's, (2, 3).

    Args:
        center, scale: (2,). input_size: (w, h). udp: lengths are measured from the first pixel's
            centre to the last one's (Huang et al., CVPR 2020).
    """
    w, h = input_size
    if udp:
        x, y = (w - 1) / scale[0], (h - 1) / scale[1]
        middle = center * 2
        return np.array(
            [
                [x, 0, x * (-0.5 * middle[0] + 0.5 * scale[0])],
                [0, y, y * (-0.5 * middle[1] + 0.5 * scale[1])],
            ],
            np.float32,
        )
    # Three points: the centre, the middle of the left edge, and one a quarter turn from that.
    source, target = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    for points, middle, width in ((source, center, scale[0]), (target, (w * 0.5, h * 0.5), w)):
        points[0] = middle
        points[1] = middle + np.array([width * -0.5, 0.0])
        direction = points[0] - points[1]
        points[2] = points[1] + np.array([-direction[1], direction[0]])
    return cv2.getAffineTransform(source, target)


def crop(image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3), bilinear, black outside the image.

    Args:
        image: (H, W, 3). matrix: of `crop_matrix`. input_size: (w, h).
    """
    return cv2.warpAffine(image, matrix, input_size, flags=cv2.INTER_LINEAR)


def to_image(
    keypoints: np.ndarray, centers: np.ndarray, scales: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Keypoints of the input as keypoints of the image.

    Args:
        keypoints: (n, K, 2), as a codec decodes them. centers, scales: (n, 2).
    """
    size = np.array(input_size)
    return keypoints / size * scales[:, None] + centers[:, None] - 0.5 * scales[:, None]
