"""Poses of one network compared with those of another, and with annotations.

Shapes: P persons, K keypoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..coco import annotations as annotation_files
from ..coco.persons import BOX_TO_PERSON_AREA
from ..errors import DataError
from ..evaluation import evaluator
from ..evaluation.ground_truth import GroundTruth, prepare_ground_truth
from ..evaluation.predictions import Predictions, apply_nms, rescore
from ..imaging import crops
from ..imaging.poses import KEYPOINT_THRESHOLD
from ..inference.detectors import CocoDetections
from ..inference.estimator import Estimator
from ..inference.networks import Network

NMS_OKS = 0.9  # default of CocoMetric


@dataclass(frozen=True, eq=False)
class PoseTable:
    """Poses of all persons on some images.

    Attributes:
        image: (P,) index of the image.
        keypoints: (P, K, 2) image pixels.
        scores: (P, K).
        boxes: (P, 5) x0, y0, x1, y1, score.
        crop_scale: (P, 2) size of the crops in image pixels.
        input_size: (w, h) of the network.
    """

    image: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    crop_scale: np.ndarray
    input_size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.image)


def predict(network: Network, images: Sequence[str], boxes, batch_size: int = 8) -> PoseTable:
    """Predict the poses on images.

    Args:
        network: maps crops to keypoints.
        images: paths.
        boxes: see `Estimator`.
        batch_size: persons in a batch.

    Raises:
        DataError: the images show no person.
    """
    results = Estimator(network, batch_size, on_error='skip').stream(images, boxes)
    rows = [(number, pose) for number, result in enumerate(results) for pose in result.poses]
    if not rows:
        raise no_persons(images)
    poses = [pose for _, pose in rows]
    table = np.stack([np.append(pose.box, pose.box_score) for pose in poses])
    _, scales = crops.centers_and_scales(table, network.input_size, network.padding)
    return PoseTable(
        image=np.array([number for number, _ in rows]),
        keypoints=np.stack([pose.keypoints for pose in poses]),
        scores=np.stack([pose.scores for pose in poses]),
        boxes=table,
        crop_scale=scales,
        input_size=tuple(network.input_size),
    )


def no_persons(images: Sequence[str]) -> DataError:
    """Return the error of a comparison on images that show no person."""
    return DataError(f'none of the {len(images)} images to compare on has a box of a person')


@dataclass(frozen=True, eq=False)
class Shifts:
    """Difference between the poses of two networks.

    Attributes:
        pixels: (P, K) distances in pixels of the network's input.
        similarity: (P, K) terms of OKS, between 0 and 1; the reference's keypoints are the truth,
            0.53 times the area of the box is the person's area.
        sure: (P, K) mask of keypoints that the reference detects (score above 0.2).
    """

    pixels: np.ndarray
    similarity: np.ndarray
    sure: np.ndarray


def compare(reference: PoseTable, other: PoseTable, sigmas: np.ndarray) -> Shifts:
    """Compare the poses of two networks on the same persons.

    Args:
        reference: poses that count as the truth.
        other: poses of the other network.
        sigmas: (K,) of OKS.

    Raises:
        DataError: some persons have no finite pose, and are missing in one of the tables.
    """
    if len(other) != len(reference):
        raise DataError(
            f'{len(other)} poses of the {len(reference)} persons to compare: the others hold NaN '
            'or infinite numbers'
        )
    difference = (other.keypoints - reference.keypoints).astype(np.float64)
    w, h = reference.input_size
    pixels = difference * (np.array([w, h]) / reference.crop_scale)[:, None]
    x0, y0, x1, y1 = reference.boxes[:, :4].T.astype(np.float64)
    area = np.maximum((x1 - x0) * (y1 - y0) * BOX_TO_PERSON_AREA, 1)
    variance = np.square(2 * np.asarray(sigmas)) * area[:, None]
    similarity = np.exp(-np.square(difference).sum(2) / (2 * variance))
    sure = reference.scores > KEYPOINT_THRESHOLD
    return Shifts(np.linalg.norm(pixels, axis=2), similarity, sure)


class AveragePrecision:
    """COCO's AP on some of the images of an annotation file, with the settings of CocoMetric.

    Args:
        path: annotation file in COCO's keypoint format.
        images: paths of the images, found in the file by name.
        sigmas: (K,) of OKS.

    Raises:
        DataError: the file cannot be used, or lacks one of the images.
    """

    def __init__(self, path: str, images: Sequence[str], sigmas: np.ndarray):
        table = CocoDetections(path)
        table.check_images(images)
        self._ids = np.array([table.image_id(name) for name in images])
        self._sigmas = np.asarray(sigmas)
        self._truth = _truth(annotation_files.read(path), self._ids)

    def __call__(self, poses: PoseTable) -> float:
        """Return AP in points, 0 to 100."""
        predictions = _predictions(poses, self._ids)
        order = np.argsort(predictions.image, kind='stable')
        predictions = predictions[order]
        scores = rescore(predictions, 'bbox_keypoint', KEYPOINT_THRESHOLD)
        selected = apply_nms(predictions, scores, 'oks_nms', NMS_OKS, self._sigmas)
        evaluation = evaluator.evaluate(
            self._truth, predictions[selected], scores[selected], self._sigmas
        )
        return 100 * evaluation.metrics['AP']


def _truth(a: annotation_files.Annotations, ids: np.ndarray) -> GroundTruth:
    """Prepare the annotations of some images; persons of other images are dropped."""
    rows = np.flatnonzero(np.isin(a.image_id, ids))
    names = ('image_id', 'width', 'height', 'file_name', 'crowd_index')
    return prepare_ground_truth(replace(a, **{name: getattr(a, name)[rows] for name in names}))


def _predictions(poses: PoseTable, ids: np.ndarray) -> Predictions:
    corners = poses.boxes[:, :4]
    count = len(poses)
    return Predictions(
        id=np.arange(count),
        image=ids[poses.image],
        category=np.ones(count, np.int64),
        keypoints=poses.keypoints,
        keypoint_scores=poses.scores,
        bbox=np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]),
        bbox_score=poses.boxes[:, 4],
        crop_area=poses.crop_scale.prod(1),
    )
