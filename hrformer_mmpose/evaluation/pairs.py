"""Persons with their nearest prediction, whatever the order of its keypoints.

OKS matches persons and predictions only if sigmas, areas and the order of the keypoints are right.
The distances here need none of these, so that they can show which of them is wrong.

Legend: M pairs, N annotations, K keypoints, D predictions of an image.
"""

from dataclasses import dataclass

import numpy as np

from .error_analysis import group
from .ground_truth import GroundTruth, box_area
from .predictions import Predictions

MAX_COST = 0.25  # mean distance of a pair's keypoints, in sizes of the person
MAX_DISTANCES = 20_000_000  # of all pairs; more persons are sampled


@dataclass(frozen=True, eq=False)
class Pairs:
    """Persons that are not ignored, each with its nearest prediction.

    Attributes:
        row: (M,) rows of the annotations.
        prediction: (M,) indices.
        labelled: (M, K) mask of the annotated keypoints.
        distance: (M, K, K) from predicted to annotated keypoints, in sizes of the person (root of
            its area), float32.
        separation: (M, K, K) between annotated keypoints, likewise.
        spread: (M, K, K) between predicted keypoints, likewise.
    """

    row: np.ndarray
    prediction: np.ndarray
    labelled: np.ndarray
    distance: np.ndarray
    separation: np.ndarray
    spread: np.ndarray

    def __len__(self) -> int:
        return len(self.row)


def nearest(truth: GroundTruth, predictions: Predictions, evaluated: np.ndarray) -> Pairs:
    """Find the nearest prediction of each person that counts and has a size.

    Args:
        truth: annotated persons.
        predictions: P predictions.
        evaluated: indices of the predictions that may be chosen.
    """
    a, size = truth.annotations, _sizes(truth)
    rows = truth.rows[~truth.ignored[truth.rows] & (size[truth.rows] > 0)]
    limit = max(1, MAX_DISTANCES // truth.keypoints.shape[1] ** 2)
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(0).choice(rows, limit, replace=False))
    of_image = group(evaluated, predictions.image, predictions.category)
    chosen = []
    for row in rows:
        candidates = of_image.get((int(a.image[row]), int(a.category_id[row])))
        if candidates is not None:
            labelled = truth.keypoints[row, truth.keypoints[row, :, 2] > 0, :2]
            cost = _cost(predictions.keypoints[candidates], labelled) / size[row]
            if cost.min() <= MAX_COST:
                chosen.append((row, candidates[cost.argmin()]))
    row, prediction = np.array(chosen, np.intp).reshape(-1, 2).T
    person, scale = truth.keypoints[row, :, :2], size[row, None, None].astype(np.float32)
    predicted = predictions.keypoints[prediction]
    return Pairs(
        row=row,
        prediction=prediction,
        labelled=truth.keypoints[row, :, 2] > 0,
        distance=_distances(predicted, person) / scale,
        separation=_distances(person, person) / scale,
        spread=_distances(predicted, predicted) / scale,
    )


def _sizes(truth: GroundTruth) -> np.ndarray:
    """Return the (N,) roots of 0.53 of the boxes or, where they have no area, of the areas."""
    area = box_area(truth.annotations)
    return np.sqrt(np.where(area >= 1, area, np.where(truth.area >= 1, truth.area, 0)))


def _cost(predicted: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Return the (D,) mean distances from labelled keypoints to the nearest predicted one."""
    return (
        _distances(predicted, np.broadcast_to(labelled, (len(predicted), *labelled.shape)))
        .min(1)
        .mean(1)
    )


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distances (M, K, L) between (M, K, 2) and (M, L, 2) keypoints, float32."""
    difference = a[:, :, None].astype(np.float32) - b[:, None].astype(np.float32)
    return np.sqrt(np.square(difference).sum(-1))
