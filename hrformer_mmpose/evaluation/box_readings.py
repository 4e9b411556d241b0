"""Boxes of another format: four numbers that were written as something else than x, y, w, h.

Legend: N boxes, D predictions of an image, K keypoints.
"""

from collections.abc import Iterator

import numpy as np

from .case import Case
from .error_analysis import group
from .ground_truth import GroundTruth
from .predictions import Predictions

SAME_BOX = 0.5  # IoU of two boxes of the same person
MIN_FIT, GOOD_FIT, BETTER = 0.5, 0.75, 0.15
RESIZED = 1.25  # ratio of typical sides from which boxes are of images of another size


def unfit_boxes(case: Case) -> Iterator[str]:
    """Yield a sentence on boxes that do not fit, with the format in which they would."""
    truth, a, rows = case.truth, case.truth.annotations, case.counted
    rows = rows[(a.bbox[rows, 2:] > 0).all(1)]
    if not len(rows):
        return
    size = np.stack([a.width, a.height], 1)
    own = a.bbox[rows]
    fit = _fit_of_annotated(truth, rows, own)
    others = _readings(own, size[a.rows_of(a.image[rows])])
    fits = {name: _fit_of_annotated(truth, rows, b) for name, b in others.items()}
    best = max(fits, key=fits.__getitem__)
    if fit < GOOD_FIT <= fits[best] and fits[best] >= fit + BETTER:
        yield (
            f'the annotated boxes fit their keypoints and images to {100 * fit:.0f} % as x0, y0, '
            f'width, height, and to {100 * fits[best]:.0f} % read as {best}'
        )
    elif fit < MIN_FIT:
        yield (
            f'the annotated boxes fit their keypoints and images to {100 * fit:.0f} % only: are '
            'boxes and keypoints of the same images and sizes?'
        )
    else:
        yield from _boxes_of_predictions(case, rows, size)


def _boxes_of_predictions(case: Case, rows: np.ndarray, size: np.ndarray) -> Iterator[str]:
    truth, p, boxes = case.truth, case.predictions, case.meta.get('boxes')
    if (boxes or {}).get('source') == 'annotated' or not np.isfinite(p.bbox).all():
        return
    share = _share_of_found(truth, rows, p, p.bbox)
    if share >= MIN_FIT:
        return
    others = _readings(p.bbox, size[truth.annotations.rows_of(p.image)])
    others |= _resized(truth, rows, p.bbox)
    shares = {name: _share_of_found(truth, rows, p, b) for name, b in others.items()}
    best = max(shares, key=shares.__getitem__)
    better = f', and {100 * shares[best]:.0f} % read as {best}'
    yield (
        f"the boxes of '{(boxes or {}).get('source', 'the predictions')}' are those of "
        f'{100 * share:.0f} % of the persons (IoU {SAME_BOX} with the annotated box)'
        f'{better if shares[best] > share + BETTER else ""}'
    )


def _readings(boxes: np.ndarray, size: np.ndarray) -> dict[str, np.ndarray]:
    """Return the boxes (N, 4) xywh that the numbers would be in other formats.

    Args:
        boxes: (N, 4).
        size: (N, 2) width and height of the images.
    """
    start, rest = boxes[:, :2], boxes[:, 2:]
    return {
        'two corners (x0, y0, x1, y1)': np.hstack([start, rest - start]),
        'center and size': np.hstack([start - rest / 2, rest]),
        "shares of the image's size": boxes * np.tile(size, 2),
    }


def _fit_of_annotated(truth: GroundTruth, rows: np.ndarray, boxes: np.ndarray) -> float:
    """Return how well boxes fit their persons: 1 if they hold all keypoints, inside the image.

    Args:
        truth: annotated persons.
        rows: (N,) rows of the annotations.
        boxes: (N, 4) xywh.
    """
    a = truth.annotations
    place = a.rows_of(a.image[rows])
    size = np.stack([a.width, a.height], 1)[place]
    points, labelled = truth.keypoints[rows, :, :2], truth.keypoints[rows, :, 2] > 0
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    held = ((points >= low - 1) & (points <= high + 1)).all(2) & labelled
    clipped = np.minimum(high[:, 0], size) - np.maximum(low[:, 0], 0)
    area = boxes[:, 2:].clip(0).prod(1)
    inside = clipped.clip(0).prod(1) / np.maximum(area, 1e-9)
    return float((held.sum(1) / np.maximum(labelled.sum(1), 1) * inside * (area > 0)).mean())


def _share_of_found(
    truth: GroundTruth, rows: np.ndarray, predictions: Predictions, boxes: np.ndarray
) -> float:
    """Return the share of persons whose annotated box is among the boxes of the predictions.

    Args:
        truth: annotated persons.
        rows: rows of the annotations.
        predictions: P predictions.
        boxes: (P, 4) xywh, of the predictions.
    """
    a = truth.annotations
    of_image = group(np.arange(len(predictions)), predictions.image, predictions.category)
    none = np.empty(0, np.intp)
    keys = zip(a.image[rows].tolist(), a.category_id[rows].tolist(), strict=True)
    overlaps = (
        _iou(a.bbox[row], boxes[of_image.get(key, none)]).max(initial=0)
        for row, key in zip(rows, keys, strict=True)
    )
    return float(np.mean([overlap >= SAME_BOX for overlap in overlaps]))


def _resized(truth: GroundTruth, rows: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
    """Return the boxes as of images of the annotated size, if their typical side differs."""
    ours, theirs = (np.median(np.sqrt(b[:, 2:].clip(1e-9).prod(1))) for b in
                    (truth.annotations.bbox[rows], boxes))  # fmt: skip
    ratio = theirs / ours
    if 1 / RESIZED < ratio < RESIZED:
        return {}
    return {f'of images {ratio:.2f} times as large': boxes / ratio}


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the (D,) IoU of a box with (D, 4) others, xywh."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = (high - low).clip(0).prod(1)
    either = box[2:].prod() + boxes[:, 2:].clip(0).prod(1) - shared
    return shared / np.maximum(either, 1e-9)
