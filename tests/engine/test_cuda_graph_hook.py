"""Trainings that `--cuda-graph` replays, and those where it has no effect, with the reason."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hrformer_mmpose.engine import hooks
from hrformer_mmpose.engine.hooks import CudaGraphHook
from hrformer_mmpose.execution.cuda_graph import TrainingGraphs


class Backbone(nn.Conv2d):
    """A layer whose parameters claim to lie on a GPU."""

    def __init__(self, device: str = 'cuda', **attributes):
        super().__init__(3, 4, 1)
        self.on = torch.device(device)
        self.norm = nn.SyncBatchNorm(4)
        vars(self).update(attributes)

    def parameters(self, recurse: bool = True):
        return iter([SimpleNamespace(device=self.on)])


def runner_of(backbone: nn.Module, accumulative_counts: int = 1) -> SimpleNamespace:
    return SimpleNamespace(
        model=SimpleNamespace(backbone=backbone),
        optim_wrapper=SimpleNamespace(_accumulative_counts=accumulative_counts),
        logger=logging.getLogger('runner'),
    )


@pytest.mark.parametrize(
    ('reason', 'backbone', 'counts', 'processes'),
    [
        ('the model is not on a GPU', Backbone('cpu'), 1, 1),
        ('gradients are accumulated', Backbone(), 2, 1),
        ('SyncBN exchanges its sums between processes', Backbone(), 1, 2),
        ('the backbone recomputes its blocks (with_cp)', Backbone(with_cp=True), 1, 1),
    ],
)
def test_no_effect(reason, backbone, counts, processes, caplog, monkeypatch):
    monkeypatch.setattr(hooks, 'get_world_size', lambda: processes)
    monkeypatch.setattr(hooks, 'unwrapped_model', lambda runner: runner.model)
    runner, hook = runner_of(backbone, counts), CudaGraphHook()
    with caplog.at_level(logging.WARNING):
        hook.before_train(runner)
    hook.after_train(runner)
    assert caplog.messages[0].startswith(f'--cuda-graph has no effect: {reason}')
    assert 'forward' not in vars(backbone)


def test_the_forward_pass_is_replaced_for_the_training(monkeypatch):
    monkeypatch.setattr(hooks, 'unwrapped_model', lambda runner: runner.model)
    backbone, hook = Backbone(), CudaGraphHook()
    runner = runner_of(backbone)
    x = torch.rand(1, 3, 2, 2)
    expected = backbone(x)
    hook.before_train(runner)
    assert isinstance(backbone.forward.__self__, TrainingGraphs)
    assert torch.equal(backbone(x), expected)
    hook.after_train(runner)
    assert 'forward' not in vars(backbone)
