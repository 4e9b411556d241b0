"""COCO's keypoint metrics, computed by faster-coco-eval from arrays.

The evaluator takes COCO's dictionaries. This module builds them from arrays, with the necessary
entries only: the annotations once, and the 20 best predictions of each image and category, because
the evaluator drops all others. The rules are those of xtcocotools, which MMPose uses: labelled
keypoints are counted instead of read from `num_keypoints`, ids start at 1 (0 would mean "no
match"), and predictions whose keypoint scores are all 0 are skipped.

Legend: T OKS thresholds, R recalls, C categories, A ranges of area, D predictions and G persons of
an image, K keypoints.
"""

from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCOeval_faster

from ..coco.annotations import Annotations
from ..errors import ConfigError, DataError
from .ground_truth import GroundTruth, coco_of
from .predictions import Predictions, rows_of_numbers

IOU_TYPES = ('keypoints', 'keypoints_crowd')
MAX_DETS = 20  # predictions of an image that COCO's keypoint metrics evaluate
NAMES = {
    'keypoints': ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)',
                  'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)'),
    'keypoints_crowd': ('AP', 'AP .5', 'AP .75', 'AR', 'AR .5', 'AR .75',
                        'AP(E)', 'AP(M)', 'AP(H)'),
}  # fmt: skip
CROWDED = (0.2, 0.8)  # CrowdPose: crowd index below which an image is easy, medium


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Precision and recall of one evaluation.

    Attributes:
        metrics: value by name, -1 if undefined.
        precision: (T, R, C, A); A is all, medium, large.
        recall: (T, C, A).
        thresholds: (T,) OKS.
        recalls: (R,).
        oks: (D, G) by (image, category); persons in the order of `GroundTruth.rows`.
        evaluated: indices of the evaluated predictions, the `MAX_DETS` best of each image and
            category.
        iou_type: one of `IOU_TYPES`.
    """

    metrics: dict[str, float]
    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    recalls: np.ndarray
    oks: dict[tuple[int, int], np.ndarray]
    evaluated: np.ndarray
    iou_type: str


def evaluate(
    ground_truth: GroundTruth,
    predictions: Predictions,
    scores: np.ndarray,
    sigmas: np.ndarray,
    iou_type: str = 'keypoints',
) -> Evaluation:
    """Compute COCO's or CrowdPose's metrics.

    Args:
        ground_truth: from `prepare_ground_truth`, for the same `iou_type`.
        predictions: sorted by image.
        scores: (P,).
        sigmas: (K,) of OKS.
        iou_type: one of `IOU_TYPES`.

    Raises:
        ConfigError: the number of keypoints or sigmas differs.
        DataError: an image is not annotated.
    """
    _check(ground_truth, predictions, sigmas)
    a, evaluated = ground_truth.annotations, _best(predictions, scores)
    entries = _entries(predictions, scores, evaluated)
    dt = coco_of(list(ground_truth.gt.imgs), a.category_id, entries)
    evaluator = COCOeval_faster(
        ground_truth.gt, dt, iou_type, kpt_oks_sigmas=np.asarray(sigmas), print_function=_silent
    )
    evaluator.evaluate()
    evaluator.accumulate()
    oks = {key: value for key, value in evaluator.ious.items() if len(value)}
    precision, recall = (np.array(evaluator.eval[key])[..., 0] for key in ('precision', 'recall'))
    metrics = _coco_metrics(precision, recall, evaluator.params.iouThrs)
    if iou_type == 'keypoints_crowd':
        metrics = [*metrics[:3], *metrics[5:8], *_ap_by_crowd_index(evaluator, a)]
    return Evaluation(
        metrics=dict(zip(NAMES[iou_type], metrics, strict=True)),
        precision=precision,
        recall=recall,
        thresholds=np.array(evaluator.params.iouThrs),
        recalls=np.array(evaluator.params.recThrs),
        oks=oks,
        evaluated=evaluated,
        iou_type=iou_type,
    )


def _silent(*_) -> None:
    """Discard the evaluator's messages, which the report repeats."""


def _check(ground_truth: GroundTruth, predictions: Predictions, sigmas: np.ndarray) -> None:
    a, count = ground_truth.annotations, ground_truth.keypoints.shape[1]
    if len(ground_truth.rows) and (len(sigmas) != count or predictions.keypoints.shape[1] != count):
        raise ConfigError(
            f"'{a.path}' has persons of {count} keypoints, the predictions have "
            f'{predictions.keypoints.shape[1]} and there are {len(sigmas)} sigmas'
        )
    unknown = predictions.image[a.rows_of(predictions.image) < 0]
    if len(unknown):
        raise DataError(
            f"predictions for image {unknown[0]}, which '{a.path}' does not list: is ann_file of "
            'the evaluator that of the data set?'
        )


def _best(predictions: Predictions, scores: np.ndarray) -> np.ndarray:
    """Return the indices of the `MAX_DETS` best of each image and category, ascending."""
    usable = np.flatnonzero((predictions.keypoint_scores > 0).any(1))
    image, category = predictions.image[usable], predictions.category[usable]
    order = np.lexsort((-scores[usable], category, image))
    image, category = image[order], category[order]
    new = (np.diff(image, prepend=-1) != 0) | (np.diff(category, prepend=-1) != 0)
    start = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return np.sort(usable[order[rank < MAX_DETS]])


def _entries(predictions: Predictions, scores: np.ndarray, indices: np.ndarray) -> list[dict]:
    p = predictions[indices]
    keypoints = np.concatenate([p.keypoints, p.keypoint_scores[..., None]], 2)
    return [
        dict(
            id=number + 1, image_id=image, category_id=category, keypoints=k, score=score, area=area
        )
        for number, (image, category, k, score, area) in enumerate(
            zip(
                p.image.tolist(),
                p.category.tolist(),
                rows_of_numbers(keypoints),
                scores[indices].tolist(),
                p.area().tolist(),
                strict=True,
            )
        )
    ]


def _coco_metrics(precision: np.ndarray, recall: np.ndarray, thresholds: np.ndarray) -> list[float]:
    """Return AP, AP50, AP75, AP (M), AP (L), then AR likewise."""
    at = [slice(None), np.isclose(thresholds, 0.5), np.isclose(thresholds, 0.75)]
    ap = [_mean(precision[t, ..., 0]) for t in at] + [_mean(precision[..., a]) for a in (1, 2)]
    ar = [_mean(recall[t, ..., 0]) for t in at] + [_mean(recall[..., a]) for a in (1, 2)]
    return ap + ar


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _ap_by_crowd_index(evaluator: COCOeval_faster, a: Annotations) -> list[float]:
    """Return AP of the easy, medium and hard images, rounded to four digits as in xtcocotools.

    This replaces the OKS and the results that the evaluator holds.
    """
    easy, medium = (a.crowd_index < limit for limit in CROWDED)
    values = []
    for part in (easy, ~easy & medium, ~medium):
        evaluator.params.imgIds = a.image_id[part].tolist()
        evaluator.evaluate()
        evaluator.accumulate()
        values.append(round(float(np.mean(evaluator.eval['precision'][:, :, :, 0, :])), 4))
    return values
