"""Normalisation layers by MMPose's configuration."""

import pytest
import torch

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.layers import build_batch_norm, build_layer_norm


def test_sync_bn_runs_on_the_cpu_and_equals_bn():
    x = torch.randn(4, 3, 5, 5)
    sync, plain = (build_batch_norm(dict(type=kind), 3) for kind in ('SyncBN', 'BN'))
    assert torch.equal(sync(x), plain(x))
    assert torch.equal(sync.running_var, plain.running_var)


def test_sync_bn_is_what_mmengine_reverts_on_one_process():
    from mmengine.model import revert_sync_batchnorm

    reverted = revert_sync_batchnorm(build_batch_norm(dict(type='SyncBN'), 3))
    assert not isinstance(reverted, torch.nn.SyncBatchNorm)


def test_options_reach_the_layer():
    norm = build_batch_norm(dict(type='BN', eps=1e-3, requires_grad=False), 3)
    assert norm.eps == 1e-3
    assert not norm.weight.requires_grad
    assert build_layer_norm(dict(type='LN', eps=1e-6), 3).eps == 1e-6


@pytest.mark.parametrize('cfg', [dict(type='GN'), dict(eps=1)])
def test_unknown_types_are_named(cfg):
    with pytest.raises(ConfigError, match='type='):
        build_batch_norm(cfg, 3)
    with pytest.raises(ConfigError, match='type='):
        build_layer_norm(cfg, 3)
