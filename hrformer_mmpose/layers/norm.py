"""Normalisation layers from MMPose's `norm_cfg` dictionaries, without mmcv."""

import functools
import logging

import torch
from torch import distributed, nn

from ..errors import ConfigError

BATCH_NORMS = {'BN': nn.BatchNorm2d, 'BN2d': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


def build_batch_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build the BatchNorm of a map.

    'SyncBN' becomes a plain BatchNorm without a CUDA device, because PyTorch synchronises on
    accelerators only and rejects SyncBatchNorm in distributed training on CPUs. Each process then
    normalises its own batch, and a warning is logged.

    Args:
        norm_cfg: `type` is 'BN', 'BN2d' or 'SyncBN'; `requires_grad=False` freezes weight and bias;
            all other entries (`eps`, `momentum`, ...) are arguments of the layer.
        channels: C.

    Raises:
        ConfigError: `type` is missing or unknown.
    """
    kind, requires_grad, options = _parse(norm_cfg)
    if kind not in BATCH_NORMS:
        raise ConfigError(f'norm_cfg: type={kind!r} is not one of {", ".join(BATCH_NORMS)}')
    if kind == 'SyncBN' and not torch.cuda.is_available():
        kind = 'BN'
        if distributed.is_available() and distributed.is_initialized():
            _warn_unsynchronised(distributed.get_world_size(), distributed.get_rank())
    return BATCH_NORMS[kind](channels, **options).requires_grad_(requires_grad)


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


@functools.cache  # once a run, not once a layer
def _warn_unsynchronised(processes: int, rank: int) -> None:
    if processes > 1 and rank == 0:
        logging.getLogger(__name__).warning(
            'SyncBN needs CUDA: each of the %d processes normalises its own batch, so training '
            'gives other results than one process with the whole batch',
            processes,
        )
