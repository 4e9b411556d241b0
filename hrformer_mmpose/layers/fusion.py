"""HRNet's convolutional parts that HRFormer keeps: bottlenecks, transitions, multi-scale fusion.

As in HRFormer's published code the fusion goes down by strided depth-wise and point-wise
convolutions, and up by a 1x1 convolution and bilinear interpolation (paper, section 3.2).
Deviation from it: maps are upsampled to the size of the target map, not by a fixed factor, so that
any input size works; at multiples of 32 the two are the same.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from .norm import build_batch_norm
from .window import map_size


def conv_norm(
    in_channels: int, out_channels: int, norm_cfg: dict, kernel: int, stride: int = 1, groups=1
) -> list[nn.Module]:
    """Convolution without bias, padded to keep the size (over `stride`), and its BatchNorm."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
    )
    return [conv, build_batch_norm(norm_cfg, out_channels)]


class Bottleneck(nn.Module):
    """ResNet's bottleneck, 1x1 -> 3x3 -> 1x1 with a 4-fold expansion, as HRNet's stage 1 uses it.

    Args:
        in_channels: channels of the input.
        channels: width of the inner maps; the output has 4 times as many.
        norm_cfg: see `build_batch_norm`.
        depth_wise: the 3x3 convolution is depth-wise, as in the classification head.
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
    """Two 3x3 convolutions and a shortcut: HRNet's residual unit (paper, table 11).

    Args:
        channels: C of input and output. norm_cfg: see `build_batch_norm`.
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
    """Lead from the branches of one stage to those of the next.

    Entry i is None (branch i goes on as it is), a 3x3 convolution (its width changes), or, for a
    branch that begins here, strided 3x3 convolutions from the lowest map there was.
    """
    layers = []
    for i, channels in enumerate(out_channels):
        if i >= len(in_channels):
            steps = i + 1 - len(in_channels)
            widths = [in_channels[-1]] * steps + [channels]
            layers.append(
                nn.Sequential(*(_strided(widths[k : k + 2], norm_cfg) for k in range(steps)))
            )
        elif channels != in_channels[i]:
            conv = conv_norm(in_channels[i], channels, norm_cfg, 3)
            layers.append(nn.Sequential(*conv, nn.ReLU(inplace=True)))
        else:
            layers.append(None)
    return nn.ModuleList(layers)


def _strided(widths: list[int], norm_cfg: dict) -> nn.Sequential:
    conv = conv_norm(widths[0], widths[1], norm_cfg, 3, stride=2)
    return nn.Sequential(*conv, nn.ReLU(inplace=True))


def _bilinear(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(x, size, mode='bilinear', align_corners=False)


def _bilinear_aligned(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(x, size, mode='bilinear', align_corners=True)


def _nearest(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    # The power of two that leads from one map to the other, whatever rows were rounded up.
    factor = max(2 ** round(math.log2(n / m)) for n, m in zip(size, x.shape[2:], strict=True))
    x = F.interpolate(x, scale_factor=factor, mode='nearest')
    return x if x.shape[2:] == size else _bilinear_aligned(x, size)


# (x (B, C, h, w), size (H, W)) -> (B, C, H, W)
# 'bilinear': the pose networks, MMPose's and the authors'.
# 'bilinear_aligned': MMPose's class with upsample=dict(mode='bilinear', align_corners=True).
# 'nearest': the authors' classification and segmentation networks. Their code enlarges by the
#     nearest neighbour and then interpolates bilinearly with aligned corners to the size that the
#     map has by then, so that only where sizes were rounded does the second step change anything.
UPSAMPLE = dict(bilinear=_bilinear, bilinear_aligned=_bilinear_aligned, nearest=_nearest)


class MultiScaleFusion(nn.ModuleList):
    """Each output map is the ReLU of the sum of all maps, brought to its size and width.

    Entry [i][j] leads from map j to map i and is None where i == j.

    Args:
        channels: width of each map, highest resolution first.
        num_outputs: how many maps to make, highest resolution first.
        norm_cfg: see `build_batch_norm`.
        upsample: how a map gets the size of a larger one, an entry of `UPSAMPLE`.
    """

    def __init__(self, channels: tuple[int, ...], num_outputs: int, norm_cfg: dict, upsample: str):
        rows = [
            nn.ModuleList(_fusion_path(channels, j, i, norm_cfg) for j in range(len(channels)))
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


def _fusion_path(channels: tuple[int, ...], j: int, i: int, norm_cfg: dict) -> nn.Module | None:
    """What leads from map j to map i, the interpolation aside."""
    if j == i:
        return None
    if j > i:
        return nn.Sequential(*conv_norm(channels[j], channels[i], norm_cfg, 1))
    steps = []
    for k in range(j + 1, i + 1):
        out_channels = channels[i] if k == i else channels[j]
        depth_wise = conv_norm(channels[j], channels[j], norm_cfg, 3, 2, groups=channels[j])
        point_wise = conv_norm(channels[j], out_channels, norm_cfg, 1)
        # The last step has no ReLU of its own: it follows the sum.
        relu = [] if k == i else [nn.ReLU()]
        steps.append(nn.Sequential(*depth_wise, *point_wise, *relu))
    return nn.Sequential(*steps)
