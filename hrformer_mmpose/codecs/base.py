"""What the codecs here share: sizes, checks, and decoding of one person as a batch of one."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor

from ..errors import ConfigError
from .gaussian_heatmap import gaussian_windows


class HeatmapCodec(BaseKeypointCodec):
    """A codec of heatmaps that decodes a batch at once, on the heatmaps' device.

    Args:
        input_size: (w, h) of the image crop. heatmap_size: (W, H). sigma: of the Gaussian, in
            heatmap pixels. blur_kernel_size: of the blur before the refinement, odd.
        channels: maps a keypoint has.

    Attributes:
        shift_heatmap: whether the flip test must shift the mirrored heatmaps by a pixel.
        flip_mode: how `mmpose.models.utils.tta.flip_heatmaps` mirrors them.

    Raises:
        ConfigError: a value that cannot be used.
    """

    label_mapping_table = dict(keypoint_weights='keypoint_weights')
    field_mapping_table = dict(heatmaps='heatmaps')
    shift_heatmap: bool
    flip_mode = 'heatmap'

    def __init__(
        self,
        input_size: Sequence[int],
        heatmap_size: Sequence[int],
        sigma: float,
        blur_kernel_size: int,
        channels: int = 1,
    ):
        super().__init__()
        for name, size in (('input_size', input_size), ('heatmap_size', heatmap_size)):
            if len(size) != 2 or min(size) < 2:
                raise ConfigError(f'{self._name}: {name}={size} is not a (width, height)')
        if any(a < b for a, b in zip(input_size, heatmap_size, strict=True)):
            raise ConfigError(
                f'{self._name}: heatmap_size={heatmap_size} is larger than input_size={input_size}'
            )
        if not sigma > 0:
            raise ConfigError(f'{self._name}: sigma={sigma} is not positive')
        if blur_kernel_size < 1 or blur_kernel_size % 2 == 0:
            raise ConfigError(
                f'{self._name}: blur_kernel_size={blur_kernel_size} is not an odd number (11 for '
                'sigma 2, 17 for sigma 3)'
            )
        self.input_size, self.heatmap_size = tuple(input_size), tuple(heatmap_size)
        self.sigma = sigma
        self.blur_kernel_size = blur_kernel_size
        self._channels = channels

    @property
    def _name(self) -> str:
        return type(self).__name__

    def decode(self, encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heatmaps of one person.

        Args:
            encoded: (K, H, W); K channels.

        Returns:
            keypoints: (1, K, 2), in pixels of the input. scores: (1, K).
        """
        keypoints, scores = self.batch_decode(torch.from_numpy(np.ascontiguousarray(encoded))[None])
        return keypoints.numpy(), scores.numpy()

    @torch.no_grad()
    def batch_decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Heatmaps of a batch of persons.

        A keypoint whose map holds NaN or infinite values has score 0; it, and one whose map is
        nowhere positive, lies at pixel (-1, -1) of the heatmap, as in MMPose.

        Args:
            heatmaps: (B, K, H, W), of any floating type, on any device.

        Returns:
            keypoints: (B, K, 2), float32, in pixels of the input (as MMPose's codec of the same
            name understands them). scores: (B, K), float32, the height of the peaks.

        Raises:
            ConfigError: heatmaps of another shape than the codec's.
        """
        W, H = self.heatmap_size
        shape = tuple(heatmaps.shape)
        if len(shape) != 4 or shape[2:] != (H, W) or shape[1] % self._channels:
            wanted = f'(B, {"K" if self._channels == 1 else "3 K"}, {H}, {W})'
            raise ConfigError(f'{self._name}: heatmaps are {shape}, not {wanted}')
        peak, scores = self._peaks(heatmaps.float())
        found = scores > 0  # False for NaN
        peak = torch.where(found[..., None] & peak.isfinite(), peak, -1.0)
        return self._to_input(peak), torch.where(scores.isfinite(), scores, 0.0)

    @abstractmethod
    def _peaks(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> positions in heatmap pixels (B, K, 2), heights (B, K)."""

    @abstractmethod
    def _to_input(self, peak: Tensor) -> Tensor:
        """Heatmap pixels -> input pixels."""

    def _labelled(
        self, keypoints: np.ndarray, visible: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Copies of keypoints and weights; a keypoint of NaN or infinity has weight 0, place 0."""
        weights = np.ones(keypoints.shape[:2], np.float32) if visible is None else visible.copy()
        finite = np.isfinite(keypoints)
        weights[~finite.all(axis=-1)] = 0
        return np.where(finite, keypoints, 0), weights

    def _windows(self, centers: np.ndarray, middle: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Gaussians within three sigma of a pixel; the weight of one that misses the map becomes 0.

        Args:
            centers: (N, K, 2). middle: the pixels, (N, K, 2), integer. weights: (N, K), changed in
            place; below 0.5 nothing is drawn.
        """
        radius = 3 * self.sigma
        # MMPose rounds towards zero here.
        left, right = (middle - radius).astype(np.int64), (middle + radius + 1).astype(np.int64)
        missed = ((left >= self.heatmap_size) | (right < 0)).any(axis=-1)
        weights[missed & (weights >= 0.5)] = 0
        low = middle + math.floor(-radius)
        length = math.floor(radius + 1) - math.floor(-radius)
        return gaussian_windows(self.heatmap_size, centers, self.sigma, weights >= 0.5, low, length)

    def _refined(self, x: Tensor, y: Tensor, offset: Tensor, keep: Tensor) -> Tensor:
        """Pixels (B, K) plus their steps (M, 2), where `keep` (M,) says so."""
        reach = self.blur_kernel_size // 2
        # A step out of the blur's reach does not lead to this peak: there is no curvature.
        keep = keep & (offset.abs() <= max(reach, 1)).all(dim=1)
        offset = torch.where(keep[:, None], offset, 0.0).view(*x.shape, 2)
        return torch.stack([x, y], dim=2) + offset
