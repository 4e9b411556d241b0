"""Normalisation layers from MMPose's configs."""

import pytest
import torch

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.layers import build_batch_norm, build_layer_norm, norm


@pytest.mark.parametrize('cuda', [False, True])
def test_sync_bn_needs_an_accelerator(cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    layer = build_batch_norm(dict(type='SyncBN', requires_grad=True), 3)
    assert type(layer) is (torch.nn.SyncBatchNorm if cuda else torch.nn.BatchNorm2d)


@pytest.mark.parametrize(('processes', 'rank', 'lines'), [(1, 0, 0), (2, 0, 1), (2, 1, 0)])
def test_one_line_where_processes_do_not_synchronise(processes, rank, lines, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: processes)
    monkeypatch.setattr(torch.distributed, 'get_rank', lambda: rank)
    norm._warn_unsynchronised.cache_clear()
    for _ in range(3):
        build_batch_norm(dict(type='SyncBN'), 3)
        build_batch_norm(dict(type='BN'), 3)
    assert len(caplog.records) == lines
    assert ('each of the 2 processes' in caplog.text) == bool(lines)


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
