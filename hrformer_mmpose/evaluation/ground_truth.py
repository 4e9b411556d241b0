"""Annotated persons in the form that COCO's evaluator takes.

Legend: G persons that are evaluated, K keypoints, N annotations.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from faster_coco_eval import COCO
from mmengine.logging import print_log

from ..coco.annotations import Annotations
from ..coco.checks import finite, repeated
from ..coco.persons import BOX_TO_PERSON_AREA
from ..errors import DataError
from .converters import Converter, convert_keypoints
from .predictions import rows_of_numbers


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Annotated persons, prepared for evaluation.

    Attributes:
        gt: data set of the evaluator; ids are row numbers + 1.
        rows: (G,) rows of the evaluated annotations.
        area: (N,) square pixels.
        area_of_box: (N,) mask of areas that are 0.53 times the area of the box.
        ignored: (N,) mask of persons excluded from precision and recall (crowds, no labelled
            keypoints).
        unusable: number of annotations that cannot be evaluated.
        annotations: arrays of the file.
        keypoints: (N, K, 3) x, y, visibility, converted by the mapping if there is one.
    """

    gt: COCO
    rows: np.ndarray
    area: np.ndarray
    area_of_box: np.ndarray
    ignored: np.ndarray
    unusable: int
    annotations: Annotations
    keypoints: np.ndarray


def prepare_ground_truth(
    annotations: Annotations,
    iou_type: str = 'keypoints',
    use_area: bool = True,
    mapping: Converter | None = None,
) -> GroundTruth:
    """Prepare annotations for any number of evaluations.

    Args:
        annotations: arrays of the file.
        iou_type: one of `IOU_TYPES`.
        use_area: use the annotated area instead of 0.53 times the area of the box, which persons
            without an annotated area have in any case.
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
    area_of_box = np.isnan(a.area) | (not use_area)
    area = np.where(area_of_box, box_area(a), a.area)
    _warn_about_repeated_ids(a)
    usable = finite(keypoints) & finite(a.bbox) & (a.rows_of(a.image) >= 0)
    ignored = a.iscrowd | ~labelled
    rows = np.flatnonzero(usable)
    gt = _gt(a, rows, area, ignored, keypoints)
    unusable = len(a.id) - len(rows)
    return GroundTruth(gt, rows, area, area_of_box, ignored, unusable, a, keypoints)


def with_area(truth: GroundTruth, area: np.ndarray) -> GroundTruth:
    """Return the same persons with other areas, (N,) square pixels."""
    gt = _gt(truth.annotations, truth.rows, area, truth.ignored, truth.keypoints)
    return replace(truth, gt=gt, area=area)


def box_area(a: Annotations) -> np.ndarray:
    """Return the (N,) share of the boxes' areas that persons cover on average."""
    return a.bbox[:, 2] * a.bbox[:, 3] * BOX_TO_PERSON_AREA


def _gt(
    a: Annotations, rows: np.ndarray, area: np.ndarray, ignored: np.ndarray, keypoints: np.ndarray
) -> COCO:
    entries = _entries(a, rows, area, ignored, keypoints)
    return coco_of(np.unique(a.image_id).tolist(), a.category_id, entries)


def _entries(
    a: Annotations, rows: np.ndarray, area: np.ndarray, ignored: np.ndarray, keypoints: np.ndarray
) -> list[dict]:
    """Return the evaluator's dictionary of each row."""
    return [
        dict(id=id_, image_id=image, category_id=category, bbox=box, area=size,
             keypoints=points, num_keypoints=int(not skip), iscrowd=int(crowd))
        for id_, image, category, box, size, points, skip, crowd in zip(
            (rows + 1).tolist(), a.image[rows].tolist(), a.category_id[rows].tolist(),
            a.bbox[rows].tolist(), area[rows].tolist(),
            rows_of_numbers(keypoints[rows]),
            ignored[rows].tolist(), a.iscrowd[rows].tolist(), strict=True,
        )
    ]  # fmt: skip


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


def coco_of(image_ids: list[int], categories: np.ndarray, entries: list[dict]) -> COCO:
    """Build a data set of the evaluator from annotations or predictions."""
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=image) for image in image_ids],
        categories=[dict(id=category) for category in np.unique(categories).tolist()],
        annotations=entries,
    )
    coco.createIndex()
    return coco
