"""Semantic segmentation on the four maps of HRFormer (paper, section 4.2).

The paper puts OCR on top of the concatenated maps; here a plain convolutional classifier stands in
its place.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import conv_norm


class SegmentationHead(nn.Module):
    """Lower maps brought to the highest one's size, all concatenated, 1x1, 1x1 to the classes.

    Args:
        in_channels: C_j of the maps, highest resolution first.
        num_classes: K.
        channels: width between the two convolutions.
        align_corners: of the interpolation; True in the authors' code.
        norm_cfg: see `build_batch_norm`.
        ignore_index: label of pixels that do not count.
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
        maps = [maps[0], *(self._resized(x, size) for x in maps[1:])]
        return self.classifier(self.merge(torch.cat(maps, 1)))

    def predict(self, maps: Sequence[torch.Tensor], size: tuple[int, int]) -> torch.Tensor:
        """Classes of an image of `size`, (B, H, W)."""
        return self._resized(self(maps), size).argmax(1)

    def loss(self, maps: Sequence[torch.Tensor], target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cross entropy of every pixel.

        Args:
            maps: see `forward`.
            target: (B, H, W), classes of pixels, or `ignore_index`.
        """
        logits = self._resized(self(maps), target.shape[1:])
        return {'loss_seg': F.cross_entropy(logits, target, ignore_index=self.ignore_index)}

    def _resized(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(x, size, mode='bilinear', align_corners=self.align_corners)
