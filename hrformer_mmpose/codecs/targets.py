"""Training targets, all keypoints at once.

A Gaussian is the product of one along x and one along y, so a map is an outer product of two rows.

Shapes: N persons, K keypoints, H and W of the heatmap. Coordinates are (x, y) in heatmap pixels.
"""

from collections.abc import Sequence

import numpy as np

Size = Sequence[int]  # (W, H), as everywhere in MMPose


def gaussian_maps(
    size: Size,
    centers: np.ndarray,
    sigma: float,
    drawn: np.ndarray,
    window: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Gaussians of height 1; where persons overlap, the larger value.

    Args:
        size: (W, H). centers: (N, K, 2). sigma: in heatmap pixels.
        drawn: (N, K), False for keypoints that leave their map empty.
        window: first and past-the-last pixel that is drawn, (N, K, 2) each; None for all.

    Returns:
        (K, H, W), float32.
    """
    lines = []
    for axis, length in enumerate(size):
        pixels = np.arange(length)
        distance = pixels - centers[..., axis, None]
        line = np.exp(distance**2 / (-2 * sigma**2))
        if window is not None:
            low, high = (bound[..., axis, None] for bound in window)
            line *= (pixels >= low) & (pixels < high)
        lines.append(line.astype(np.float32))
    x, y = lines
    y *= drawn[..., None]
    maps = y[..., :, None] * x[..., None, :]  # (N, K, H, W)
    return maps[0] if len(maps) == 1 else maps.max(axis=0)


def offset_maps(size: Size, centers: np.ndarray, radius: float, drawn: np.ndarray) -> np.ndarray:
    """UDP's combined target: a disc, and the way to its centre in units of its radius.

    Args:
        size: (W, H). centers: (N, K, 2). radius: in heatmap pixels. drawn: (N, K).

    Returns:
        (3 K, H, W), float32: of each keypoint the disc, then x, then y; of several persons the
        last that is drawn.
    """
    last = len(drawn) - 1 - drawn[::-1].argmax(axis=0)
    keypoints = np.arange(drawn.shape[1])
    centers, drawn = centers[last, keypoints], drawn[last, keypoints]
    W, H = size
    maps = np.zeros((len(keypoints), 3, H, W), dtype=np.float32)
    x = (centers[:, 0, None] - np.arange(W)) / radius * drawn[:, None]
    y = (centers[:, 1, None] - np.arange(H)) / radius * drawn[:, None]
    maps[:, 1] = x[:, None, :]
    maps[:, 2] = y[:, :, None]
    disc = maps[:, 1] ** 2 + maps[:, 2] ** 2 <= 1
    maps[:, 0] = disc & drawn[:, None, None]
    return maps.reshape(-1, H, W)
