"""Normalisation layers from MMPose's `norm_cfg` dictionaries, without needing mmcv."""

import torch
from torch import nn

from ..errors import ConfigError


class SyncBatchNorm(nn.SyncBatchNorm):
    """`nn.SyncBatchNorm` that also runs on the CPU.

    PyTorch synchronises statistics on accelerators only and refuses CPU tensors as soon as a
    process group exists. On the CPU every process here normalises with its own batch's statistics,
    which is what plain BatchNorm does, so that a config written for a cluster runs on a laptop.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise `x` of shape (B, C, H, W)."""
        if x.device.type == 'cpu':
            return nn.BatchNorm2d.forward(self, x)
        return super().forward(x)


BATCH_NORMS = {'BN': nn.BatchNorm2d, 'BN2d': nn.BatchNorm2d, 'SyncBN': SyncBatchNorm}


def build_batch_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build a BatchNorm over `channels` maps.

    Args:
        norm_cfg: `type` is one of 'BN', 'BN2d' and 'SyncBN'; `requires_grad=False` freezes scale
            and shift; every other entry (`eps`, `momentum`, ...) goes to the layer.
        channels: number of maps, C.

    Raises:
        ConfigError: `type` is missing or none of the above.
    """
    cfg = dict(norm_cfg)
    kind = cfg.pop('type', None)
    if kind not in BATCH_NORMS:
        raise ConfigError(f'norm_cfg: type={kind!r} is not one of {", ".join(BATCH_NORMS)}')
    requires_grad = cfg.pop('requires_grad', True)
    norm = BATCH_NORMS[kind](channels, **cfg)
    norm.requires_grad_(requires_grad)
    return norm


def build_layer_norm(norm_cfg: dict, channels: int) -> nn.LayerNorm:
    """Build the LayerNorm of a transformer block from `dict(type='LN', eps=...)`.

    Raises:
        ConfigError: `type` is not 'LN'.
    """
    cfg = dict(norm_cfg)
    kind = cfg.pop('type', None)
    if kind != 'LN':
        raise ConfigError(f"transformer_norm_cfg: type={kind!r} is not 'LN'")
    requires_grad = cfg.pop('requires_grad', True)
    norm = nn.LayerNorm(channels, **cfg)
    norm.requires_grad_(requires_grad)
    return norm
