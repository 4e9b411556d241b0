"""Geometry of crops: from person boxes to the network's input and back to the image.

Equal to MMPose (`GetBBoxCenterScale`, `TopdownAffine`, `TopdownPoseEstimator`) to the bit, so that
poses equal those of `tools/test.py`.

Shapes: n boxes, K keypoints, (w, h) of the network's input, (H, W) of the image.
"""

import cv2
import numpy as np

from ..errors import DataError

BOX_PADDING = 1.25  # size of the crop relative to the box; default of GetBBoxCenterScale
MAX_COORDINATE = 1e18  # no pixel lies further out; float32 can still square it


def as_boxes(boxes, name: str) -> np.ndarray:
    """Convert boxes to an array with scores.

    Args:
        boxes: n rows of x0, y0, x1, y1[, score], coordinates in pixels.
        name: of the image, for error messages.

    Returns:
        (n, 5) float32, not sharing memory with `boxes`; missing scores are 1.

    Raises:
        DataError: not numbers, or another shape.
    """
    expected = 'rows of x0, y0, x1, y1[, score]'
    if boxes is None:
        raise DataError(f'the boxes of {name} are None, not {expected} (an empty list for nobody)')
    try:
        with np.errstate(over='ignore'):  # overflow becomes infinite: see invalid_boxes
            values = np.asarray(boxes)
            if values.dtype.kind not in 'biufO':  # strings of digits would pass for numbers
                raise TypeError(values.dtype)
            array = values.astype(np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise DataError(f'the boxes of {name} are not {expected}') from error
    if array.size == 0:
        return np.zeros((0, 5), np.float32)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise DataError(
            f'the boxes of {name} have the shape {array.shape}, not (n, 4) or (n, 5): {expected}'
        )
    if array.shape[1] == 5:
        return array
    return np.column_stack([array, np.ones(len(array), np.float32)])


def invalid_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> list[tuple[int, str]]:
    """Find boxes that cannot contain a person.

    Args:
        boxes: (n, 5).
        shape: (H, W, ...) of the image.

    Returns:
        Index and reason of each invalid box.
    """
    H, W = shape[:2]
    invalid = []
    for index, (x0, y0, x1, y1, score) in enumerate(boxes.tolist()):
        box = f'{x0:g}, {y0:g}, {x1:g}, {y1:g}'
        if not all(abs(value) < MAX_COORDINATE for value in (x0, y0, x1, y1, score)):  # also NaN
            invalid.append((index, 'holds NaN or infinite values'))
        elif x1 <= x0 or y1 <= y0:
            invalid.append((index, f'has no area: {box} (x0, y0, x1, y1)'))
        elif x1 <= 0 or y1 <= 0 or x0 >= W or y0 >= H:
            invalid.append((index, f'lies outside the image of {W}x{H}: {box}'))
    return invalid


def centers_and_scales(
    boxes: np.ndarray, input_size: tuple[int, int], padding: float = BOX_PADDING
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the crops of boxes.

    Args:
        boxes: (n, 4) or (n, 5), float32, pixels of the image.
        input_size: (w, h); its aspect ratio is that of the crops.
        padding: size of the crop relative to the box.

    Returns:
        Centers and sizes of the crops, (n, 2) each, pixels of the image.
    """
    centers = (boxes[:, 2:4] + boxes[:, :2]) * 0.5
    w, h = np.hsplit((boxes[:, 2:4] - boxes[:, :2]) * padding, 2)
    ratio = input_size[0] / input_size[1]
    wide, high = np.hstack([w, w / ratio]), np.hstack([h * ratio, h])
    return centers, np.where(w > h * ratio, wide, high)


def crop_matrix(
    center: np.ndarray, scale: np.ndarray, input_size: tuple[int, int], udp: bool
) -> np.ndarray:
    """Compute the affine map (2, 3) from pixels of the image to pixels of the input.

    Args:
        center: (2,), pixels of the image.
        scale: (2,), size of the crop in pixels of the image.
        input_size: (w, h).
        udp: measure lengths between the centers of the first and last pixel (Huang et al.,
            CVPR 2020).
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
    # Three points: the center, the middle of the left edge, and that turned by 90 degrees.
    source, target = np.zeros((3, 2), np.float32), np.zeros((3, 2), np.float32)
    for points, middle, width in ((source, center, scale[0]), (target, (w * 0.5, h * 0.5), w)):
        points[0] = middle
        points[1] = middle + np.array([width * -0.5, 0.0])
        direction = points[0] - points[1]
        points[2] = points[1] + np.array([-direction[1], direction[0]])
    return cv2.getAffineTransform(source, target)


def crop(image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """Cut out a crop (h, w, 3): bilinear interpolation, black outside the image.

    Args:
        image: (H, W, 3).
        matrix: (2, 3), from `crop_matrix`.
        input_size: (w, h).
    """
    return cv2.warpAffine(image, matrix, input_size, flags=cv2.INTER_LINEAR)


def to_image(
    keypoints: np.ndarray, centers: np.ndarray, scales: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Map keypoints (n, K, 2) from pixels of the input to pixels of the image.

    Args:
        keypoints: (n, K, 2), as decoded by a codec.
        centers: (n, 2), from `centers_and_scales`.
        scales: (n, 2), from `centers_and_scales`.
        input_size: (w, h).
    """
    size = np.array(input_size)
    return keypoints / size * scales[:, None] + centers[:, None] - 0.5 * scales[:, None]
