"""Segmentation head on the four maps of HRFormer (paper, section 4.2).

Deviation from the paper: a convolutional classifier on the concatenated maps instead of OCR.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import conv_norm


class SegmentationHead(nn.Module):
    """Upsample all maps to the highest resolution, concatenate them, classify by 1x1 convolutions.

    Args:
        in_channels: channels C_j of the maps, highest resolution first.
        num_classes: K.
        channels: channels between the two convolutions.
        align_corners: argument of the interpolation; True in the authors' code.
        norm_cfg: see `build_batch_norm`.
        ignore_index: label of pixels that the loss ignores.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        channels: int = 256,
        align_corners: bool = True,
        norm_cfg: dict = dict(type='BN'),
        ignore_index: int = 255,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.align_corners = align_corners
        self.merge = nn.Sequential(*conv_norm(sum(in_channels), channels, norm_cfg, 1), nn.ReLU())
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Maps (B, C_j, H_j, W_j) -> logits (B, K, H_1, W_1)."""
        size = maps[0].shape[2:]
        maps = [maps[0], *(self._resize(x, size) for x in maps[1:])]
        return self.classifier(self.merge(torch.cat(maps, 1)))

    def predict(self, maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """Predict the class of each pixel of images of `size` = (H, W), (B, H, W)."""
        return self._resize(self(maps), size).argmax(1)

    def loss(self, maps: Sequence[torch.Tensor], target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the cross entropy of all pixels.

        Args:
            maps: see `forward`.
            target: class of each pixel, or `ignore_index`, (B, H, W).
        """
        logits = self._resize(self(maps), target.shape[1:])
        return {'loss_seg': F.cross_entropy(logits, target, ignore_index=self.ignore_index)}

    def _resize(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(x, size, mode='bilinear', align_corners=self.align_corners)
