"""The training loop alone, with a model that does nothing."""

from types import SimpleNamespace

import pytest

pytest.importorskip('mmpose')
from mmengine.logging import MessageHub
from torch.utils.data import DataLoader

from hrformer_mmpose.datasets.sampler import DefaultSampler
from hrformer_mmpose.engine import loops
from hrformer_mmpose.engine.loops import EpochBasedTrainLoop


@pytest.fixture
def loop(tmp_path):
    """A loop of two epochs of two iterations."""
    step = SimpleNamespace(train=lambda: None, train_step=lambda *args, **kwargs: {})
    runner = SimpleNamespace(
        model=step, optim_wrapper=None, call_hook=lambda *args, **kwargs: None, hooks=[], seed=7,
        work_dir=str(tmp_path), message_hub=MessageHub(tmp_path.name), val_loop=None,
        _randomness_cfg={},
    )  # fmt: skip
    sampler = DefaultSampler(range(4), shuffle=True, seed=0)
    return EpochBasedTrainLoop(runner, DataLoader(range(4), 2, sampler=sampler), max_epochs=2)


@pytest.mark.parametrize(
    ('iteration', 'validated', 'expected'),
    [(2, None, [1, 2]), (2, 1, [2]), (3, None, [2]), (3, 1, [2])],
)
def test_a_validation_is_repeated_if_it_was_missed(loop, iteration, validated, expected):
    """Resumed after the first epoch, or within the second one."""
    place = dict(epoch=1, iter=2, batches=2) if iteration == 3 else dict(epoch=0, iter=0, batches=2)
    loop.runner.message_hub.update_info('epoch_begun', place)
    loop.runner.message_hub.update_info('epoch_validated', validated)
    validations = []
    loop.runner.val_loop = SimpleNamespace(run=lambda: validations.append(loop.epoch))
    loop._epoch, loop._iter = 1, iteration
    loop.run()
    assert validations == expected
    assert loop.iter == 4


@pytest.mark.parametrize('differ', [False, True])
def test_the_random_numbers_of_a_second_process(loop, monkeypatch, differ):
    """From the common seed, without the rank that MMEngine adds to it, and the rank."""
    loop.runner._randomness_cfg = dict(diff_rank_seed=differ)
    loop.runner.seed = 7 + differ
    seeds = []
    monkeypatch.setattr(loops, 'get_rank', lambda: 1)
    monkeypatch.setattr(loops, 'seed_all', lambda *entropy: seeds.append(entropy))
    loop.run()
    assert seeds == [(7, 1, iteration) for iteration in range(4)]
    assert loop.dataloader.sampler.seed == 7
