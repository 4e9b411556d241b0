"""Convolutional segmentation head on the four maps of HRFormer (paper, section 4.2).

Deviation from the paper: a convolutional classifier on the concatenated maps; `ocr.OCRHead` is the
paper's head.

Shapes: B batch, K classes, C_j, H_j and W_j of map j, highest resolution first.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import conv_norm
from .segmentation_loss import cross_entropy


def resize(x: torch.Tensor, size: Sequence[int], align_corners: bool = True) -> torch.Tensor:
    """Resize maps to `size` = (H, W), bilinearly."""
    return F.interpolate(x, tuple(size), mode='bilinear', align_corners=align_corners)


def concatenate(maps: Sequence[torch.Tensor], align_corners: bool = True) -> torch.Tensor:
    """Resize maps (B, C_j, H_j, W_j) to the first one's size; concatenate: (B, C, H_1, W_1)."""
    size = maps[0].shape[2:]
    return torch.cat([maps[0], *(resize(x, size, align_corners) for x in maps[1:])], 1)


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
        return self.classifier(self.merge(concatenate(maps, self.align_corners)))

    def loss(self, maps: Sequence[torch.Tensor], target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the cross entropy of all pixels.

        Args:
            maps: see `forward`.
            target: class of each pixel, or `ignore_index`, (B, H, W).
        """
        logits = resize(self(maps), target.shape[1:], self.align_corners)
        return {'loss_seg': cross_entropy(logits, target, ignore_index=self.ignore_index)}
