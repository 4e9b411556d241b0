"""Object keypoint similarity (OKS) between predictions, and non-maximum suppression by it.

    OKS(a, b) = mean over k of exp(-d_k^2 / (2 (2 sigma_k)^2 area))

(https://cocodataset.org/#keypoints-eval). Legend: N predictions of one image, K keypoints.
"""

import numpy as np

MAX_SOFT = 20  # predictions of an image that soft NMS returns, as in MMPose


def pairwise(keypoints: np.ndarray, areas: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Compute the OKS of all pairs of predictions, with the mean of both areas.

    Args:
        keypoints: (N, K, 2) pixels.
        areas: (N,) square pixels.
        sigmas: (K,).

    Returns:
        (N, N), symmetric, in the floating-point type of `keypoints` (integers are promoted).
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
    """Greedy non-maximum suppression.

    Args:
        similarity: (N, N) OKS.
        scores: (N,).
        threshold: OKS above which the lower score is suppressed.

    Returns:
        Indices of the selected predictions, best first (the last of equal ones, as in MMPose).
    """
    remaining = np.ones(len(scores), bool)
    selected = []
    for i in scores.argsort()[::-1]:
        if remaining[i]:
            selected.append(i)
            remaining &= similarity[i] <= threshold
    return np.array(selected, np.intp)


def soft_nms(similarity: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Soft non-maximum suppression: select at most 20 predictions by decayed scores.

    The decayed scores determine the order only and are not returned, as in MMPose and HRNet.

    Args:
        similarity: (N, N) OKS.
        scores: (N,).
        threshold: divisor of the squared OKS in the decay.

    Returns:
        Indices of the selected predictions, in the order of selection.
    """
    order = scores.argsort()[::-1]
    scores = scores[order]
    selected = []
    while len(order) and len(selected) < MAX_SOFT:
        first, order = order[0], order[1:]
        selected.append(first)
        scores = scores[1:] * np.exp(-np.square(similarity[first, order]) / threshold)
        again = scores.argsort()[::-1]
        order, scores = order[again], scores[again]
    return np.array(selected, np.intp)
