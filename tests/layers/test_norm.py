"""Normalisation layers from MMPose's configs."""

import pytest
import torch

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.layers import SyncBatchNorm, build_batch_norm, build_layer_norm


@pytest.mark.parametrize('cuda', [False, True])
def test_class_of_sync_bn(cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    layer = build_batch_norm(dict(type='SyncBN', requires_grad=True), 3)
    assert type(layer) is (torch.nn.SyncBatchNorm if cuda else SyncBatchNorm)


def test_options_reach_the_layer():
    layer = build_batch_norm(dict(type='BN', eps=1e-3, requires_grad=False), 3)
    assert layer.eps == 1e-3
    assert not layer.weight.requires_grad
    assert build_layer_norm(dict(type='LN', eps=1e-6), 3).eps == 1e-6


@pytest.mark.parametrize('cfg', [dict(type='GN'), dict(eps=1)])
def test_unknown_types_are_named(cfg):
    with pytest.raises(ConfigError, match='type='):
        build_batch_norm(cfg, 3)
    with pytest.raises(ConfigError, match='type='):
        build_layer_norm(cfg, 3)
