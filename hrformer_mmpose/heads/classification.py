"""HRNet's classification head on the four maps of HRFormer (paper, section 4.3).

Parameter names equal those of the authors' checkpoints: `incre_modules`, `downsamp_modules`,
`final_layer`, `classifier`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from ..layers import Bottleneck
from ..layers.norm import build_batch_norm

WIDTHS = (32, 64, 128, 256)  # channels of the bottlenecks' inner maps
FEATURES = 2048


class ClassificationHead(nn.Module):
    """Bottlenecks to 128, 256, 512, 1024 channels, merge downwards, pool, classify.

    Args:
        in_channels: channels C_j of the four maps, highest resolution first.
        num_classes: K.
        label_smooth: label smoothing, in [0, 1).
        norm_cfg: see `build_batch_norm`.

    Raises:
        ConfigError: not four maps, or `label_smooth` outside its range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int = 1000,
        label_smooth: float = 0.0,
        norm_cfg: dict = dict(type='BN'),
    ):
        super().__init__()
        if len(in_channels) != len(WIDTHS):
            raise ConfigError(f'head: in_channels={in_channels!r} does not have four entries')
        if not 0 <= label_smooth < 1:
            raise ConfigError(f'head: label_smooth={label_smooth} is not in [0, 1)')
        self.num_classes = num_classes
        self.label_smooth = label_smooth
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, width, norm_cfg, depth_wise=True))
            for channels, width in zip(in_channels, WIDTHS, strict=True)
        )
        channels = [width * Bottleneck.expansion for width in WIDTHS]
        self.downsamp_modules = nn.ModuleList(
            _downsample(channels[i], channels[i + 1], norm_cfg) for i in range(len(channels) - 1)
        )
        self.final_layer = nn.Sequential(
            nn.Conv2d(channels[-1], FEATURES, 1), build_batch_norm(norm_cfg, FEATURES), nn.ReLU()
        )
        self.classifier = nn.Linear(FEATURES, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Four maps (B, C_j, H_j, W_j) -> logits (B, K)."""
        return self.classifier(self.features(maps).mean((2, 3)))

    def features(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Four maps (B, C_j, H_j, W_j) -> their union (B, 2048, H_4, W_4)."""
        x = self.incre_modules[0](maps[0])
        lower = zip(self.downsamp_modules, self.incre_modules[1:], maps[1:], strict=True)
        for downsample, increase, y in lower:
            x = increase(y) + downsample(x)
        return self.final_layer(x)

    def loss(self, maps: Sequence[torch.Tensor], target: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the cross entropy, and the accuracy for targets (B,).

        Args:
            maps: see `forward`.
            target: classes, (B,), or class probabilities of mixed images, (B, K).
        """
        logits = self(maps)
        losses = {'loss_cls': F.cross_entropy(logits, target, label_smoothing=self.label_smooth)}
        if target.ndim == 1:
            losses['acc_top1'] = (logits.detach().argmax(1) == target).float().mean()
        return losses


def _downsample(in_channels: int, out_channels: int, norm_cfg: dict) -> nn.Sequential:
    """Strided depth-wise 3x3 convolution and 1x1 convolution, each with BatchNorm, then ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, 2, 1, groups=in_channels),
        build_batch_norm(norm_cfg, in_channels),
        nn.Conv2d(in_channels, out_channels, 1),
        build_batch_norm(norm_cfg, out_channels),
        nn.ReLU(),
    )
