"""Sub-pixel maxima of heatmaps, on the heatmaps' device, all keypoints at once.

The Taylor expansions of DARK (arXiv 1910.06278) and UDP (arXiv 1911.07524) need the blurred map
only around the maximum: multiplication with rows of a blur matrix computes just these pixels.

Shapes: B persons, K keypoints, M = B * K maps, H and W of the heatmap, n = 2 reach + 1 pixels
around a maximum along an axis.
"""

import functools

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def in_graph(heatmaps: Tensor) -> bool:
    """Return whether control flow must not depend on values.

    While a graph is recorded it cannot. On a GPU it would make the CPU wait, which also rules out
    a CUDA graph.
    """
    return heatmaps.is_cuda or torch.jit.is_tracing() or torch.compiler.is_compiling()


def heatmap_maximum(heatmaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the first maximum of each map.

    Args:
        heatmaps: (B, K, H, W), float32.

    Returns:
        x: column of the maximum, (B, K), int64.
        y: row of the maximum, (B, K), int64.
        score: its value, (B, K); NaN if the map holds NaN or infinite values.
    """
    flat = heatmaps.flatten(2)
    # On CPUs NumPy's argmax is vectorised and PyTorch's is not: 5 times as fast.
    if flat.is_cpu and not in_graph(flat):
        index = torch.from_numpy(flat.detach().numpy().argmax(axis=2))
    else:
        index = flat.argmax(dim=2)
    score = flat.gather(2, index[..., None])[..., 0]
    width = heatmaps.shape[3]
    # The sum also detects -inf, which a maximum does not.
    score = torch.where(flat.sum(dim=2).isfinite(), score, torch.nan)
    return index % width, index // width, score


@functools.lru_cache(maxsize=64)
def blur_matrix(
    length: int, kernel_size: int, device: torch.device, reflect: bool = False
) -> Tensor:
    """Matrix that blurs an axis; row i holds OpenCV's Gaussian kernel centred at pixel i.

    Args:
        length: length of the axis.
        kernel_size: determines sigma, as in `cv2.GaussianBlur`.
        device: device of the matrix.
        reflect: pad by reflection instead of zeros.

    Returns:
        (length, length), float32.
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
    """Rows of `blur_matrix` around each pixel, clamped at the border, (length, n, length)."""
    pixels = torch.arange(length)[:, None] + torch.arange(-reach, reach + 1)
    return blur_matrix(length, kernel_size, device)[pixels.clamp(0, length - 1)]


def blur(heatmaps: Tensor, kernel_size: int, reflect: bool = False) -> Tensor:
    """Apply OpenCV's Gaussian blur to maps, (..., H, W) -> (..., H, W); see `blur_matrix`."""
    if in_graph(heatmaps) and min(heatmaps.shape[-2:]) > kernel_size // 2:
        return _blur_in_graph(heatmaps, kernel_size, reflect)
    rows, columns = (
        blur_matrix(length, kernel_size, heatmaps.device, reflect) for length in heatmaps.shape[-2:]
    )
    return rows @ heatmaps @ columns.transpose(0, 1)


def _blur_in_graph(heatmaps: Tensor, kernel_size: int, reflect: bool) -> Tensor:
    """`blur` as a sum of shifted maps.

    Runtimes that compute matrix products in half precision, and GPUs that compute them in TF32,
    keep such sums in float32, which the refinement requires.
    """
    kernel, reach = cv2.getGaussianKernel(kernel_size, 0).ravel().tolist(), kernel_size // 2
    mode = 'reflect' if reflect else 'constant'
    for axis in (-2, -1):
        length = heatmaps.shape[axis]
        margin = (0, 0, reach, reach) if axis == -2 else (reach, reach, 0, 0)
        padded = F.pad(heatmaps, margin, mode=mode)
        heatmaps = padded.narrow(axis, 0, length) * kernel[0]
        for i, weight in enumerate(kernel[1:], start=1):
            heatmaps = torch.add(heatmaps, padded.narrow(axis, i, length), alpha=weight)
    return heatmaps


def log_neighbourhood(
    heatmaps: Tensor, x: Tensor, y: Tensor, reach: int, kernel_size: int, low: float, high: float
) -> dict[tuple[int, int], Tensor]:
    """Compute the logarithm of the blurred map around a pixel.

    The blurred map is rescaled to the maximum of the map, then clamped. The scale only shifts the
    logarithm, unless a value is clamped: it is computed for such maps alone, since it requires the
    blur of the whole map.

    Args:
        heatmaps: (B, K, H, W).
        x: column of the pixel, (B, K).
        y: row of the pixel, (B, K).
        reach: pixels to each side; pixels beyond the border equal those at the border.
        kernel_size: size of the blur.
        low: lower bound of the blurred map.
        high: upper bound of the blurred map.

    Returns:
        Value at (x + i, y + j) for each (i, j) from -reach to reach, (M) each.
    """
    compute = _log_patch_in_graph if in_graph(heatmaps) else _log_patch
    log = compute(
        heatmaps.flatten(0, 1), x.flatten(), y.flatten(), reach, kernel_size, low, high
    )  # M, n, n
    steps = range(-reach, reach + 1)
    return {(i, j): log[:, reach + j, reach + i] for i in steps for j in steps}


def _log_patch(
    heatmaps: Tensor, x: Tensor, y: Tensor, reach: int, kernel_size: int, low: float, high: float
) -> Tensor:
    rows, columns = (  # (M, n, H), (M, n, W)
        blur_rows(length, kernel_size, reach, heatmaps.device)[position]
        for position, length in ((y, heatmaps.shape[1]), (x, heatmaps.shape[2]))
    )
    patch = rows @ heatmaps @ columns.transpose(1, 2)
    maximum = heatmaps[torch.arange(len(x), device=x.device), y, x]
    clamped = (patch.amin(dim=(1, 2)) < low) | (maximum > high)
    if clamped.any():
        scale = maximum[clamped] / blur(heatmaps[clamped], kernel_size).amax(dim=(1, 2))
        patch[clamped] *= scale[:, None, None]
    return patch.clamp(low, high).log()


def _log_patch_in_graph(
    heatmaps: Tensor, x: Tensor, y: Tensor, reach: int, kernel_size: int, low: float, high: float
) -> Tensor:
    """`_log_patch` without data-dependent control flow: blur all maps completely."""
    H, W = heatmaps.shape[1:]
    blurred = blur(heatmaps, kernel_size)
    n = 2 * reach + 1
    steps = torch.arange(-reach, reach + 1, device=x.device)
    rows = (y[:, None] + steps).clamp(0, H - 1)
    columns = (x[:, None] + steps).clamp(0, W - 1)
    index = (rows[:, :, None] * W + columns[:, None, :]).flatten(1)
    patch = blurred.flatten(1).gather(1, index).unflatten(1, (n, n))
    maximum = heatmaps.flatten(1).gather(1, (y * W + x)[:, None])[:, 0]
    clamped = (patch.amin(dim=(1, 2)) < low) | (maximum > high)
    scale = torch.where(clamped, maximum / blurred.amax(dim=(1, 2)), 1.0)
    return (patch * scale[:, None, None]).clamp(low, high).log()


def newton_step(dx: Tensor, dy: Tensor, dxx: Tensor, dxy: Tensor, dyy: Tensor) -> Tensor:
    """Newton step to the extremum from first and second derivatives, (M,) each -> (M, 2)."""
    determinant = dxx * dyy - dxy**2
    return torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=1) / determinant[:, None]
