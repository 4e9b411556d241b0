"""Normalisation layers from MMPose's `norm_cfg` dictionaries, without needing mmcv."""

import functools
import logging

import torch
from torch import distributed, nn

from ..errors import ConfigError

BATCH_NORMS = {'BN': nn.BatchNorm2d, 'BN2d': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


def build_batch_norm(norm_cfg: dict, channels: int) -> nn.Module:
    """Build a BatchNorm over `channels` maps.

    'SyncBN' becomes a plain BatchNorm where there is no CUDA device: PyTorch synchronises on
    accelerators only, and refuses to distribute such a layer over CPU processes. Several of these
    each normalise their own batch then, which a line in the log says.

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
    if kind == 'SyncBN' and not torch.cuda.is_available():
        kind = 'BN'
        if distributed.is_available() and distributed.is_initialized():
            _warn_of_unsynchronised(distributed.get_world_size(), distributed.get_rank())
    requires_grad = cfg.pop('requires_grad', True)
    norm = BATCH_NORMS[kind](channels, **cfg)
    norm.requires_grad_(requires_grad)
    return norm


@functools.cache  # once a run, not once a layer
def _warn_of_unsynchronised(processes: int, rank: int) -> None:
    if processes > 1 and rank == 0:
        logging.getLogger(__name__).warning(
            'SyncBN needs CUDA: in training each of the %d processes normalises its own batch '
            'alone, so that results differ from those of one process with the whole batch',
            processes,
        )


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
