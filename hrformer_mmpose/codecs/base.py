"""Base class of the heatmap codecs: checks of arguments, decoding in batches."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor

from ..errors import ConfigError


class HeatmapCodec(BaseKeypointCodec):
    """Heatmap codec that decodes a batch at once, on the heatmaps' device.

    Args:
        input_size: size of the image crop, (w, h).
        heatmap_size: (W, H).
        sigma: standard deviation of the Gaussian, in heatmap pixels.
        blur_kernel_size: size of the blur before the refinement, in heatmap pixels, odd.
        channels: number of maps a keypoint.

    Attributes:
        shift_heatmap: shift mirrored heatmaps by a pixel in the flip test.
        flip_mode: argument of `mmpose.models.utils.tta.flip_heatmaps`.

    Raises:
        ConfigError: an invalid argument.
    """

    label_mapping_table = dict(keypoint_weights='keypoint_weights')
    field_mapping_table = dict(heatmaps='heatmaps')
    shift_heatmap: bool
    scale_factor: np.ndarray  # input pixels a heatmap pixel, (2), set by subclasses
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

    def encode(
        self, keypoints: np.ndarray, keypoints_visible: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Encode keypoints as target heatmaps.

        Args:
            keypoints: (N, K, 2), in input pixels.
            keypoints_visible: (N, K), 1 by default. Keypoints below 0.5 have no target.
                Keypoints with NaN or infinite coordinates count as invisible.

        Returns:
            heatmaps: (K, H, W), or (3 K, H, W) for UDP's 'combined', float32.
            keypoint_weights: (N, K), the visibility; 0 if the Gaussian is outside the map (for
                UDP's 'combined' it stays, as in MMPose).
        """
        weights = np.ones(keypoints.shape[:2], np.float32)
        if keypoints_visible is not None:
            weights = keypoints_visible.copy()
        finite = np.isfinite(keypoints)
        weights[~finite.all(axis=-1)] = 0
        centers = np.where(finite, keypoints, 0) / self.scale_factor
        return dict(heatmaps=self._draw(centers, weights), keypoint_weights=weights)

    def decode(self, encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode the heatmaps of one person.

        Args:
            encoded: (K, H, W).

        Returns:
            keypoints: (1, K, 2), in input pixels.
            scores: (1, K).
        """
        keypoints, scores = self.batch_decode(torch.from_numpy(np.ascontiguousarray(encoded))[None])
        return keypoints.numpy(), scores.numpy()

    @torch.no_grad()
    def batch_decode(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the heatmaps of a batch of persons.

        Maps with NaN or infinite values have score 0. Their keypoints, and those of maps without a
        positive value, are at heatmap pixel (-1, -1), as in MMPose.

        Args:
            heatmaps: (B, K, H, W), any floating-point dtype.

        Returns:
            keypoints: (B, K, 2), float32, in input pixels as defined by MMPose's codec.
            scores: maxima of the maps, (B, K), float32.

        Raises:
            ConfigError: the shape of `heatmaps` does not fit the codec.
        """
        W, H = self.heatmap_size
        shape = tuple(heatmaps.shape)
        if len(shape) != 4 or shape[2:] != (H, W) or shape[1] % self._channels:
            expected = f'(B, {"K" if self._channels == 1 else "3 K"}, {H}, {W})'
            raise ConfigError(f'{self._name}: heatmaps are {shape}, not {expected}')
        # Under autocast the blur would be computed in half precision: up to 1.6 pixels off.
        with torch.autocast(heatmaps.device.type, enabled=False):
            positions, scores = self._locate(heatmaps.float())
        is_positive = scores > 0  # False for NaN
        positions = torch.where(is_positive[..., None] & positions.isfinite(), positions, -1.0)
        return self._to_input(positions), torch.where(scores.isfinite(), scores, 0.0)

    @abstractmethod
    def _draw(self, centers: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Draw target heatmaps.

        Args:
            centers: keypoints in heatmap pixels, (N, K, 2).
            weights: (N, K), modified in place: 0 for keypoints that are not drawn.

        Returns:
            (K, H, W) or (3 K, H, W), float32.
        """

    @abstractmethod
    def _locate(self, heatmaps: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> positions in heatmap pixels (B, K, 2), scores (B, K)."""

    @abstractmethod
    def _to_input(self, positions: Tensor) -> Tensor:
        """Convert heatmap pixels to input pixels, (B, K, 2) -> (B, K, 2)."""

    def _add_offset(
        self, x: Tensor, y: Tensor, offset: Tensor, is_inside: Tensor | None = None
    ) -> Tensor:
        """Add Newton steps to pixels.

        Args:
            x: (B, K).
            y: (B, K).
            offset: steps in heatmap pixels, (B * K, 2).
            is_inside: (B, K), False for pixels that stay as they are.

        Returns:
            (B, K, 2).
        """
        # A step beyond the reach of the blur comes from a map without curvature.
        reach = max(self.blur_kernel_size // 2, 1)
        is_valid = (offset.abs() <= reach).all(dim=1)
        if is_inside is not None:
            is_valid = is_valid & is_inside.flatten()
        # The batch size stays open in exported graphs, also of transformers, whose traced shapes
        # are constant.
        offset = torch.where(is_valid[:, None], offset, 0.0).view(-1, x.shape[1], 2)
        return torch.stack([x, y], dim=2) + offset
