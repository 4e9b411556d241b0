"""The heatmaps of "Simple Baselines" (arXiv 1804.06208), and DARK's (arXiv 1910.06278)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..registry import KEYPOINT_CODECS
from . import refinement as peaks
from .base import HeatmapCodec
from .gaussian_heatmap import gaussian_maps


@KEYPOINT_CODECS.register_module()
class MSRAHeatmap(HeatmapCodec):
    """`mmpose.MSRAHeatmap`: the same figures, for all keypoints and persons at once.

    Plain: a Gaussian around the nearest pixel; decoding moves a quarter of a pixel from the maximum
    to its larger neighbour. `unbiased` (DARK): a Gaussian around the keypoint itself; decoding
    follows a Taylor expansion of the blurred map's logarithm.

    Args:
        input_size: (w, h) of the crop. heatmap_size: (W, H). sigma: in heatmap pixels.
        unbiased: DARK. blur_kernel_size: its blur; 11 for sigma 2, 17 for sigma 3.

    Raises:
        ConfigError: a value that cannot be used.
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

    def encode(
        self, keypoints: np.ndarray, keypoints_visible: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Keypoints to target heatmaps.

        Args:
            keypoints: (N, K, 2), in pixels of the input.
            keypoints_visible: (N, K); below 0.5 the map stays empty. All, by default, but those
                whose coordinates are NaN or infinite.

        Returns:
            heatmaps: (K, H, W), float32. keypoint_weights: (N, K), the visibility, 0 where the
            Gaussian lies outside of the map.
        """
        keypoints, weights = self._labelled(keypoints, keypoints_visible)
        centers = keypoints / self.scale_factor
        if self.unbiased:
            radius = 3 * self.sigma
            missed = (centers - radius >= self.heatmap_size) | (centers + radius + 1 < 0)
            weights[missed.any(axis=-1) & (weights >= 0.5)] = 0
            heatmaps = gaussian_maps(self.heatmap_size, centers, self.sigma, weights >= 0.5)
        else:
            pixels = (centers + 0.5).astype(np.int64)
            heatmaps = self._windows(pixels, pixels, weights)
        return dict(heatmaps=heatmaps, keypoint_weights=weights)

    def _peaks(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        x, y, score = peaks.find(heatmaps)
        H, W = heatmaps.shape[2:]
        if self.unbiased:
            return self._dark(heatmaps, x, y), score
        flat, index = heatmaps.flatten(2), y * W + x
        near = []
        for step, inside in (
            (1, (x > 1) & (x < W - 1) & (y > 0)),
            (W, (y > 1) & (y < H - 1) & (x > 0)),
        ):
            neighbours = torch.stack([index - step, index + step]).clamp(0, H * W - 1)
            before, after = (flat.gather(2, i[..., None])[..., 0] for i in neighbours)
            near.append(torch.sign(after - before) * inside)
        return torch.stack([x, y], dim=2) + 0.25 * torch.stack(near, dim=2), score

    def _dark(self, heatmaps: Tensor, x: Tensor, y: Tensor) -> Tensor:
        H, W = heatmaps.shape[2:]
        log = peaks.log_around(
            heatmaps.flatten(0, 1), x.flatten(), y.flatten(), 2, self.blur_kernel_size,
            floor=1e-10, top=torch.inf,
        )  # fmt: skip
        at = {(i, j): log[:, 2 + j, 2 + i] for i in range(-2, 3) for j in range(-2, 3)}
        offset = peaks.step(
            dx=0.5 * (at[1, 0] - at[-1, 0]),
            dy=0.5 * (at[0, 1] - at[0, -1]),
            dxx=0.25 * (at[2, 0] - 2 * at[0, 0] + at[-2, 0]),
            dxy=0.25 * (at[1, 1] - at[1, -1] - at[-1, 1] + at[-1, -1]),
            dyy=0.25 * (at[0, 2] - 2 * at[0, 0] + at[0, -2]),
        )
        inside = (x > 1) & (x < W - 2) & (y > 1) & (y < H - 2)
        return self._refined(x, y, offset, inside.flatten())

    def _to_input(self, peak: Tensor) -> Tensor:
        return peak * torch.as_tensor(self.scale_factor, device=peak.device)
