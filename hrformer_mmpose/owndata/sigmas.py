"""Sigmas of OKS: how far apart two careful annotators place a keypoint, relative to the person.

From a second annotator's file where there is one, else COCO's for keypoints of COCO's names, else
a default.

Legend: P pairs of annotations of the same person, K keypoints.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..imaging import sides
from .repair import KeypointSet

# COCO's, the same for left and right; for the feet those of COCO-WholeBody's left foot.
PUBLISHED = dict(
    nose=0.026, eye=0.025, ear=0.035, shoulder=0.079, elbow=0.072, wrist=0.062, hip=0.107,
    knee=0.087, ankle=0.089, big_toe=0.068, small_toe=0.066, heel=0.066,
)  # fmt: skip
DEFAULT = 0.072
DEFAULT_REASON = "the median of COCO's 17"
MIN_PAIRS = 10  # fewer do not tell a sigma to better than about a third
SMALLEST = 0.005  # half a pixel on a person of 100 pixels
MIN_IOU = 0.5  # of two boxes of the same person


def choose(
    names: Sequence[str], first: KeypointSet, second: KeypointSet | None
) -> tuple[list[float], list[str]]:
    """Return K sigmas, and lines that tell where they are from.

    Args:
        names: K names.
        first: the annotations.
        second: another annotator's, of some of the same images.

    Raises:
        DataError: the two sets share no persons, or are the same.
    """
    estimated = estimate(first, second) if second is not None else [None] * len(names)
    sigmas, origins = [], defaultdict(list)
    for name, value in zip(names, estimated, strict=True):
        published = PUBLISHED.get(sides.part(name))
        if value is not None:
            origin = 'estimated from the second annotations'
        elif published is not None:
            origin, value = "COCO's, by name", published
        else:
            origin, value = f'{DEFAULT}, {DEFAULT_REASON}: no measurement', DEFAULT
        sigmas.append(round(value, 4))
        origins[origin].append(name)
    return sigmas, [f'{origin}: {", ".join(members)}' for origin, members in origins.items()]


def estimate(first: KeypointSet, second: KeypointSet) -> list[float | None]:
    """Estimate COCO's sigmas from persons that were annotated twice.

    COCO: sigma^2 = E[d^2 / s^2], where d is the distance of an annotation from the true place and
    s^2 the person's area. The distance between two annotations has twice that expectation. For
    normal errors d^2 is exponential, so that its mean is its median / ln 2, which exchanged left
    and right do not move.

    Returns:
        K sigmas, None for keypoints with fewer than `MIN_PAIRS` pairs.
    """
    a, b, area = _pairs(first, second)  # (P, K, 3), (P, K, 3), (P,)
    both = (a[..., 2] > 0) & (b[..., 2] > 0)
    squared = ((a - b)[..., :2] ** 2).sum(-1) / area[:, None]  # (P, K)
    if not squared[both].any():
        raise DataError('--second holds the same annotations, not those of a second annotator')
    sigmas: list[float | None] = []
    for values, used in zip(squared.T, both.T, strict=True):
        variance = float(np.median(values[used])) / math.log(2) / 2 if used.any() else 0.0
        enough = used.sum() >= MIN_PAIRS
        sigmas.append(max(SMALLEST, math.sqrt(variance)) if enough else None)
    return sigmas


def _pairs(first: KeypointSet, second: KeypointSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the persons of both by image and box, best overlap first."""
    others = _by_image(second)
    pairs = []
    for image, persons in _by_image(first).items():
        candidates = [
            (_iou(p['bbox'], q['bbox']), i, j)
            for i, p in enumerate(persons)
            for j, q in enumerate(others.get(image, []))
        ]
        used: set = set()
        for overlap, i, j in sorted(candidates, reverse=True):
            if overlap >= MIN_IOU and not {('a', i), ('b', j)} & used:
                used |= {('a', i), ('b', j)}
                pairs.append((persons[i], others[image][j]))
    if not pairs:
        raise DataError('--second: none of its persons is a person of the first annotations')
    a, b = (
        np.array([person['keypoints'] for person in side]).reshape(len(pairs), -1, 3)
        for side in zip(*pairs, strict=True)
    )
    return a, b, np.array([person['area'] for person, _ in pairs])


def _by_image(labels: KeypointSet) -> dict[str, list[dict]]:
    names = {image['id']: image['file_name'] for image in labels.images}
    persons = defaultdict(list)
    for person in labels.persons():
        persons[names[person['image_id']]].append(person)
    return persons


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the intersection over union of two boxes xywh."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(aw * ah + bw * bh - shared, 1e-9)
