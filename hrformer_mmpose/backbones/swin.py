"""Swin without its shift, with or without a depth-wise convolution (paper, table 8: IntraWin)."""

import torch
from mmpose.models.backbones import SwinTransformer as _SwinTransformer
from torch import nn

from ..registry import MODELS


class TokensDepthWise(nn.Module):
    """3x3 depth-wise convolution of tokens (B, H * W, C); `size` = (H, W) is set before each call.

    MMPose's FFN is called with the tokens alone, so that the block hands their map's size over.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.size: tuple[int, int] = (0, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H * W, C) -> (B, H * W, C)."""
        x = x.transpose(1, 2).unflatten(2, self.size)
        return self.conv(x).flatten(2).transpose(1, 2)


@MODELS.register_module()
class SwinTransformer(_SwinTransformer):
    """MMPose's Swin, whose windows need not shift.

    Args:
        shift: shift every second block's windows, as Swin does; False makes IntraWin.
        with_dwconv: a 3x3 depth-wise convolution behind the first linear layer of each FFN.
        args, kwargs: as MMPose's class takes them.
    """

    def __init__(self, *args, shift: bool = True, with_dwconv: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        for block in (block for stage in self.stages for block in stage.blocks):
            if not shift:
                block.attn.shift_size = 0
            if with_dwconv:
                first = block.ffn.layers[0]
                first.insert(1, TokensDepthWise(first[0].out_features))
                block.register_forward_pre_hook(_hand_size_over, with_kwargs=True)


def _hand_size_over(block: nn.Module, args: tuple, kwargs: dict) -> None:
    size = kwargs['hw_shape'] if 'hw_shape' in kwargs else args[1]
    block.ffn.layers[0][1].size = tuple(size)
