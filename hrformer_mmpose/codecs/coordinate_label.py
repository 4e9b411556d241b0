"""Coordinates as PRTR's authors encode them (Li et al., CVPR 2021)."""

from collections.abc import Sequence

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor

from ..errors import ConfigError
from ..registry import KEYPOINT_CODECS


@KEYPOINT_CODECS.register_module()
class CoordinateLabel(BaseKeypointCodec):
    """Coordinates in units of the crop's size.

    Two differences to `mmpose.RegressionLabel`: keypoints outside the crop count, and keypoints
    without a label are at (0, 0), which the matching of queries and keypoints sees.

    Args:
        input_size: size of the image crop, (w, h).

    Raises:
        ConfigError: `input_size` is not a size.
    """

    label_mapping_table = dict(
        keypoint_labels='keypoint_labels', keypoint_weights='keypoint_weights'
    )

    def __init__(self, input_size: Sequence[int]):
        super().__init__()
        if len(input_size) != 2 or min(input_size) < 2:
            raise ConfigError(f'CoordinateLabel: input_size={input_size} is not a (width, height)')
        self.input_size = tuple(input_size)

    def encode(
        self, keypoints: np.ndarray, keypoints_visible: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Encode keypoints as coordinates.

        Args:
            keypoints: (N, K, 2), in input pixels.
            keypoints_visible: (N, K), 1 by default; 0 for keypoints without a label. Keypoints
                with NaN or infinite coordinates have none.

        Returns:
            keypoint_labels: (N, K, 2), float32.
            keypoint_weights: (N, K), float32, 1 or 0.
        """
        has_label = np.isfinite(keypoints).all(axis=-1)
        if keypoints_visible is not None:
            has_label &= keypoints_visible > 0
        labels = np.where(has_label[..., None], keypoints / np.array(self.input_size), 0)
        return dict(
            keypoint_labels=labels.astype(np.float32),
            keypoint_weights=has_label.astype(np.float32),
        )

    def decode(self, encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode coordinates and scores (K, 3) to keypoints (1, K, 2), scores (1, K)."""
        keypoints, scores = self.batch_decode(torch.from_numpy(np.ascontiguousarray(encoded))[None])
        return keypoints.numpy(), scores.numpy()

    def batch_decode(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Decode coordinates and scores (B, K, 3).

        Returns:
            keypoints: (B, K, 2), in input pixels.
            scores: (B, K).
        """
        w, h = self.input_size
        x, y, scores = encoded.unbind(dim=2)
        return torch.stack([x * w, y * h], dim=2), scores
