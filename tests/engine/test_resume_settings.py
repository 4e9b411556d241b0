"""On --resume the config decides, or is refused: nothing that it says is passed over in silence."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.optim import MultiStepLR, MultiStepMomentum, OptimWrapper
from torch import nn

from hrformer_mmpose.engine.resuming import Settings
from hrformer_mmpose.errors import ConfigError

LR = 'optim_wrapper.optimizer.lr'


@pytest.fixture
def first(train, tmp_path):
    """A run of one epoch; returns its folder."""
    train(tmp_path / 'work', **{'train_cfg.max_epochs': 1})
    return tmp_path / 'work'


def log_of(folder) -> str:
    return max(folder.glob('*/*.log')).read_text()


def rates(runner) -> list[float]:
    return [float(rate) for rate in runner.message_hub.get_scalar('train/lr').data[0]]


def test_unchanged_settings_say_nothing(train, first):
    train(first, resume=True)
    text = log_of(first)
    assert 'from here on' not in text
    assert 'batches' not in text


# Without training: the state of an optimizer after two epochs, a milestone behind it.


def build(lr=2e-3, betas=(0.9, 0.99), end=9, kinds=(MultiStepLR,)):
    """Build an optimizer of one weight and its schedules."""
    weight = nn.Parameter(torch.ones(1))
    wrapper = OptimWrapper(torch.optim.AdamW([weight], lr=lr, betas=betas))
    schedules = [kind(wrapper, milestones=[1, 3], gamma=0.5, end=end) for kind in kinds]
    return wrapper, schedules


@pytest.fixture
def resume():
    """Take up the state in a new optimizer; returns the log lines."""

    def take_up(before, wrapper, schedules):
        settings = Settings(wrapper, schedules)
        saved, saved_schedules = before
        saved.optimizer.step()
        for _ in range(2):
            for schedule in saved_schedules:
                schedule.step()
        states = [schedule.state_dict() for schedule in saved_schedules]
        content = dict(optimizer=saved.state_dict(), param_schedulers=states)
        settings.check(content, 'epoch_2.pth')
        wrapper.load_state_dict(content['optimizer'])
        for schedule, state in zip(schedules, states, strict=True):
            schedule.load_state_dict(state)
        return settings.apply(wrapper, schedules)

    return take_up


def test_a_scheduled_rate_changes_in_proportion(resume):
    wrapper, (schedule,) = now = build(lr=5e-4, end=30)
    assert resume(build(), *now) == ['lr: 0.002 before, 0.0005 from here on']
    (group,) = wrapper.param_groups
    assert group['lr'] == pytest.approx(5e-4 / 2)
    assert group['initial_lr'] == 5e-4
    assert schedule.base_values == [5e-4]
    assert schedule.end == 30
    wrapper.optimizer.step()
    schedule.step()
    assert group['lr'] == pytest.approx(5e-4 / 4)


@pytest.mark.parametrize(
    ('betas', 'changed'),
    [((0.9, 0.99), []), ((0.8, 0.99), ['momentum']), ((0.9, 0.9), ['betas'])],
)
def test_a_scheduled_beta_changes_in_proportion(resume, betas, changed):
    """The second one is not scheduled."""
    kinds = (MultiStepLR, MultiStepMomentum)
    wrapper, schedules = now = build(betas=betas, kinds=kinds)
    lines = resume(build(kinds=kinds), *now)
    assert [line.split(':')[0] for line in lines] == changed
    (group,) = wrapper.param_groups
    assert group['betas'] == pytest.approx((betas[0] / 2, betas[1]))
    for schedule in schedules:
        wrapper.optimizer.step()
        schedule.step()
    assert group['betas'] == pytest.approx((betas[0] / 4, betas[1]))


@pytest.mark.parametrize(('before', 'now'), [(9, 2), (2, 9), (9, 1)])
def test_another_end_that_is_past_is_refused(resume, before, now):
    """Epoch 2 is done: a schedule can no longer end at epoch 1 or 2, nor go on."""
    with pytest.raises(ConfigError, match=rf'param_scheduler\[0\]: end is {now}, and .* {before}'):
        resume(build(end=before), *build(end=now))
    resume(build(end=9), *build(end=3))


@pytest.mark.slow
def test_the_rate_goes_on_as_if_it_had_been_the_new_one(train, first, tmp_path):
    expected = rates(train(tmp_path / 'other', **{LR: 5e-4, 'train_cfg.max_epochs': 4}))
    runner = train(first, resume=True, **{LR: 5e-4, 'train_cfg.max_epochs': 4})
    before = rates(train(tmp_path / 'third', **{'train_cfg.max_epochs': 1}))
    assert rates(runner) == pytest.approx([*before, *expected[len(before) :]], rel=1e-9)
    assert 'lr: 0.002 before, 0.0005 from here on' in log_of(first)


def test_the_other_numbers_take_effect(train, first):
    options = {
        'optim_wrapper.optimizer.weight_decay': 0.5,
        'optim_wrapper.optimizer.betas': (0.8, 0.9),
    }
    runner = train(first, resume=True, **options)
    groups = runner.optim_wrapper.optimizer.param_groups
    assert {group['betas'] for group in groups} == {(0.8, 0.9)}
    # Norms and bias tables are exempt from decay, as in the config.
    assert {group['weight_decay'] for group in groups} == {0.5, 0.0}
    text = log_of(first)
    assert 'weight_decay: 0.05 before, 0.5 from here on' in text
    assert 'betas: (0.9, 0.99) before, (0.8, 0.9) from here on' in text
    moments = torch.load(first / 'epoch_2.pth')['optimizer']['state'][0]
    assert moments['step'] == 4  # of the first run, too


SGD = dict(type='SGD', lr=0.1, weight_decay=0.05, _delete_=True)
MULTISTEP = dict(type='MultiStepLR', begin=0, end=9, milestones=[1, 3], gamma=0.5, by_epoch=True)
WARMUP = dict(type='LinearLR', begin=0, end=5, start_factor=0.1, by_epoch=False)
COSINE = dict(type='CosineAnnealingLR', begin=0, end=9, T_max=9, by_epoch=True)


REFUSED = [
    ({'optim_wrapper.optimizer': SGD}, 'momentum'),
    ({'optim_wrapper.paramwise_cfg': dict(_delete_=True)}, 'groups of parameters'),
    (dict(param_scheduler=[WARMUP, COSINE]), 'param_scheduler[1]: T_max is 9'),
    (dict(param_scheduler=[WARMUP, MULTISTEP | dict(gamma=0.1)]), 'gamma is 0.1'),
    (dict(param_scheduler=[WARMUP, MULTISTEP | dict(milestones=[2])]), 'milestones is [2], and in'),
    (dict(param_scheduler=[WARMUP | dict(end=9), MULTISTEP]), 'param_scheduler[0]: end'),
    (dict(param_scheduler=[MULTISTEP]), 'param_scheduler: the number of schedules is 1'),
    (dict(param_scheduler=None), 'param_scheduler: the number of schedules is 0'),
]


def test_what_does_not_fit_the_state_is_refused(train, first):
    before = {path.name: path.read_bytes() for path in first.glob('*.*')}
    for options, words in REFUSED:
        with pytest.raises(ConfigError) as caught:
            train(first, resume=True, **options)
        line = str(caught.value)
        assert words in line
        assert f"'{first / 'epoch_1.pth'}'" in line
        assert 'use load_from instead of --resume' in line
        assert '\n' not in line
        assert {path.name: path.read_bytes() for path in first.glob('*.*')} == before


@pytest.mark.slow
def test_what_is_no_part_of_the_state_may_change(train, first):
    """More epochs, another end of the schedule, hooks, clipping, logging: without a word."""
    ema = [dict(type='SyncBuffersHook')]
    options = {
        'train_cfg.max_epochs': 3,
        'param_scheduler': [WARMUP, MULTISTEP | dict(end=30)],
        'custom_hooks': ema,
        'optim_wrapper.clip_grad.max_norm': 0.5,
        'default_hooks.logger.interval': 2,
    }
    runner = train(first, resume=True, **options)
    assert (first / 'epoch_3.pth').exists()
    assert runner.optim_wrapper.clip_grad_kwargs['max_norm'] == 0.5
    assert runner.param_schedulers[1].end == 30
    assert 'from here on' not in log_of(first)


@pytest.mark.slow
def test_another_batch_size_goes_on_with_a_line(train, first):
    train(first, resume=True, **{'train_dataloader.batch_size': 8})
    assert 'epoch 2: an epoch had 2 batches and now has 1' in log_of(first)


@pytest.mark.slow
def test_a_schedule_by_iterations_does_not_fit_another_length_of_epochs(train, tmp_path):
    """Its end would come at another epoch."""
    converted = [WARMUP, COSINE | dict(convert_to_iter_based=True)]
    train(tmp_path / 'w', param_scheduler=converted, **{'train_cfg.max_epochs': 1})
    with pytest.raises(ConfigError, match=r'param_scheduler\[1\]: T_max is 9, and .* 18'):
        train(
            tmp_path / 'w',
            resume=True,
            param_scheduler=converted,
            **{'train_dataloader.batch_size': 8},
        )


def test_no_code_in_a_checkpoint_runs(train, first, tmp_path):
    """MMEngine would run a config that the file holds as text."""
    canary = tmp_path / 'canary'
    content = torch.load(first / 'epoch_1.pth')
    content['meta']['config'] = f'open({str(canary)!r}, "w").close()\ngpu_ids = []\n'
    torch.save(content, first / 'epoch_1.pth')
    train(first, resume=True)
    assert not canary.exists()
