"""Target heatmaps of all keypoints at once.

A Gaussian is the product of one along x and one along y: the rows of all keypoints are one
expression, and the maps are their outer products. Small shapes are drawn in a window and pasted.

Shapes: N persons, K keypoints, H and W of the heatmap. Coordinates are (x, y) in heatmap pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

Size = Sequence[int]  # (W, H), as in MMPose
VISIBLE = 0.5  # minimum weight of a keypoint with a target, as in MMPose


def gaussian_heatmaps(
    size: Size, centers: np.ndarray, sigma: float, visible: np.ndarray
) -> np.ndarray:
    """Gaussians of height 1 over the whole map; the maximum where persons overlap.

    Args:
        size: (W, H).
        centers: (N, K, 2).
        sigma: standard deviation, in heatmap pixels.
        visible: (N, K), False for keypoints without a Gaussian.

    Returns:
        (K, H, W), float32.
    """
    x, y = (_gaussian(np.arange(n) - centers[..., i, None], sigma) for i, n in enumerate(size))
    maps = _outer(x, y * visible[..., None])
    return maps[0] if len(maps) == 1 else maps.max(axis=0)


def windowed_gaussian_heatmaps(
    size: Size, centers: np.ndarray, sigma: float, weights: np.ndarray, pixels: np.ndarray
) -> np.ndarray:
    """`gaussian_heatmaps` within three sigma of a pixel, 0 elsewhere.

    Args:
        size: (W, H).
        centers: (N, K, 2).
        sigma: standard deviation, in heatmap pixels.
        weights: (N, K), modified in place: 0 where the window is outside the map.
        pixels: centres of the windows, (N, K, 2), integer.

    Returns:
        (K, H, W), float32.
    """
    radius = 3 * sigma
    # MMPose rounds towards zero here.
    left, right = (pixels - radius).astype(np.int64), (pixels + radius + 1).astype(np.int64)
    is_outside = ((left >= size) | (right < 0)).any(axis=-1)
    weights[is_outside & (weights >= VISIBLE)] = 0
    start = pixels + math.floor(-radius)
    length = math.floor(radius + 1) - math.floor(-radius)
    rows = _gaussian(start[..., None] + np.arange(length) - centers[..., None], sigma)
    patches = _outer(rows[:, :, 0], rows[:, :, 1])
    maps = np.zeros((centers.shape[1], *size[::-1]), dtype=np.float32)
    _paste(maps, patches, start, weights >= VISIBLE)
    return maps


def offset_heatmaps(
    size: Size, centers: np.ndarray, radius: float, visible: np.ndarray
) -> np.ndarray:
    """UDP's combined target: a disc and the offset to its centre in units of the radius.

    Args:
        size: (W, H).
        centers: (N, K, 2).
        radius: of the disc, in heatmap pixels.
        visible: (N, K), False for keypoints without a target.

    Returns:
        (3 K, H, W), float32: disc, x offset and y offset of each keypoint, of the last person with
        this keypoint visible.
    """
    last = len(visible) - 1 - visible[::-1].argmax(axis=0)
    keypoints = np.arange(visible.shape[1])
    centers, visible = centers[last, keypoints], visible[last, keypoints]
    W, H = size
    maps = np.zeros((len(keypoints), 3, H, W), dtype=np.float32)
    x, y = (
        ((centers[:, i, None] - np.arange(n)) / radius * visible[:, None]).astype(np.float32)
        for i, n in enumerate(size)
    )
    maps[:, 1] = x[:, None, :]
    maps[:, 2] = y[:, :, None]
    start = np.floor(centers - radius).astype(np.int64)
    length = 2 * math.ceil(radius) + 2
    offset = (start[..., None] + np.arange(length) - centers[..., None]).astype(np.float64) / radius
    disc = offset[:, 1, :, None] ** 2 + offset[:, 0, None, :] ** 2 <= 1
    _paste(maps[:, 0], disc[None], start[None], visible[None])
    return maps.reshape(-1, H, W)


def _gaussian(distance: np.ndarray, sigma: float) -> np.ndarray:
    row = np.exp(distance**2 / (-2 * sigma**2))
    # Products of smaller values would be denormal numbers, which take five times as long.
    row[row < 1e-19] = 0
    return row.astype(np.float32)


def _outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, K, W), (N, K, H) -> (N, K, H, W); `einsum` takes half as long as broadcasting."""
    return np.einsum('nkh,nkw->nkhw', y, x)


def _paste(maps: np.ndarray, patches: np.ndarray, start: np.ndarray, visible: np.ndarray) -> None:
    """Update maps with the maximum of map and patch, cropped to the map.

    Args:
        maps: (K, H, W), modified in place.
        patches: (N, K, length, length).
        start: first pixel of each patch in its map, (N, K, 2).
        visible: (N, K), False for patches to skip.
    """
    size, length = maps.shape[:0:-1], patches.shape[-1]
    bounds = np.stack([start, np.maximum(start, 0), np.minimum(start + length, size)], axis=2)
    for n, k in zip(*(index.tolist() for index in visible.nonzero()), strict=True):
        (left, top), (x0, y0), (x1, y1) = bounds[n, k].tolist()
        if x0 >= x1 or y0 >= y1:
            continue
        window = maps[k, y0:y1, x0:x1]
        patch = patches[n, k, y0 - top : y1 - top, x0 - left : x1 - left]
        if n == 0:  # the map is empty
            window[...] = patch
        else:
            np.maximum(window, patch, out=window)
