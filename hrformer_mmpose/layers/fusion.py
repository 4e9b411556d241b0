"""HRNet's convolutional parts of HRFormer: residual units, transitions, multi-scale fusion.

As in HRFormer's published code, the fusion downsamples by strided depth-wise and point-wise
convolutions and upsamples by a 1x1 convolution and interpolation (paper, section 3.2). One
deviation: maps are upsampled to the size of the target map instead of by a fixed factor, so that
any input size works. At multiples of 32 both are equal.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from .norm import build_batch_norm
from .window import map_size


def conv_norm(
    in_channels: int,
    out_channels: int,
    norm_cfg: dict,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    conv: type[nn.Conv2d] = nn.Conv2d,
) -> list[nn.Module]:
    """Convolution without bias, padded by half its kernel, and BatchNorm."""
    layer = conv(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [layer, build_batch_norm(norm_cfg, out_channels)]


class Bottleneck(nn.Module):
    """ResNet's bottleneck, 1x1 -> 3x3 -> 1x1 with an expansion of 4, as in HRNet's stage 1.

    Args:
        in_channels: channels of the input.
        channels: channels of the inner maps; the output has 4 times as many.
        norm_cfg: see `build_batch_norm`.
        depth_wise: make the 3x3 convolution depth-wise, as in the classification head.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict, depth_wise: bool = False):
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1, self.bn1 = conv_norm(in_channels, channels, norm_cfg, 1)
        groups = channels if depth_wise else 1
        self.conv2, self.bn2 = conv_norm(channels, channels, norm_cfg, 3, groups=groups)
        self.conv3, self.bn3 = conv_norm(channels, out_channels, norm_cfg, 1)
        self.downsample = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(*conv_norm(in_channels, out_channels, norm_cfg, 1))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, 4 * channels, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class BasicBlock(nn.Module):
    """HRNet's residual unit of two 3x3 convolutions (paper, table 11).

    Args:
        channels: channels of input and output, C.
        norm_cfg: see `build_batch_norm`.
    """

    def __init__(self, channels: int, norm_cfg: dict):
        super().__init__()
        self.conv1, self.bn1 = conv_norm(channels, channels, norm_cfg, 3)
        self.conv2, self.bn2 = conv_norm(channels, channels, norm_cfg, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


def build_transition(
    in_channels: tuple[int, ...], out_channels: tuple[int, ...], norm_cfg: dict
) -> nn.ModuleList:
    """Build the layers between the branches of one stage and those of the next.

    Args:
        in_channels: channels of each map of the stage, highest resolution first.
        out_channels: channels of each map of the next stage.
        norm_cfg: see `build_batch_norm`.

    Returns:
        One entry a branch of the next stage: None (unchanged), a 3x3 convolution (other channels),
        or strided 3x3 convolutions from the lowest-resolution map (new branch).
    """
    layers = []
    for i, channels in enumerate(out_channels):
        if i >= len(in_channels):
            steps = i + 1 - len(in_channels)
            widths = [in_channels[-1]] * steps + [channels]
            convs = (_conv3x3(widths[k], widths[k + 1], norm_cfg, 2) for k in range(steps))
            layers.append(nn.Sequential(*convs))
        elif channels != in_channels[i]:
            layers.append(_conv3x3(in_channels[i], channels, norm_cfg))
        else:
            layers.append(None)
    return nn.ModuleList(layers)


def _conv3x3(in_channels: int, channels: int, norm_cfg: dict, stride: int = 1) -> nn.Sequential:
    conv = conv_norm(in_channels, channels, norm_cfg, 3, stride)
    return nn.Sequential(*conv, nn.ReLU(inplace=True))


def _interpolate(x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    # On GPUs autocast would return float32, and all blocks behind would compute in it. The kernels
    # interpolate in float32 anyway.
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, *args, **kwargs)


_bilinear = functools.partial(_interpolate, mode='bilinear', align_corners=False)
_bilinear_aligned = functools.partial(_interpolate, mode='bilinear', align_corners=True)


def _nearest(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    # The power of two between the two resolutions; sizes that are not multiples were rounded up.
    factor = max(2 ** math.ceil(math.log2(n / m)) for n, m in zip(size, x.shape[2:], strict=True))
    x = _interpolate(x, scale_factor=factor, mode='nearest')
    return x if x.shape[2:] == size else _bilinear_aligned(x, size)


# (x (B, C, h, w), size (H, W)) -> (B, C, H, W)
# 'bilinear': the pose networks, MMPose's and the authors'.
# 'bilinear_aligned': MMPose's class with upsample=dict(mode='bilinear', align_corners=True).
# 'nearest': the authors' classification and segmentation networks. Their code upsamples by nearest
#     neighbour, then interpolates bilinearly with aligned corners to the size of the target. The
#     second step has an effect only if sizes were rounded.
UPSAMPLE = dict(bilinear=_bilinear, bilinear_aligned=_bilinear_aligned, nearest=_nearest)


class MultiScaleFusion(nn.ModuleList):
    """Exchange between resolutions: each output is the ReLU of the sum of all resampled maps.

    Entry [i][j] converts map j to the channels and (downwards) the size of map i; None if i == j.

    Args:
        channels: channels of each map, highest resolution first.
        num_outputs: number of output maps, highest resolution first.
        norm_cfg: see `build_batch_norm`.
        upsample: interpolation, a key of `UPSAMPLE`.
        depthwise_conv: class of the strided depth-wise convolutions.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        num_outputs: int,
        norm_cfg: dict,
        upsample: str,
        depthwise_conv: type[nn.Conv2d] = nn.Conv2d,
    ):
        rows = [
            nn.ModuleList(
                _fusion_path(channels, j, i, norm_cfg, depthwise_conv) for j in range(len(channels))
            )
            for i in range(num_outputs)
        ]
        super().__init__(rows)
        self.upsample = upsample

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of (B, C_i, H_i, W_i)."""
        return [self._fuse(maps, i, row) for i, row in enumerate(self)]

    def _fuse(self, maps: list[torch.Tensor], i: int, row: nn.ModuleList) -> torch.Tensor:
        size = map_size(maps[i].shape[2:])
        total = None
        for j, path in enumerate(row):
            y = maps[j] if path is None else path(maps[j])
            if j > i:
                y = UPSAMPLE[self.upsample](y, size)
            total = y if total is None else total + y
        return F.relu(total)


def _fusion_path(
    channels: tuple[int, ...], j: int, i: int, norm_cfg: dict, depthwise_conv: type[nn.Conv2d]
) -> nn.Module | None:
    """Convolutions from map j to map i, without the interpolation."""
    if j == i:
        return None
    if j > i:
        return nn.Sequential(*conv_norm(channels[j], channels[i], norm_cfg, 1))
    steps = []
    for k in range(j + 1, i + 1):
        out_channels = channels[i] if k == i else channels[j]
        depth_wise = conv_norm(
            channels[j], channels[j], norm_cfg, 3, 2, channels[j], depthwise_conv
        )
        point_wise = conv_norm(channels[j], out_channels, norm_cfg, 1)
        relu = [] if k == i else [nn.ReLU()]  # the last step's ReLU follows the sum
        steps.append(nn.Sequential(*depth_wise, *point_wise, *relu))
    return nn.Sequential(*steps)
