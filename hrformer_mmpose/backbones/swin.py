"""Swin without its shift, with or without a depth-wise convolution (paper, table 8: IntraWin)."""

import torch
from mmpose.models.backbones import SwinTransformer as _SwinTransformer
from mmpose.models.backbones.utils.ckpt_convert import swin_converter
from torch import nn

from ..checkpoint.pretrained import State, load_pretrained
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

    def init_weights(self) -> None:
        """Load the file of `init_cfg`, under MMPose's names or the authors'.

        MMPose's class loads nothing from the authors' files, which wrap the weights in `model`.

        Raises:
            WeightsError: it cannot be read or does not fit.
        """
        if not load_pretrained(self, _may_lack, _converted):
            super().init_weights()


def _may_lack(key: str) -> bool:
    """The norms of the outputs are MMPose's own; the convolution is not in Swin's files."""
    return key.startswith('norm') or '.ffn.layers.0.1.' in key


def _converted(state: State) -> State:
    if not any(key.startswith('layers.') for key in state):
        return state
    return {key.removeprefix('backbone.'): v for key, v in swin_converter(state).items()}


def _hand_size_over(block: nn.Module, args: tuple, kwargs: dict) -> None:
    size = kwargs['hw_shape'] if 'hw_shape' in kwargs else args[1]
    block.ffn.layers[0][1].size = tuple(size)
