"""Shared steps of detectors: scaling of images, suppression and clipping of boxes."""

import cv2
import numpy as np

from ...errors import DataError

PERSON = 1  # COCO's category
BOX_THRESHOLD = 0.3  # default detection score below which a network's boxes are dropped
PAD_VALUE = 114  # grey of the padding in YOLO's and MMDetection's test pipelines


def nms(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Suppress boxes that overlap a better one (non-maximum suppression).

    Args:
        boxes: (n, 4) x0, y0, x1, y1.
        scores: (n,).
        overlap: maximum intersection over union of two kept boxes.

    Returns:
        Indices of the kept boxes by descending score; equal scores in the order of the boxes.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order = np.argsort(-scores, kind='stable')
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(first)
        corner = np.maximum(boxes[first, :2], boxes[order, :2])
        shared = (np.minimum(boxes[first, 2:], boxes[order, 2:]) - corner).clip(0).prod(1)
        either = areas[first] + areas[order] - shared
        order = order[shared <= overlap * either]
    return np.array(kept, np.int64)


def image_size(image: np.ndarray) -> tuple[int, int]:
    """Check an image and return its (height, width).

    Raises:
        DataError: not (H, W, 3) uint8, or empty.
    """
    shape = getattr(image, 'shape', ())
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or image.dtype != np.uint8:
        what = f'{image.dtype} {shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(f'a detector takes an image (H, W, 3) of uint8 (BGR), not {what}')
    return shape[:2]


def resize(image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image; return it and the exact scale of x and y, (2,), after rounding the sides."""
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image, np.array([size[0] / width, size[1] / height])


def letterbox(
    image: np.ndarray, size: tuple[int, int], centred: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an image into `size` and pad it; a point p of the image maps to p * scale + offset.

    Args:
        image: (H, W, 3) uint8.
        size: (height, width) of the result.
        centred: pad all sides; otherwise right and bottom.

    Returns:
        Pixels (height, width, 3) uint8, scale (2,) and offset (2,) of x and y.
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    scaled, scales = resize(image, scale)
    height, width = scaled.shape[:2]
    left, top = (size[1] - width, size[0] - height) if centred else (0, 0)
    left, top = left // 2, top // 2
    fitted = np.full((*size, 3), PAD_VALUE, np.uint8)
    fitted[top : top + height, left : left + width] = scaled
    return fitted, scales, np.array([left, top], np.float64)


def as_rows(
    boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], threshold: float
) -> np.ndarray:
    """Clip boxes to the image and drop invalid ones.

    Args:
        boxes: (n, 4) x0, y0, x1, y1 in pixels.
        scores: (n,).
        size: (height, width) of the image.
        threshold: boxes with a lower score are dropped.

    Returns:
        (m, 5) float32 by descending score, without boxes that are outside the image or not finite.
    """
    height, width = size
    boxes = np.asarray(boxes, np.float64).clip(0, [width, height, width, height])
    rows = np.column_stack([boxes, scores]).astype(np.float32)
    kept = np.isfinite(rows).all(1) & (rows[:, 4] >= threshold)
    kept &= (rows[:, 2:4] > rows[:, :2]).all(1)
    rows = rows[kept]
    return rows[np.argsort(-rows[:, 4], kind='stable')]
