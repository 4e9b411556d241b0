"""From heatmaps to peaks between their pixels, on the heatmaps' device, all keypoints at once.

The refinements by a Taylor expansion (DARK, arXiv 1910.06278; UDP, arXiv 1911.07524) need the
blurred map only next to the maximum: rows of a blurring matrix pick it out of the map.

Shapes: B persons, K keypoints, H and W of the heatmap, n pixels looked at along an axis.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor


def find(heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest pixel of each map.

    Args:
        heatmaps: (B, K, H, W), float32.

    Returns:
        x, y: (B, K), int64, of the first maximum. score: (B, K), its value; NaN or infinite where
        the map holds such a value.
    """
    flat = heatmaps.flatten(2)
    if flat.is_cpu:  # where NumPy's search is vectorised and PyTorch's is not: 5 times as fast
        index = torch.from_numpy(flat.detach().numpy().argmax(axis=2))
    else:
        index = flat.argmax(dim=2)
    score = flat.gather(2, index[..., None])[..., 0]
    width = heatmaps.shape[3]
    # One sum finds what a maximum does not show: -inf anywhere.
    score = torch.where(flat.sum(dim=2).isfinite(), score, torch.nan)
    return index % width, index // width, score


@lru_cache(maxsize=64)
def blur_matrix(
    length: int, kernel_size: int, device: torch.device, reflect: bool = False
) -> Tensor:
    """Row i holds OpenCV's Gaussian kernel centred at pixel i, (length, length).

    Args:
        length: of the axis. kernel_size: its sigma follows from it, as in `cv2.GaussianBlur`.
        reflect: mirror the map beyond its border; otherwise there are zeros.
    """
    kernel = cv2.getGaussianKernel(kernel_size, 0).ravel()
    reach = kernel_size // 2
    matrix = np.zeros((length, length))
    for pixel in range(length):
        for offset, weight in enumerate(kernel, start=pixel - reach):
            if reflect:
                period = max(2 * (length - 1), 1)
                offset = abs(offset) % period
                offset = min(offset, period - offset)
            if 0 <= offset < length:
                matrix[pixel, offset] += weight
    return torch.from_numpy(matrix).float().to(device)


@lru_cache(maxsize=64)
def blur_rows(length: int, kernel_size: int, reach: int, device: torch.device) -> Tensor:
    """Rows of `blur_matrix` around each pixel, the border's repeated, (length, n, length)."""
    pixels = torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)
    return blur_matrix(length, kernel_size, device)[pixels.clamp(0, length - 1)]


def blur(heatmaps: Tensor, kernel_size: int, reflect: bool = False) -> Tensor:
    """(..., H, W) -> the same, blurred."""
    rows, columns = (
        blur_matrix(length, kernel_size, heatmaps.device, reflect) for length in heatmaps.shape[-2:]
    )
    return rows @ heatmaps @ columns.T


def log_around(
    heatmaps: Tensor, x: Tensor, y: Tensor, reach: int, kernel_size: int, floor: float, top: float
) -> Tensor:
    """Logarithm of the blurred map around a pixel.

    The blurred map is scaled to the maximum that the map had, then cut off below `floor` and above
    `top`. The scale shifts the logarithm and matters only where something is cut off: only for such
    maps is it computed, for which the whole map has to be blurred.

    Args:
        heatmaps: (M, H, W). x, y: (M,). reach: pixels to each side; beyond the border the last one
            is repeated. kernel_size: of the blur.

    Returns:
        (M, n, n) with n = 2 reach + 1; rows are y.
    """
    rows, columns = (  # (M, n, H), (M, n, W)
        blur_rows(length, kernel_size, reach, heatmaps.device)[position]
        for position, length in ((y, heatmaps.shape[1]), (x, heatmaps.shape[2]))
    )
    around = rows @ heatmaps @ columns.mT
    highest = heatmaps[torch.arange(len(x), device=x.device), y, x]
    cut = (around.amin(dim=(1, 2)) < floor) | (highest > top)
    if cut.any():
        scale = highest[cut] / blur(heatmaps[cut], kernel_size).amax(dim=(1, 2))
        around[cut] *= scale[:, None, None]
    return around.clamp(floor, top).log()


def step(dx: Tensor, dy: Tensor, dxx: Tensor, dxy: Tensor, dyy: Tensor) -> Tensor:
    """Newton's step to the extremum from first and second derivatives, (M,) each -> (M, 2)."""
    determinant = dxx * dyy - dxy**2
    return torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=1) / determinant[:, None]
