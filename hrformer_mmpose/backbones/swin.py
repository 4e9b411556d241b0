"""Swin without shifted windows, optionally with depth-wise convolution (paper, table 8)."""

import torch
from mmpose.models.backbones import SwinTransformer as _SwinTransformer
from mmpose.models.backbones.utils.ckpt_convert import swin_converter
from torch import nn

from ..checkpoint.pretrained import State, load_pretrained
from ..registry import MODELS


class TokenDepthWiseConv(nn.Module):
    """3x3 depth-wise convolution of tokens.

    MMPose's FFN receives tokens only. A hook of the block sets `size` = (H, W) before each call.

    Args:
        channels: C.
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
    """MMPose's Swin with optional shift and depth-wise convolution.

    Args:
        args: see MMPose's class.
        shift: shift the windows of every second block; False is the paper's IntraWin.
        with_dwconv: 3x3 depth-wise convolution after the first linear layer of each FFN.
        kwargs: see MMPose's class.
    """

    def __init__(self, *args, shift: bool = True, with_dwconv: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        for block in (block for stage in self.stages for block in stage.blocks):
            if not shift:
                block.attn.shift_size = 0
            if with_dwconv:
                first = block.ffn.layers[0]
                first.insert(1, TokenDepthWiseConv(first[0].out_features))
                block.register_forward_pre_hook(_set_size, with_kwargs=True)

    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`, with MMPose's or the authors' names.

        MMPose's class skips the authors' files, which wrap the weights in `model`.

        Raises:
            WeightsError: the file cannot be read or does not fit.
        """
        if not load_pretrained(self, _is_optional, _to_mmpose):
            super().init_weights()


def _is_optional(key: str) -> bool:
    """Return whether Swin's files may lack a key: MMPose's output norms, the convolution."""
    return key.startswith('norm') or '.ffn.layers.0.1.' in key


def _to_mmpose(state: State) -> State:
    if not any(key.startswith('layers.') for key in state):
        return state
    return {key.removeprefix('backbone.'): v for key, v in swin_converter(state).items()}


def _set_size(block: nn.Module, args: tuple, kwargs: dict) -> None:
    size = kwargs['hw_shape'] if 'hw_shape' in kwargs else args[1]
    block.ffn.layers[0][1].size = tuple(size)
