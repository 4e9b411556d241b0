"""A training that diverges ends with a line, and its last finite checkpoint is there."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import nn

pytest.importorskip('mmpose')
from hrformer_mmpose.engine import finite_hook
from hrformer_mmpose.engine.finite_hook import non_finite
from hrformer_mmpose.errors import DivergenceError

FEW = {'default_hooks.checkpoint.max_keep_ckpts': 1}


class Multiply(Hook):
    """Multiplies a loss, so that what follows from it is PyTorch's doing.

    Args:
        runner: whose model is changed. factors: iteration (from 1) -> factor.
    """

    def __init__(self, runner, factors):
        loss = runner.model.head.loss

        def changed(*args, **kwargs):
            losses = loss(*args, **kwargs)
            factor = factors.get(runner.iter + 1, 1)
            losses['loss_kpt'] = losses['loss_kpt'] * factor
            return losses

        runner.model.head.loss = changed


def spoil(**factors):
    return lambda runner: Multiply(runner, {int(k[1:]): v for k, v in factors.items()})


def test_a_nan_loss_stops_training_and_the_finite_file_stays(train, tmp_path):
    with pytest.raises(DivergenceError) as caught:
        train(tmp_path, {1: 0.1, 2: 0.2}, prepare=spoil(i3=float('nan')), **FEW)
    line = str(caught.value)
    last = tmp_path / 'epoch_1.pth'
    assert line == (
        'training diverged at iteration 3: the loss is not finite; nothing of it was saved. '
        f"'{last}' is the last checkpoint: --resume goes on from it with a lower "
        'optim_wrapper.optimizer.lr'
    )
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'best_coco_AP_epoch_1.pth', 'epoch_1.pth'
    ]  # fmt: skip
    assert non_finite(torch.load(last)['state_dict'], set()) is None
    train(tmp_path, {2: 0.2}, resume=True, **{'optim_wrapper.optimizer.lr': 1e-4})


def test_a_rate_that_is_far_too_high(train, tmp_path):
    """Nothing is put in by hand here."""
    options = {'optim_wrapper.optimizer.lr': 1e30, 'optim_wrapper.clip_grad': None}
    with pytest.raises(DivergenceError, match=r'diverged at iteration \d: .*; nothing of it was'):
        train(tmp_path, **options, **{'train_cfg.max_epochs': 4})


class Scaled(OptimWrapper):
    """The dynamic loss scale of float16 on a CPU: a step with infinite gradients is skipped."""

    def __init__(self, init_scale, **kwargs):
        super().__init__(**kwargs)
        self.scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)

    def backward(self, loss, **kwargs):
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs):
        self.scaler.unscale_(self.optimizer)
        self._clip_grad()
        self.scaler.step(self.optimizer)
        self.scaler.update()


@pytest.fixture
def scaled(monkeypatch):
    from mmengine.registry import OPTIM_WRAPPERS

    monkeypatch.setitem(OPTIM_WRAPPERS._module_dict, 'Scaled', Scaled)
    return {'optim_wrapper.type': 'mmengine.Scaled', 'optim_wrapper.init_scale': 2.0**8}


def test_skipped_steps_are_no_divergence(train, tmp_path, scaled):
    """Gradients that overflow at first, then a loss that does, once."""
    scaled['optim_wrapper.init_scale'] = 2.0**127
    runner = train(tmp_path, prepare=spoil(i3=float('inf')), **scaled)
    assert runner.optim_wrapper.scaler.get_scale() < 2.0**127
    assert (tmp_path / 'epoch_2.pth').exists()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert losses[2] == float('inf')


@pytest.fixture
def runner():
    """Of a model with finite weights, and of a loss that is not finite."""
    losses = SimpleNamespace(current=lambda: float('nan'))
    return SimpleNamespace(
        model=nn.BatchNorm1d(2), iter=0, last_checkpoint=lambda: None,
        message_hub=SimpleNamespace(log_scalars={'train/loss': losses}),
    )  # fmt: skip


def test_50_losses_in_a_row_that_are_not_finite_end_training(runner):
    hook = finite_hook.FiniteHook()
    for iteration in range(7, 57):
        runner.iter = iteration
        hook.after_train_iter(runner)
    runner.iter = 57
    with pytest.raises(DivergenceError, match='diverged at iteration 8: the loss is not finite'):
        hook.after_train_iter(runner)


@pytest.mark.parametrize('part', ['state_dict', 'ema_state_dict'])
def test_weights_and_averages_are_checked_before_they_are_saved(runner, part):
    weights = dict(runner.model.state_dict())
    checkpoint = dict(state_dict=weights, ema_state_dict=weights, meta=dict(iter=3))
    finite_hook.FiniteHook().before_save_checkpoint(runner, checkpoint)
    checkpoint[part] = {'module.weight': torch.tensor([1.0, torch.nan])}
    with pytest.raises(DivergenceError, match='diverged at iteration 3: weight is not finite'):
        finite_hook.FiniteHook().before_save_checkpoint(runner, checkpoint)


@pytest.mark.slow
def test_a_loss_that_stays_infinite_ends_training_with_a_loss_scale_too(
    train, tmp_path, scaled, monkeypatch
):
    monkeypatch.setattr(finite_hook, 'PATIENCE', 5)
    forever = {f'i{i}': float('nan') for i in range(3, 99)}
    with pytest.raises(DivergenceError, match='diverged at iteration 3: the loss is not finite'):
        train(tmp_path, prepare=spoil(**forever), **scaled, **{'train_cfg.max_epochs': 40})
    assert max(int(path.stem[6:]) for path in tmp_path.glob('epoch_*.pth')) == 3


@pytest.mark.slow
def test_weights_are_looked_at_before_they_are_saved(train, tmp_path):
    """Statistics of a normalisation may be lost while the loss is finite."""

    class Break(Hook):
        priority = 'HIGHEST'

        def after_train_iter(self, runner, *args, **kwargs):
            if runner.iter == 2:
                norm = next(m for m in runner.model.modules() if hasattr(m, 'running_var'))
                norm.running_var[0] = float('nan')

    for options in ({}, {'default_hooks.checkpoint': dict(by_epoch=False, interval=1)}):
        folder = tmp_path / str(len(options))
        prepare = lambda runner: runner.register_hook(Break())  # noqa: E731
        with pytest.raises(DivergenceError, match=r'running_var is not finite'):
            train(folder, prepare=prepare, **options)
        for path in folder.glob('*.pth'):
            assert non_finite(torch.load(path)['state_dict'], set()) is None
        assert len([*folder.glob('*.pth')]) == 1 + len(options)


def test_infinity_in_a_mask_is_none_of_it():
    state = dict(mask=torch.tensor([0.0, -torch.inf]), w=torch.ones(2), n=torch.ones(2, dtype=int))
    assert non_finite(state, {'mask'}) is None
    assert non_finite(state, set()) == 'mask'
    assert non_finite(state | dict(w=torch.tensor([torch.inf])), {'mask'}) == 'w'
    assert non_finite({}, set()) is None
