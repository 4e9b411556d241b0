"""Object keypoint similarity among predictions, and the suppression built on it.

    OKS(a, b) = mean over k of exp(-d_k^2 / (2 (2 sigma_k)^2 area))

(https://cocodataset.org/#keypoints-eval). Legend: N predictions of one image, K keypoints.
"""

import numpy as np

MAX_SOFT = 20  # predictions an image that soft suppression keeps, as in MMPose


def pairwise(keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """OKS of every prediction with every other; the area is the mean of the two.

    Args:
        keypoints: (N, K, 2) pixels. areas: (N,) square pixels. sigmas: (K,).

    Returns:
        (N, N), symmetric, in the type of `keypoints`, of whole numbers in a floating one.
    """
    type_ = np.result_type(keypoints, np.float32)
    keypoints, areas = keypoints.astype(type_), areas.astype(type_)
    mean_area = (areas[:, None] + areas) / 2 + np.spacing(1).astype(type_)
    total = np.zeros_like(mean_area)
    for (x, y), sigma in zip(keypoints.transpose(1, 2, 0), sigmas.astype(type_), strict=True):
        distance = np.square(x[:, None] - x) + np.square(y[:, None] - y)
        total += np.exp(-distance / np.square(2 * sigma) / mean_area / 2)
    return total / len(sigmas)


def hard_nms(similarity: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """The best, then the best of those at most `threshold` similar to all before, and so on.

    Args:
        similarity: (N, N). scores: (N,).

    Returns:
        Numbers of the predictions kept, best first (of equal ones the last, as in MMPose).
    """
    alive = np.ones(len(scores), bool)
    kept = []
    for i in scores.argsort()[::-1]:
        if alive[i]:
            kept.append(i)
            alive &= similarity[i] <= threshold
    return np.array(kept, np.intp)


def soft_nms(similarity: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """At most 20; a prediction's rank falls with its similarity to those kept, its score does not.

    That the rescored values order the predictions but are not handed on is MMPose's way (and
    HRNet's before it).

    Args:
        similarity: (N, N). scores: (N,).

    Returns:
        Numbers of the predictions kept, in the order in which they were chosen.
    """
    order = scores.argsort()[::-1]
    scores = scores[order]
    kept = []
    while len(order) and len(kept) < MAX_SOFT:
        first, order = order[0], order[1:]
        kept.append(first)
        scores = scores[1:] * np.exp(-np.square(similarity[first, order]) / threshold)
        again = scores.argsort()[::-1]
        order, scores = order[again], scores[again]
    return np.array(kept, np.intp)
