"""HRNet's classification head without the classifier, as PRTR's neck.

Parameter names equal those of HRNet's and PRTR's authors: `incre_modules`, `downsamp_modules`,
`final_layer`. `heads/classification.py` is HRFormer's version, with depth-wise convolutions.
"""

import re
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import nn

from ..checkpoint.pretrained import State, load_pretrained
from ..errors import ConfigError
from ..layers import Bottleneck
from ..layers.norm import build_batch_norm
from ..registry import MODELS

WIDTHS = (32, 64, 128, 256)  # channels of the bottlenecks' inner maps


@MODELS.register_module()
class HRFuseScales(BaseModule):
    """Bottlenecks to 128, 256, 512, 1024 channels, merge downwards, 1x1 convolution.

    Args:
        in_channels: channels C_j of the four maps, highest resolution first.
        out_channels: channels of the output, D.
        norm_cfg: see `build_batch_norm`.
        init_cfg: MMEngine's. A `Pretrained` file has the names of HRNet's authors, or those of
            MMPretrain's class of this name.

    Raises:
        ConfigError: not four maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 2048,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg)
        if len(in_channels) != len(WIDTHS):
            raise ConfigError(f'neck: in_channels={in_channels!r} does not have four entries')
        channels = [width * Bottleneck.expansion for width in WIDTHS]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, width, norm_cfg))
            for channels, width in zip(in_channels, WIDTHS, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _conv(channels[i], channels[i + 1], 3, 2, norm_cfg) for i in range(len(channels) - 1)
        )
        self.final_layer = _conv(channels[-1], out_channels, 1, 1, norm_cfg)

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor]:
        """Four maps (B, C_j, H_j, W_j) -> ((B, D, H_4, W_4),)."""
        x = self.incre_modules[0](maps[0])
        lower = zip(self.downsamp_modules, self.incre_modules[1:], maps[1:], strict=True)
        for downsample, increase, y in lower:
            x = increase(y) + downsample(x)
        return (self.final_layer(x),)

    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`.

        Raises:
            WeightsError: the file cannot be read or does not fit.
        """
        with torch.no_grad():  # MMPretrain's class has no biases before BatchNorm
            for name, parameter in self.named_parameters():
                if _is_conv_bias(name):
                    parameter.zero_()
        if not load_pretrained(self, _is_conv_bias, _from_mmpretrain, prefix='neck.'):
            super().init_weights()


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int, norm_cfg: dict):
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2),
        build_batch_norm(norm_cfg, out_channels),
        nn.ReLU(),
    )


def _is_conv_bias(name: str) -> bool:
    return re.fullmatch(r'(downsamp_modules\.\d|final_layer)\.0\.bias', name) is not None


def _from_mmpretrain(state: State) -> State:
    """Convert MMPretrain's names; others stay."""
    rules = (
        (r'^increase_layers\.', 'incre_modules.'),
        (r'^downsample_layers\.', 'downsamp_modules.'),
        (r'^(downsamp_modules\.\d|final_layer)\.conv\.', r'\1.0.'),
        (r'^(downsamp_modules\.\d|final_layer)\.bn\.', r'\1.1.'),
    )
    renamed = {}
    for key, value in state.items():
        for pattern, name in rules:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    return renamed
