"""Training targets, all keypoints at once.

A Gaussian is the product of one along x and one along y: the two rows of all keypoints are one
expression, the maps their outer products. What is small is made in a window and pasted.

Shapes: N persons, K keypoints, H and W of the heatmap. Coordinates are (x, y) in heatmap pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

Size = Sequence[int]  # (W, H), as everywhere in MMPose


def gaussian_maps(size: Size, centers: np.ndarray, sigma: float, drawn: np.ndarray) -> np.ndarray:
    """Gaussians of height 1 over the whole map; where persons overlap, the larger value.

    Args:
        size: (W, H). centers: (N, K, 2). sigma: in heatmap pixels.
        drawn: (N, K), False for keypoints that leave their map empty.

    Returns:
        (K, H, W), float32.
    """
    x, y = (_gaussian(np.arange(n) - centers[..., i, None], sigma) for i, n in enumerate(size))
    maps = _outer(x, y * drawn[..., None])
    return maps[0] if len(maps) == 1 else maps.max(axis=0)


def gaussian_windows(
    size: Size, centers: np.ndarray, sigma: float, drawn: np.ndarray, low: np.ndarray, length: int
) -> np.ndarray:
    """`gaussian_maps` that are zero outside of a square window.

    Args:
        low: (N, K, 2), integer, first pixel of the window. length: its side.

    Returns:
        (K, H, W), float32.
    """
    rows = _gaussian(low[..., None] + np.arange(length) - centers[..., None], sigma)
    patches = _outer(rows[:, :, 0], rows[:, :, 1])
    maps = np.zeros((centers.shape[1], *size[::-1]), dtype=np.float32)
    _paste(maps, patches, low, drawn)
    return maps


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
    x, y = (
        ((centers[:, i, None] - np.arange(n)) / radius * drawn[:, None]).astype(np.float32)
        for i, n in enumerate(size)
    )
    maps[:, 1] = x[:, None, :]
    maps[:, 2] = y[:, :, None]
    low = np.floor(centers - radius).astype(np.int64)
    length = 2 * math.ceil(radius) + 2
    offset = (low[..., None] + np.arange(length) - centers[..., None]).astype(np.float64) / radius
    disc = offset[:, 1, :, None] ** 2 + offset[:, 0, None, :] ** 2 <= 1
    _paste(maps[:, 0], disc[None], low[None], drawn[None])
    return maps.reshape(-1, H, W)


def _gaussian(distance: np.ndarray, sigma: float) -> np.ndarray:
    row = np.exp(distance**2 / (-2 * sigma**2))
    # The product of two rows would hold denormal numbers, which take five times as long.
    row[row < 1e-19] = 0
    return row.astype(np.float32)


def _outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, K, W), (N, K, H) -> (N, K, H, W); `einsum` takes half as long as broadcasting."""
    return np.einsum('nkh,nkw->nkhw', y, x)


def _paste(maps: np.ndarray, patches: np.ndarray, low: np.ndarray, drawn: np.ndarray) -> None:
    """Put the part of each patch that lies inside into its map, where it is larger.

    Args:
        maps: (K, H, W), changed in place. patches: (N, K, length, length).
        low: (N, K, 2), pixel of the map where a patch begins. drawn: (N, K), which to take.
    """
    size, length = maps.shape[:0:-1], patches.shape[-1]
    bounds = np.stack([low, np.maximum(low, 0), np.minimum(low + length, size)], axis=2)
    for n, k in zip(*(index.tolist() for index in drawn.nonzero()), strict=True):
        (left, top), (x0, y0), (x1, y1) = bounds[n, k].tolist()
        if x0 >= x1 or y0 >= y1:
            continue
        window = maps[k, y0:y1, x0:x1]
        patch = patches[n, k, y0 - top : y1 - top, x0 - left : x1 - left]
        if n == 0:  # the map is empty
            window[...] = patch
        else:
            np.maximum(window, patch, out=window)
