"""COCO's keypoint metrics, computed by faster-coco-eval from arrays.

The evaluator takes COCO's dictionaries. This module builds them from arrays, with the necessary
entries only: the annotations once, and the 20 best predictions of each image and category, because
the evaluator drops all others. The rules are those of xtcocotools, which MMPose uses: labelled
keypoints are counted instead of read from `num_keypoints`, ids start at 1 (0 would mean "no
match"), and predictions whose keypoint scores are all 0 are skipped.

Legend: T OKS thresholds, R recalls, C categories, A ranges of area, D predictions and G persons of
an image, K keypoints.
"""

import logging
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmengine.logging import print_log

from ..coco.annotations import Annotations
from ..coco.checks import finite, repeated
from ..coco.persons import BOX_TO_PERSON_AREA
from ..errors import ConfigError, DataError
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
class GroundTruth:
    """Annotated persons, prepared for evaluation.

    Attributes:
        gt: data set of the evaluator; ids are row numbers + 1.
        rows: (G,) rows of the evaluated annotations.
        area: (N,) square pixels.
        ignored: (N,) mask of persons excluded from precision and recall (crowds, no labelled
            keypoints).
        unusable: number of annotations that cannot be evaluated.
        annotations: arrays of the file.
        keypoints: (N, K, 3) x, y, visibility, converted by the mapping if there is one.
    """

    gt: COCO
    rows: np.ndarray
    area: np.ndarray
    ignored: np.ndarray
    unusable: int
    annotations: Annotations
    keypoints: np.ndarray


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
    """

    metrics: dict[str, float]
    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    recalls: np.ndarray
    oks: dict[tuple[int, int], np.ndarray]
    evaluated: np.ndarray


def prepare_ground_truth(
    annotations: Annotations,
    iou_type: str = 'keypoints',
    use_area: bool = True,
    mapping: tuple[int, np.ndarray, np.ndarray] | None = None,
) -> GroundTruth:
    """Prepare annotations for any number of evaluations.

    Args:
        annotations: arrays of the file.
        iou_type: one of `IOU_TYPES`.
        use_area: use the annotated area instead of 0.53 times the area of the box.
        mapping: arguments of `convert_keypoints` after the first.

    Raises:
        DataError: the annotations lack what the evaluation needs.
    """
    a = annotations
    if not a.annotated:
        raise DataError(
            f"'{a.path}' holds no annotations to evaluate against (a test set's file?); use "
            'format_only=True and outfile_prefix to write predictions'
        )
    keypoints = a.keypoints if mapping is None else convert_keypoints(a.keypoints, *mapping)
    labelled = _labelled(a, keypoints, iou_type)
    area = a.area if use_area else a.bbox[:, 2] * a.bbox[:, 3] * BOX_TO_PERSON_AREA
    _warn_about_repeated_ids(a)
    usable = finite(keypoints) & finite(a.bbox) & (a.rows_of(a.image) >= 0)
    if use_area and np.isnan(area[usable]).any():
        first = a.id[usable][np.isnan(area[usable])][0]
        raise DataError(
            f"annotation {first} in '{a.path}' has no area; set use_area=False of CocoMetric to "
            "take a share of the box's"
        )
    ignored = a.iscrowd | ~labelled
    rows = np.flatnonzero(usable)
    entries = [
        dict(id=id_, image_id=image, category_id=category, bbox=box, area=size,
             keypoints=points, num_keypoints=int(not skip), iscrowd=int(crowd))
        for id_, image, category, box, size, points, skip, crowd in zip(
            (rows + 1).tolist(), a.image[rows].tolist(), a.category_id[rows].tolist(),
            a.bbox[rows].tolist(), area[rows].tolist(),
            rows_of_numbers(keypoints[rows]),
            ignored[rows].tolist(), a.iscrowd[rows].tolist(), strict=True,
        )
    ]  # fmt: skip
    gt = _coco(np.unique(a.image_id).tolist(), a.category_id, entries)
    return GroundTruth(gt, rows, area, ignored, len(a.id) - len(rows), a, keypoints)


def _labelled(a: Annotations, keypoints: np.ndarray, iou_type: str) -> np.ndarray:
    """Return the (N,) mask of persons with labelled (CrowdPose: visible) keypoints."""
    if iou_type != 'keypoints_crowd':
        return (keypoints[..., 2] > 0).any(1)
    if (a.num_keypoints < 0).any() or np.isnan(a.crowd_index).any():
        raise DataError(
            f"'{a.path}' lacks num_keypoints of its annotations or crowdIndex of its images, "
            "which iou_type='keypoints_crowd' needs"
        )
    return a.num_keypoints != 0


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
    dt = _coco(list(ground_truth.gt.imgs), a.category_id, entries)
    evaluator = COCOeval_faster(
        ground_truth.gt, dt, iou_type, kpt_oks_sigmas=np.asarray(sigmas), print_function=_silent
    )
    evaluator.evaluate()
    evaluator.accumulate()
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
        oks={key: value for key, value in evaluator.ious.items() if len(value)},
        evaluated=evaluated,
    )


def convert_keypoints(
    keypoints: np.ndarray, count: int, sources: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Convert keypoints to another definition; unmapped keypoints are zeros.

    Args:
        keypoints: (P, K, ...).
        count: number of keypoints of the other definition.
        sources: (M,) indices in this definition.
        targets: (M,) indices of the same keypoints in the other definition.

    Returns:
        (P, count, ...).
    """
    result = np.zeros((len(keypoints), count, *keypoints.shape[2:]), keypoints.dtype)
    result[:, targets] = keypoints[:, sources]
    return result


def _warn_about_repeated_ids(a: Annotations) -> None:
    again = repeated(a.id)
    if again.any():
        print_log(
            f"{again.sum()} annotations of '{a.path}' have the id of an earlier one (the first is "
            f'{a.id[again][0]}): each counts as a person, while pycocotools would count the last '
            'one of an id several times',
            'current',
            level=logging.WARNING,
        )


def _silent(*_) -> None:
    """Discard the evaluator's messages, which the report repeats."""


def _coco(image_ids: list[int], categories: np.ndarray, entries: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=image) for image in image_ids],
        categories=[dict(id=category) for category in np.unique(categories).tolist()],
        annotations=entries,
    )
    coco.createIndex()
    return coco


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
    """Return AP of the easy, medium and hard images, rounded to four digits as in xtcocotools."""
    easy, medium = (a.crowd_index < limit for limit in CROWDED)
    values = []
    for part in (easy, ~easy & medium, ~medium):
        evaluator.params.imgIds = a.image_id[part].tolist()
        evaluator.evaluate()
        evaluator.accumulate()
        values.append(round(float(np.mean(evaluator.eval['precision'][:, :, :, 0, :])), 4))
    return values
