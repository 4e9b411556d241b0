"""Matching of predictions to persons, and classification of keypoint errors.

Predictions are matched to persons as in "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation" (Ronchi and Perona, ICCV 2017): in order of decreasing score, each prediction takes the
remaining person with the highest OKS, at least 0.1. The labelled keypoints of a pair are classified
by the similarity ks = exp(-d^2 / (2 (2 sigma)^2 area)):

    good       ks >= 0.85 to the annotated keypoint
    jitter     0.5 <= ks < 0.85
    inversion  ks < 0.5, but ks >= 0.5 to the mirrored keypoint of the same person
    swap       otherwise, ks >= 0.5 to this or the mirrored keypoint of another person
    miss       otherwise

Legend: M pairs, K keypoints, N annotations.
"""

from collections import defaultdict

import numpy as np

from .evaluator import Evaluation
from .ground_truth import GroundTruth
from .predictions import Predictions

MATCH_OKS = 0.1
GOOD, CLOSE = 0.85, 0.5
KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')


def match(
    truth: GroundTruth,
    predictions: Predictions,
    scores: np.ndarray,
    evaluation: Evaluation,
    threshold: float,
) -> dict[str, np.ndarray]:
    """Match predictions to persons that are not ignored.

    Args:
        truth: annotated persons.
        predictions: P predictions, sorted by image.
        scores: (P,).
        evaluation: of these predictions.
        threshold: minimum OKS of a pair.

    Returns:
        `row` (M,) of the annotations, `prediction` (M,) indices, and `oks` (M,).
    """
    pairs = dict(row=[], prediction=[], oks=[])
    rows_of_image = persons_by_image(truth)
    evaluated = group(evaluation.evaluated, predictions.image, predictions.category)
    for key, oks in evaluation.oks.items():
        rows = rows_of_image[key]
        numbers = evaluated[key][np.argsort(-scores[evaluated[key]], kind='stable')]
        free = ~truth.ignored[rows]
        for number, similarity in zip(numbers, np.asarray(oks), strict=True):
            similarity = np.where(free, similarity, 0)
            best = similarity.argmax()
            if similarity[best] >= threshold:
                free[best] = False
                pairs['row'].append(rows[best])
                pairs['prediction'].append(number)
                pairs['oks'].append(similarity[best])
    types = dict(row=np.intp, prediction=np.intp, oks=np.float64)
    return {name: np.array(values, types[name]) for name, values in pairs.items()}


def persons_by_image(truth: GroundTruth) -> dict[tuple[int, int], np.ndarray]:
    """Return the rows of the evaluated annotations by image and category."""
    return group(truth.rows, truth.annotations.image, truth.annotations.category_id)


def group(
    rows: np.ndarray, image: np.ndarray, category: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """Group `rows` by image and category."""
    groups = defaultdict(list)
    keys = zip(image[rows].tolist(), category[rows].tolist(), strict=True)
    for row, key in zip(rows, keys, strict=True):
        groups[key].append(row)
    return {key: np.array(value) for key, value in groups.items()}


def _similarity(predicted: np.ndarray, annotated: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute ks of keypoints (..., 2); `scale` is 2 (2 sigma)^2 area."""
    return np.exp(-np.square(predicted - annotated).sum(-1) / (scale + np.spacing(1)))


def _classify_errors(
    truth: GroundTruth,
    predictions: Predictions,
    pairs: dict,
    sigmas: np.ndarray,
    mirror: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Classify the keypoints of matched pairs.

    Args:
        truth: annotated persons.
        predictions: P predictions.
        pairs: from `match`.
        sigmas: (K,) of OKS.
        mirror: (K,) index of the keypoint on the other side of the body.

    Returns:
        (M, K) indices in `KINDS`, -1 if not labelled, and (M, K) ks.
    """
    rows = pairs['row']
    person, labelled = truth.keypoints[rows, :, :2], truth.keypoints[rows, :, 2] > 0
    predicted = predictions.keypoints[pairs['prediction']].astype(np.float64)
    scale = 2 * np.square(2 * np.asarray(sigmas, np.float64))
    own = scale * truth.area[rows, None]
    ks = _similarity(predicted, person, own)
    kind = np.select([ks >= GOOD, ks >= CLOSE], [0, 1], 4)
    inverted = (_similarity(predicted, person[:, mirror], own) >= CLOSE) & labelled[:, mirror]
    kind[(kind == 4) & inverted] = 2

    neighbours = persons_by_image(truth)
    for m in np.flatnonzero(((kind == 4) & labelled).any(1)):
        key = truth.annotations.image[rows[m]], truth.annotations.category_id[rows[m]]
        others = neighbours[key]
        others = others[(others != rows[m]) & ~truth.ignored[others]]
        place, visible = truth.keypoints[others, :, :2], truth.keypoints[others, :, 2] > 0
        theirs = scale * truth.area[others, None]
        near = (_similarity(predicted[m], place, theirs) >= CLOSE) & visible
        mirrored = _similarity(predicted[m], place[:, mirror], theirs) >= CLOSE
        near |= mirrored & visible[:, mirror]
        kind[m, (kind[m] == 4) & near.any(0)] = 3
    kind[~labelled] = -1
    return kind, ks


def errors_by_keypoint(
    truth: GroundTruth, predictions: Predictions, pairs: dict, sigmas: np.ndarray, meta: dict
) -> list[dict]:
    """Return the number of labelled pairs, mean ks and share of each kind for each keypoint."""
    count = len(sigmas)
    names = meta.get('keypoint_id2name', {})
    mirror = np.asarray(meta.get('flip_indices', range(count)))
    if len(mirror) != count:  # converted to another definition
        names, mirror = {}, np.arange(count)
    kind, ks = np.empty((0, count), np.intp), np.empty((0, count))
    if len(pairs['row']):  # annotations without keypoints have arrays of another width
        kind, ks = _classify_errors(truth, predictions, pairs, sigmas, mirror)
    rows = []
    for k in range(count):
        labelled = kind[:, k] >= 0
        total = int(labelled.sum())
        shares = [(kind[:, k] == number).sum() / max(total, 1) for number in range(len(KINDS))]
        rows.append(
            dict(
                name=names.get(k, str(k)),
                count=total,
                oks=float(ks[labelled, k].mean()) if total else 0.0,
                **{name: float(share) for name, share in zip(KINDS, shares, strict=True)},
            )
        )
    return rows
