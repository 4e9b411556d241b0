"""Heatmaps of "Simple Baselines" (arXiv 1804.06208) and DARK (arXiv 1910.06278)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..registry import KEYPOINT_CODECS
from . import refinement
from .base import HeatmapCodec
from .gaussian_heatmap import VISIBLE, gaussian_heatmaps, windowed_gaussian_heatmaps


@KEYPOINT_CODECS.register_module()
class MSRAHeatmap(HeatmapCodec):
    """`mmpose.MSRAHeatmap` with equal results, for all keypoints and persons at once.

    Default: encode a Gaussian around the nearest pixel; decode the maximum, moved by a quarter
    pixel towards its larger neighbour. `unbiased` (DARK): encode a Gaussian around the keypoint;
    decode by a Taylor expansion of the blurred map's logarithm.

    Args:
        input_size: size of the image crop, (w, h).
        heatmap_size: (W, H).
        sigma: standard deviation of the Gaussian, in heatmap pixels.
        unbiased: use DARK.
        blur_kernel_size: size of DARK's blur; 11 for sigma 2, 17 for sigma 3.

    Raises:
        ConfigError: an invalid argument.
    """

    shift_heatmap = True

    def __init__(
        self,
        input_size: Sequence[int],
        heatmap_size: Sequence[int],
        sigma: float,
        unbiased: bool = False,
        blur_kernel_size: int = 11,
    ):
        super().__init__(input_size, heatmap_size, sigma, blur_kernel_size)
        self.unbiased = unbiased
        self.scale_factor = (np.array(input_size) / heatmap_size).astype(np.float32)

    def _draw(self, centers: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if not self.unbiased:
            pixels = (centers + 0.5).astype(np.int64)
            return windowed_gaussian_heatmaps(
                self.heatmap_size, pixels, self.sigma, weights, pixels
            )
        radius = 3 * self.sigma
        is_outside = (centers - radius >= self.heatmap_size) | (centers + radius + 1 < 0)
        weights[is_outside.any(axis=-1) & (weights >= VISIBLE)] = 0
        return gaussian_heatmaps(self.heatmap_size, centers, self.sigma, weights >= VISIBLE)

    def _locate(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        x, y, score = refinement.heatmap_maximum(heatmaps)
        refine = self._taylor if self.unbiased else self._quarter_pixel
        return refine(heatmaps, x, y), score

    def _quarter_pixel(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        H, W = heatmaps.shape[2:]
        flat, index = heatmaps.flatten(2), y * W + x
        signs = []
        for stride, is_inside in (
            (1, (x > 1) & (x < W - 1) & (y > 0)),
            (W, (y > 1) & (y < H - 1) & (x > 0)),
        ):
            neighbours = torch.stack([index - stride, index + stride]).clamp(0, H * W - 1)
            before, after = (flat.gather(2, i[..., None])[..., 0] for i in neighbours)
            signs.append(torch.sign(after - before) * is_inside)
        return torch.stack([x, y], dim=2) + 0.25 * torch.stack(signs, dim=2)

    def _taylor(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        H, W = heatmaps.shape[2:]
        at = refinement.log_neighbourhood(
            heatmaps, x, y, 2, self.blur_kernel_size, low=1e-10, high=torch.inf
        )
        offset = refinement.newton_step(
            dx=0.5 * (at[1, 0] - at[-1, 0]),
            dy=0.5 * (at[0, 1] - at[0, -1]),
            dxx=0.25 * (at[2, 0] - 2 * at[0, 0] + at[-2, 0]),
            dxy=0.25 * (at[1, 1] - at[1, -1] - at[-1, 1] + at[-1, -1]),
            dyy=0.25 * (at[0, 2] - 2 * at[0, 0] + at[0, -2]),
        )
        return self._add_offset(x, y, offset, (x > 1) & (x < W - 2) & (y > 1) & (y < H - 2))

    def _to_input(self, positions: Tensor) -> Tensor:
        scale_x, scale_y = self.scale_factor.tolist()  # tensors would be copied to the GPU
        x, y = positions.unbind(dim=2)
        return torch.stack([x * scale_x, y * scale_y], dim=2)
