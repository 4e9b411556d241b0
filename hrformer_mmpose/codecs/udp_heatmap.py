"""Unbiased data processing (UDP, arXiv 1911.07524): distances are between pixel centres."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..registry import KEYPOINT_CODECS
from . import refinement
from .base import HeatmapCodec
from .gaussian_heatmap import VISIBLE, offset_heatmaps, windowed_gaussian_heatmaps

TYPES = ('gaussian', 'combined')


@KEYPOINT_CODECS.register_module()
class UDPHeatmap(HeatmapCodec):
    """`mmpose.UDPHeatmap` with equal results, for all keypoints and persons at once.

    'gaussian': encode a Gaussian around the keypoint; decode by a Taylor expansion of the blurred
    map's logarithm. 'combined': a disc, and two maps with the offset to its centre.

    UDP measures from the centre of the first pixel to that of the last: W pixels are W - 1 units.
    `encode` therefore expects keypoints of a crop made by `TopdownAffine(use_udp=True)`. `decode`
    returns keypoints as MMPose's estimators expect them, in units of the crop's whole width:
    w / (w - 1) times as large.

    Args:
        input_size: size of the image crop, (w, h).
        heatmap_size: (W, H).
        heatmap_type: 'gaussian' or 'combined'.
        sigma: standard deviation of the Gaussian, in heatmap pixels.
        radius_factor: radius of the disc, as a fraction of the heatmap's longer side.
        blur_kernel_size: size of the blur before the refinement; 11 for sigma 2, 17 for sigma 3.
            The disc takes twice this size plus one.

    Raises:
        ConfigError: an invalid argument.
    """

    shift_heatmap = False

    def __init__(
        self,
        input_size: Sequence[int],
        heatmap_size: Sequence[int],
        heatmap_type: str = 'gaussian',
        sigma: float = 2.0,
        radius_factor: float = 0.0546875,
        blur_kernel_size: int = 11,
    ):
        if heatmap_type not in TYPES:
            raise ConfigError(f'UDPHeatmap: heatmap_type={heatmap_type!r} is not one of {TYPES}')
        if not radius_factor > 0:
            raise ConfigError(f'UDPHeatmap: radius_factor={radius_factor} is not positive')
        combined = heatmap_type == 'combined'
        super().__init__(input_size, heatmap_size, sigma, blur_kernel_size, 3 if combined else 1)
        self.heatmap_type = heatmap_type
        self.radius_factor = radius_factor
        self._radius = radius_factor * max(heatmap_size)
        self.flip_mode = 'udp_combined' if combined else 'heatmap'
        self.scale_factor = ((np.array(input_size) - 1) / (np.array(heatmap_size) - 1)).astype(
            np.float32
        )

    def _draw(self, centers: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if self.heatmap_type == 'combined':
            return offset_heatmaps(self.heatmap_size, centers, self._radius, weights >= VISIBLE)
        pixels = (centers + 0.5).astype(np.int64)
        return windowed_gaussian_heatmaps(self.heatmap_size, centers, self.sigma, weights, pixels)

    def _locate(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        if self.heatmap_type == 'combined':
            return self._locate_combined(heatmaps)
        x, y, score = refinement.heatmap_maximum(heatmaps)
        at = refinement.log_neighbourhood(
            heatmaps, x, y, 1, self.blur_kernel_size, low=1e-3, high=50.0
        )
        cross = at[1, 0] + at[0, 1] + at[-1, 0] + at[0, -1]
        # Keeps the Hessian invertible, as in MMPose.
        eps = torch.finfo(torch.float32).eps
        offset = refinement.newton_step(
            dx=0.5 * (at[1, 0] - at[-1, 0]),
            dy=0.5 * (at[0, 1] - at[0, -1]),
            dxx=at[1, 0] - 2 * at[0, 0] + at[-1, 0] + eps,
            dxy=0.5 * (at[1, 1] + at[-1, -1] + 2 * at[0, 0] - cross),
            dyy=at[0, 1] - 2 * at[0, 0] + at[0, -1] + eps,
        )
        return self._add_offset(x, y, offset), score

    def _locate_combined(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        _, C, H, W = heatmaps.shape
        disc, *offsets = heatmaps.view(-1, C // 3, 3, H, W).unbind(dim=2)
        disc = refinement.blur(disc, 2 * self.blur_kernel_size + 1, reflect=True)
        x, y, score = refinement.heatmap_maximum(disc)
        index = (y * W + x)[..., None]
        offset = [part.flatten(2).gather(2, index)[..., 0] for part in offsets]
        return torch.stack([x, y], dim=2) + self._radius * torch.stack(offset, dim=2), score

    def _to_input(self, positions: Tensor) -> Tensor:
        (W, H), (w, h) = self.heatmap_size, self.input_size
        x, y = positions.unbind(dim=2)
        return torch.stack([x / (W - 1) * w, y / (H - 1) * h], dim=2)
