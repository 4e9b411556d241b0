"""COCO's keypoint figures by faster-coco-eval, from arrays.

The evaluator works on COCO's dictionaries. They are made here from arrays, only of what it looks
at: the annotations once, and of the predictions the 20 best an image and category, since it drops
the others before it compares. Ground truth counts as in xtcocotools, which MMPose calls: labelled
keypoints are counted, not read from `num_keypoints`, ids are made to start at 1 (0 would mean "no
match"), and predictions without a keypoint of score above 0 are left out.

Legend: T OKS thresholds, R recalls, C categories, A ranges of area, D and G predictions and persons
of an image, K keypoints.
"""

import logging
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmengine.logging import print_log

from ..coco.annotations import Annotations
from ..coco.checks import finite, repeated
from ..errors import ConfigError, DataError
from .predictions import Predictions, rows_of_numbers

IOU_TYPES = ('keypoints', 'keypoints_crowd')
MAX_DETS = 20  # predictions an image that COCO's keypoint figures look at
BOX_TO_PERSON_AREA = 0.53  # xtcocotools' share of a box that a person covers
NAMES = {
    'keypoints': ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)',
                  'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)'),
    'keypoints_crowd': ('AP', 'AP .5', 'AP .75', 'AR', 'AR .5', 'AR .75',
                        'AP(E)', 'AP(M)', 'AP(H)'),
}  # fmt: skip
CROWDED = (0.2, 0.8)  # CrowdPose: crowd index below which an image is easy, medium


@dataclass(frozen=True, eq=False)
class Truth:
    """Annotated persons as they count.

    Attributes:
        gt: the evaluator's data set; ids are row numbers + 1. rows: (G,) of the annotations.
        area: (N,) of each annotated person. ignored: (N,) persons that count neither way (crowds,
            no labelled keypoints). unusable: how many annotations cannot be evaluated at all.
        annotations: the file's arrays. keypoints: (N, K, 3), converted if asked for.
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
        figures: name -> value, -1 where there is nothing to measure.
        precision: (T, R, C, A), recall: (T, C, A); A is all, medium, large.
        thresholds: (T,), recalls: (R,).
        oks: (image, category) -> (D, G); persons in the order of `Truth.rows` of the image.
        shown: numbers of the predictions compared, the `MAX_DETS` best an image and category.
    """

    figures: dict[str, float]
    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    recalls: np.ndarray
    oks: dict[tuple[int, int], np.ndarray]
    shown: np.ndarray


def truth(
    annotations: Annotations,
    iou_type: str = 'keypoints',
    use_area: bool = True,
    mapping: tuple[int, np.ndarray, np.ndarray] | None = None,
) -> Truth:
    """Prepare annotations for any number of evaluations.

    Args:
        annotations: the file's arrays. iou_type: one of `IOU_TYPES`.
        use_area: take the annotated area; if False, 0.53 times the box's.
        mapping: number of keypoints, sources and targets, to convert the keypoints.

    Raises:
        DataError: the annotations lack what the evaluation needs.
    """
    a = annotations
    if not a.annotated:
        raise DataError(
            f"'{a.path}' holds no annotations to evaluate against (a test set's file?); use "
            'format_only=True and outfile_prefix to write predictions'
        )
    keypoints = a.keypoints if mapping is None else converted(a.keypoints, *mapping)
    labelled = (keypoints[..., 2] > 0).sum(1)
    if iou_type == 'keypoints_crowd':
        labelled = a.num_keypoints  # CrowdPose counts visible keypoints only
        if (labelled < 0).any() or np.isnan(a.crowd_index).any():
            raise DataError(
                f"'{a.path}' lacks num_keypoints of its annotations or crowdIndex of its images, "
                "which iou_type='keypoints_crowd' needs"
            )
    area = a.area if use_area else a.bbox[:, 2] * a.bbox[:, 3] * BOX_TO_PERSON_AREA
    _warn_of_repeated_ids(a)
    usable = finite(keypoints) & finite(a.bbox) & (a.rows_of(a.image) >= 0)
    if use_area and np.isnan(area[usable]).any():
        first = a.id[usable][np.isnan(area[usable])][0]
        raise DataError(
            f"annotation {first} in '{a.path}' has no area; set use_area=False of CocoMetric to "
            "take a share of the box's"
        )
    ignored = a.iscrowd | (labelled == 0)
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
    return Truth(gt, rows, area, ignored, len(a.id) - len(rows), a, keypoints)


def evaluate(
    known: Truth,
    predictions: Predictions,
    scores: np.ndarray,
    sigmas: np.ndarray,
    iou_type: str = 'keypoints',
) -> Evaluation:
    """COCO's (CrowdPose's) figures.

    Args:
        known: what `truth` gave, for the same `iou_type`. predictions: sorted by image.
        scores: (P,). sigmas: (K,).

    Raises:
        ConfigError: the number of keypoints or sigmas differs.
        DataError: an image is not annotated.
    """
    _check(known, predictions, sigmas)
    shown = _best(predictions, scores)
    dt = _coco(
        list(known.gt.imgs), known.annotations.category_id, _entries(predictions, scores, shown)
    )
    evaluator = COCOeval_faster(
        known.gt, dt, iou_type, kpt_oks_sigmas=np.asarray(sigmas), print_function=_silent
    )
    evaluator.evaluate()
    evaluator.accumulate()
    precision, recall = (np.array(evaluator.eval[key])[..., 0] for key in ('precision', 'recall'))
    oks = {key: value for key, value in evaluator.ious.items() if len(value)}
    figures = _figures(precision, recall, evaluator.params.iouThrs)
    if iou_type == 'keypoints_crowd':
        figures = [*figures[:3], *figures[5:8], *_by_crowding(evaluator, known.annotations)]
    return Evaluation(
        figures=dict(zip(NAMES[iou_type], figures, strict=True)),
        precision=precision,
        recall=recall,
        thresholds=np.array(evaluator.params.iouThrs),
        recalls=np.array(evaluator.params.recThrs),
        oks=oks,
        shown=shown,
    )


def converted(
    keypoints: np.ndarray, count: int, sources: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Keypoints of another definition: (P, K, ...) -> (P, count, ...), zeros where none is mapped.

    Args:
        keypoints: (P, K, ...). count: keypoints of the other definition.
        sources, targets: (M,) numbers of the same keypoints here and there.
    """
    result = np.zeros((len(keypoints), count, *keypoints.shape[2:]), keypoints.dtype)
    result[:, targets] = keypoints[:, sources]
    return result


def _warn_of_repeated_ids(a: Annotations) -> None:
    """pycocotools counts the last annotation of such an id in place of each of them."""
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
    """The evaluator's messages repeat what the report says."""


def _coco(image_ids: list[int], categories: np.ndarray, entries: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=image) for image in image_ids],
        categories=[dict(id=category) for category in np.unique(categories).tolist()],
        annotations=entries,
    )
    coco.createIndex()
    return coco


def _check(known: Truth, predictions: Predictions, sigmas: np.ndarray) -> None:
    a = known.annotations
    count = known.keypoints.shape[1]
    if len(known.rows) and (len(sigmas) != count or predictions.keypoints.shape[1] != count):
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
    """Numbers of the `MAX_DETS` best an image and category, ascending; ties by number."""
    usable = np.flatnonzero((predictions.keypoint_scores > 0).any(1))
    image, category = predictions.image[usable], predictions.category[usable]
    order = np.lexsort((-scores[usable], category, image))
    image, category = image[order], category[order]
    new = (np.diff(image, prepend=-1) != 0) | (np.diff(category, prepend=-1) != 0)
    start = np.flatnonzero(new)
    rank = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    return np.sort(usable[order[rank < MAX_DETS]])


def _entries(predictions: Predictions, scores: np.ndarray, shown: np.ndarray) -> list[dict]:
    p = predictions[shown]
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
                scores[shown].tolist(),
                p.area().tolist(),
                strict=True,
            )
        )
    ]


def _figures(precision: np.ndarray, recall: np.ndarray, thresholds: np.ndarray) -> list[float]:
    """AP, AP50, AP75, AP (M), AP (L), then AR likewise."""
    at = [slice(None), np.isclose(thresholds, 0.5), np.isclose(thresholds, 0.75)]
    ap = [_mean(precision[t, ..., 0]) for t in at] + [_mean(precision[..., a]) for a in (1, 2)]
    ar = [_mean(recall[t, ..., 0]) for t in at] + [_mean(recall[..., a]) for a in (1, 2)]
    return ap + ar


def _mean(values: np.ndarray) -> float:
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0


def _by_crowding(evaluator: COCOeval_faster, a: Annotations) -> list[float]:
    """AP of the easy, medium and hard images, to four digits, as xtcocotools gives it."""
    easy, medium = (a.crowd_index < limit for limit in CROWDED)
    values = []
    for part in (easy, ~easy & medium, ~medium):
        evaluator.params.imgIds = a.image_id[part].tolist()
        evaluator.evaluate()
        evaluator.accumulate()
        values.append(round(float(np.mean(evaluator.eval['precision'][:, :, :, 0, :])), 4))
    return values
