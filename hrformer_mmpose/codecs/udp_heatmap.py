"""Unbiased data processing (UDP, arXiv 1911.07524): pixels are points, lengths are between them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..registry import KEYPOINT_CODECS
from . import refinement as peaks
from .base import HeatmapCodec
from .gaussian_heatmap import offset_maps

TYPES = ('gaussian', 'combined')


@KEYPOINT_CODECS.register_module()
class UDPHeatmap(HeatmapCodec):
    """`mmpose.UDPHeatmap`: the same figures, for all keypoints and persons at once.

    'gaussian': a Gaussian around the keypoint itself; decoding follows a Taylor expansion of the
    blurred map's logarithm. 'combined': a disc, and two maps that point to its centre.

    UDP measures from the first pixel's centre to the last one's: W pixels are W - 1 units. `encode`
    therefore takes keypoints of a crop made by `TopdownAffine(use_udp=True)`; `decode` returns them
    as MMPose's estimators turn them into the image's, in units of the crop's whole width, w / (w -
    1) times as large.

    Args:
        input_size: (w, h) of the crop. heatmap_size: (W, H).
        heatmap_type: 'gaussian' or 'combined'. sigma: of the Gaussian, in heatmap pixels.
        radius_factor: radius of the disc, as a fraction of the heatmap's longer side.
        blur_kernel_size: of the blur before the refinement; 11 for sigma 2, 17 for sigma 3. Twice
            as large (and one more) for the disc.

    Raises:
        ConfigError: a value that cannot be used.
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
        self.flip_mode = 'udp_combined' if combined else 'heatmap'
        self.scale_factor = ((np.array(input_size) - 1) / (np.array(heatmap_size) - 1)).astype(
            np.float32
        )

    def encode(
        self, keypoints: np.ndarray, keypoints_visible: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Keypoints to target heatmaps.

        Args:
            keypoints: (N, K, 2), in pixels of the input.
            keypoints_visible: (N, K); below 0.5 the map stays empty. All, by default, but those
                whose coordinates are NaN or infinite.

        Returns:
            heatmaps: (K, H, W), or (3 K, H, W) when combined; float32. keypoint_weights: (N, K),
            the visibility, 0 where a Gaussian lies outside of the map.
        """
        keypoints, weights = self._labelled(keypoints, keypoints_visible)
        centers = keypoints / self.scale_factor
        if self.heatmap_type == 'combined':
            heatmaps = offset_maps(self.heatmap_size, centers, self._radius, weights >= 0.5)
        else:
            heatmaps = self._windows(centers, (centers + 0.5).astype(np.int64), weights)
        return dict(heatmaps=heatmaps, keypoint_weights=weights)

    @property
    def _radius(self) -> float:
        return self.radius_factor * max(self.heatmap_size)

    def _peaks(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        if self.heatmap_type == 'combined':
            return self._combined(heatmaps)
        x, y, score = peaks.find(heatmaps)
        log = peaks.log_around(
            heatmaps.flatten(0, 1), x.flatten(), y.flatten(), 1, self.blur_kernel_size,
            floor=1e-3, top=50.0,
        )  # fmt: skip
        at = {(i, j): log[:, 1 + j, 1 + i] for i in (-1, 0, 1) for j in (-1, 0, 1)}
        cross = at[1, 0] + at[0, 1] + at[-1, 0] + at[0, -1]
        # The reference keeps the matrix invertible in this way.
        eps = torch.finfo(torch.float32).eps
        offset = peaks.step(
            dx=0.5 * (at[1, 0] - at[-1, 0]),
            dy=0.5 * (at[0, 1] - at[0, -1]),
            dxx=at[1, 0] - 2 * at[0, 0] + at[-1, 0] + eps,
            dxy=0.5 * (at[1, 1] + at[-1, -1] + 2 * at[0, 0] - cross),
            dyy=at[0, 1] - 2 * at[0, 0] + at[0, -1] + eps,
        )
        return self._refined(x, y, offset, torch.ones_like(x, dtype=torch.bool).flatten()), score

    def _combined(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        B, C, H, W = heatmaps.shape
        disc, *offsets = heatmaps.view(B, C // 3, 3, H, W).unbind(dim=2)
        x, y, score = peaks.find(peaks.blur(disc, 2 * self.blur_kernel_size + 1, reflect=True))
        index = (y * W + x)[..., None]
        offset = [part.flatten(2).gather(2, index)[..., 0] for part in offsets]
        return torch.stack([x, y], dim=2) + self._radius * torch.stack(offset, dim=2), score

    def _to_input(self, peak: Tensor) -> Tensor:
        last = torch.tensor(self.heatmap_size, device=peak.device) - 1
        return peak / last * torch.tensor(self.input_size, device=peak.device)
