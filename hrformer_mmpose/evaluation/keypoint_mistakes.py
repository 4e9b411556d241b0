"""Keypoints that are predicted where another one of the same person is annotated.

Seen are keypoints that are further apart than `APART` of the person's size (root of its area): hips
and wrists of a standing person, not the eyes.

Legend: M pairs of a person and a prediction, K keypoints.
"""

import numpy as np

from .pairs import Pairs

NEAR = 0.1  # sizes of the person
APART = 2 * NEAR
MIN_PERSONS = 5  # with both keypoints, apart
MIN_SHARE, MIN_SHARE_OF_ONE = 0.2, 0.1  # of both keypoints of a pair, and of each
TOGETHER = 0.3  # of the distance of the annotated keypoints
MIN_TOGETHER, USUAL = 0.5, 0.25  # share of persons; of a typical pair in a usable network


def exchanges(pairs: Pairs) -> list[tuple[int, int, float, list[tuple[int, int, int]]]]:
    """Return pairs of keypoints that are often mistaken for each other.

    Returns:
        For each pair, most frequent first: two indices, share of persons on which a keypoint is
        near the other one instead of its own place, and where: entries (m, i, j) say that in pair
        m of persons and predictions, the predicted i is near the annotated j.
    """
    both = _apart(pairs)
    mistaken = both & (pairs.distance <= NEAR)  # so that it is further from its own
    count = both.sum(0)
    share = mistaken.sum(0) / np.maximum(count, 1)
    often = (share + share.T) / 2 >= MIN_SHARE
    often &= (np.minimum(share, share.T) >= MIN_SHARE_OF_ONE) & (count >= MIN_PERSONS)
    listed = []
    for i, j in np.argwhere(np.triu(often)).tolist():
        either = mistaken[:, i, j] | mistaken[:, j, i]
        where = [(m, a, b) for a, b in ((i, j), (j, i)) for m in np.flatnonzero(mistaken[:, a, b])]
        listed.append((i, j, float(either.sum() / count[i, j]), where))
    return sorted(listed, key=lambda entry: -entry[2])


def coinciding(pairs: Pairs) -> list[tuple[int, int, float]]:
    """Return pairs of keypoints that are predicted at the same place, unlike most pairs.

    Each is the other's most frequent partner. In a network that has not learnt anything, all
    keypoints coincide: then none is returned.

    Returns:
        Two indices and the share of persons, for each pair.
    """
    both = _apart(pairs)
    count = both.sum(0)
    share = (both & (pairs.spread < TOGETHER * pairs.separation)).sum(0) / np.maximum(count, 1)
    known = np.triu(count >= MIN_PERSONS, 1)
    if not known.any() or np.median(share[known]) > USUAL:
        return []
    partner = np.where(known | known.T, share, -1).argmax(1)
    return [
        (i, j, float(share[i, j]))
        for i, j in enumerate(partner.tolist())
        if i < j and partner[j] == i and share[i, j] >= MIN_TOGETHER
    ]


def _apart(pairs: Pairs) -> np.ndarray:
    """Return the (M, K, K) mask of labelled keypoints that are not close to each other."""
    return pairs.labelled[:, :, None] & pairs.labelled[:, None] & (pairs.separation > APART)


def better_mirrored(pairs: Pairs, mirror: np.ndarray) -> np.ndarray:
    """Return the (M,) mask of predictions that are nearer to the person with all sides exchanged.

    Args:
        pairs: persons and predictions.
        mirror: (K,) index of the keypoint on the other side of the body.
    """
    own = np.arange(len(mirror))
    as_is, exchanged = (
        np.where(pairs.labelled, np.minimum(pairs.distance[:, predicted, own], 1), 0).sum(1)
        for predicted in (own, mirror)
    )
    return exchanged < as_is


def reorder(pairs: Pairs) -> np.ndarray | None:
    """Return the order of the keypoints in which predictions are near the annotations.

    Returns:
        (K,) index of the annotated keypoint that each predicted one is nearest to on average. None
        if these are not all different, if none is another one, or if pairs are exchanged only.
    """
    K = pairs.labelled.shape[1]
    count = pairs.labelled.sum(0)
    if len(pairs) < MIN_PERSONS or not count.all():
        return None
    distance = np.where(pairs.labelled[:, None], np.minimum(pairs.distance, 1), 0)
    order = (distance.sum(0) / count).argmin(1)
    if len(set(order.tolist())) < K or (order[order] == np.arange(K)).all():
        return None
    return order
