"""Normalisation layers from MMPose's `norm_cfg` dictionaries, without mmcv."""

import torch
from torch import nn

from ..errors import ConfigError
from .sync_batch_norm import SyncBatchNorm

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, SyncBatchNorm)
_BATCH_NORM_TYPES = {'BN': nn.BatchNorm2d, 'BN2d': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


def build_batch_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build the BatchNorm of a map.

    'SyncBN' is PyTorch's class on CUDA devices and `SyncBatchNorm` on CPUs.

    Args:
        norm_cfg: `type` is 'BN', 'BN2d' or 'SyncBN'; `requires_grad=False` freezes weight and bias;
            all other entries (`eps`, `momentum`, ...) are arguments of the layer.
        channels: C.

    Raises:
        ConfigError: `type` is missing or unknown.
    """
    kind, requires_grad, options = _parse(norm_cfg)
    if kind not in _BATCH_NORM_TYPES:
        raise ConfigError(f'norm_cfg: type={kind!r} is not one of {", ".join(_BATCH_NORM_TYPES)}')
    cls = _BATCH_NORM_TYPES[kind]
    if cls is nn.SyncBatchNorm and not torch.cuda.is_available():
        cls = SyncBatchNorm
    return cls(channels, **options).requires_grad_(requires_grad)


def build_layer_norm(norm_cfg: dict, channels: int) -> nn.LayerNorm:
    """Build a LayerNorm over C channels from `dict(type='LN', eps=...)`.

    Raises:
        ConfigError: `type` is not 'LN'.
    """
    kind, requires_grad, options = _parse(norm_cfg)
    if kind != 'LN':
        raise ConfigError(f"transformer_norm_cfg: type={kind!r} is not 'LN'")
    return nn.LayerNorm(channels, **options).requires_grad_(requires_grad)


def _parse(norm_cfg: dict) -> tuple[str | None, bool, dict]:
    options = dict(norm_cfg)
    return options.pop('type', None), options.pop('requires_grad', True), options
