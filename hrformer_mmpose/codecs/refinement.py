"""From heatmaps to peaks between their pixels, on the heatmaps' device, all keypoints at once.

The refinements by a Taylor expansion (DARK, arXiv 1910.06278; UDP, arXiv 1911.07524) need the
blurred map only next to the maximum: rows of a blurring matrix pick it out of the map.

Shapes: B persons, K keypoints, H and W of the heatmap, n pixels looked at along an axis.
"""

import functools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def in_graph() -> bool:
    """Whether a graph is being recorded: then what is computed must not depend on the values."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def find(heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest pixel of each map.

    Args:
        heatmaps: (B, K, H, W), float32.

    Returns:
        x, y: (B, K), int64, of the first maximum. score: (B, K), its value; NaN or infinite where
        the map holds such a value.
    """
    flat = heatmaps.flatten(2)
    # On CPUs NumPy's search is vectorised and PyTorch's is not: 5 times as fast.
    if flat.is_cpu and not in_graph():
        index = torch.from_numpy(flat.detach().numpy().argmax(axis=2))
    else:
        index = flat.argmax(dim=2)
    score = flat.gather(2, index[..., None])[..., 0]
    width = heatmaps.shape[3]
    # One sum finds what a maximum does not show: -inf anywhere.
    score = torch.where(flat.sum(dim=2).isfinite(), score, torch.nan)
    return index % width, index // width, score


@functools.lru_cache(maxsize=64)
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


@functools.lru_cache(maxsize=64)
def blur_rows(length: int, kernel_size: int, reach: int, device: torch.device) -> Tensor:
    """Rows of `blur_matrix` around each pixel, the border's repeated, (length, n, length)."""
    pixels = torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)
    return blur_matrix(length, kernel_size, device)[pixels.clamp(0, length - 1)]


def blur(heatmaps: Tensor, kernel_size: int, reflect: bool = False) -> Tensor:
    """(B, K, H, W) or (M, H, W) -> the same, blurred."""
    if in_graph() and min(heatmaps.shape[-2:]) > kernel_size // 2:
        return _blur_in_graph(heatmaps, kernel_size, reflect)
    rows, columns = (
        blur_matrix(length, kernel_size, heatmaps.device, reflect) for length in heatmaps.shape[-2:]
    )
    return rows @ heatmaps @ columns.transpose(0, 1)


def _blur_in_graph(heatmaps: Tensor, kernel_size: int, reflect: bool) -> Tensor:
    """`blur` as a sum of shifted maps.

    Runtimes that compute matrix products in half precision leave such sums in float32, which the
    refinement needs.
    """
    kernel, reach = cv2.getGaussianKernel(kernel_size, 0).ravel().tolist(), kernel_size // 2
    mode = 'reflect' if reflect else 'constant'
    for axis in (-2, -1):
        length = heatmaps.shape[axis]
        margin = (0, 0, reach, reach) if axis == -2 else (reach, reach, 0, 0)
        padded = F.pad(heatmaps, margin, mode=mode)
        parts = (padded.narrow(axis, i, length) * weight for i, weight in enumerate(kernel))
        heatmaps = functools.reduce(torch.add, parts)
    return heatmaps


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
    if in_graph():
        return _log_around_in_graph(heatmaps, x, y, reach, kernel_size, floor, top)
    rows, columns = (  # (M, n, H), (M, n, W)
        blur_rows(length, kernel_size, reach, heatmaps.device)[position]
        for position, length in ((y, heatmaps.shape[1]), (x, heatmaps.shape[2]))
    )
    around = rows @ heatmaps @ columns.transpose(1, 2)
    highest = heatmaps[torch.arange(len(x), device=x.device), y, x]
    cut = (around.amin(dim=(1, 2)) < floor) | (highest > top)
    if cut.any():
        scale = highest[cut] / blur(heatmaps[cut], kernel_size).amax(dim=(1, 2))
        around[cut] *= scale[:, None, None]
    return around.clamp(floor, top).log()


def _log_around_in_graph(
    heatmaps: Tensor, x: Tensor, y: Tensor, reach: int, kernel_size: int, floor: float, top: float
) -> Tensor:
    """`log_around` without a decision that depends on the values: all maps are blurred whole."""
    H, W = heatmaps.shape[1:]
    blurred = blur(heatmaps, kernel_size)
    n = 2 * reach + 1
    steps = torch.arange(-reach, reach + 1, device=x.device)
    rows = (y[:, None] + steps).clamp(0, H - 1)
    columns = (x[:, None] + steps).clamp(0, W - 1)
    index = (rows[:, :, None] * W + columns[:, None, :]).flatten(1)
    around = blurred.flatten(1).gather(1, index).unflatten(1, (n, n))
    highest = heatmaps.flatten(1).gather(1, (y * W + x)[:, None])[:, 0]
    cut = (around.amin(dim=(1, 2)) < floor) | (highest > top)
    scale = torch.where(cut, highest / blurred.amax(dim=(1, 2)), 1.0)
    return (around * scale[:, None, None]).clamp(floor, top).log()


def step(dx: Tensor, dy: Tensor, dxx: Tensor, dxy: Tensor, dyy: Tensor) -> Tensor:
    """Newton's step to the extremum from first and second derivatives, (M,) each -> (M, 2)."""
    determinant = dxx * dyy - dxy**2
    return torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=1) / determinant[:, None]
