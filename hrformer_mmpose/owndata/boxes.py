"""Boxes and areas of persons, as the file has them or from the keypoints.

Legend: N persons, K keypoints.
"""

import numpy as np

from ..coco.persons import BOX_TO_PERSON_AREA
from .keypoint_values import MAX_COORDINATE, number, numbers, pixels
from .source import counted

BOX_MARGIN = 0.15  # of the keypoints' extent, on each side of a box that is made from them
MANY = 0.2  # share of boxes beyond their images that no annotator leaves


def boxes_of(
    entries: list[dict], keypoints: np.ndarray, size: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Return (N, 4) xywh; where there is no usable box, one around the keypoints, or NaN."""
    rows = [numbers(entry.get('bbox')) for entry in entries]
    boxes = np.array([row if len(row) == 4 else [np.nan] * 4 for row in rows]).reshape(-1, 4)
    given = (np.abs(boxes) < MAX_COORDINATE).all(1)  # False for NaN
    boxes[~given] = np.nan
    pairs = boxes.reshape(-1, 2, 2)
    boxes = pixels(pairs, np.repeat(given[:, None], 2, 1), size, 'boxes', notes).reshape(-1, 4)
    boxes = _from_corners(boxes, given, size, notes)
    corners = np.clip(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1), 0, None)
    corners = np.minimum(corners, np.tile(size - 1, 2))
    usable = given & (corners[:, 2:] > corners[:, :2]).all(1)
    labelled = (keypoints[..., 2] > 0).any(1)
    for mask, what in ((~given, 'without a box'), (given & ~usable, 'with a box without area')):
        if (count := int((mask & labelled).sum())) > 0:
            notes.append(
                f'{counted(count, "person")} {what}: made from the keypoints, with a margin'
            )
    made = _around(keypoints, size)
    boxes[~usable] = np.where(labelled[~usable, None], made[~usable], np.nan)
    return boxes


def _from_corners(
    boxes: np.ndarray, given: np.ndarray, size: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Convert boxes of two corners to xywh, if as xywh many would leave their images."""
    ends = boxes[given, :2] + boxes[given, 2:]
    beyond = (ends > 1.05 * size[given]).any(1)
    corners = (boxes[given, 2:] > boxes[given, :2]) & (boxes[given, 2:] <= size[given] + 1)
    if not len(ends) or beyond.mean() < MANY or not corners.all():
        return boxes
    notes.append('boxes are two corners (x0, y0, x1, y1), not corner and size: converted')
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def _around(keypoints: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (N, 4) boxes around labelled keypoints, with a margin, inside the image."""
    shown = keypoints[..., 2:] > 0
    low = np.where(shown, keypoints[..., :2], np.inf).min(1)
    high = np.where(shown, keypoints[..., :2], -np.inf).max(1)
    with np.errstate(invalid='ignore'):
        # A single keypoint has no extent: a tenth of the image stands for it.
        extent = np.maximum((high - low).max(1), 0.1 * size.max(1) / (1 + 2 * BOX_MARGIN))
    margin = np.where((high - low) > 0, BOX_MARGIN, 0.5) * extent[:, None]
    low, high = np.clip(low - margin, 0, size - 2), np.minimum(high + margin, size - 1)
    return np.concatenate([low, np.maximum(high - low, 1)], 1)


def areas_of(entries: list[dict], boxes: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return (N,) square pixels; a share of the box where the file has none."""
    areas = np.array([number(entry.get('area')) for entry in entries])
    # An area below a pixel is that of a normalised mask.
    missing = ~((areas > 1) & (areas < MAX_COORDINATE**2))
    if missing.any():
        notes.append(
            f'{counted(int(missing.sum()), "person")} without an area: {BOX_TO_PERSON_AREA} of the '
            'box, as in MMPose'
        )
    return np.where(missing, BOX_TO_PERSON_AREA * boxes[:, 2] * boxes[:, 3], areas)
