"""The first use of a component of the config fails in one line, what fails later in a traceback."""

import copy

import pytest

pytest.importorskip('mmpose')
from mmengine.hooks import Hook

from hrformer_mmpose import config_errors
from hrformer_mmpose.cli import terminal
from hrformer_mmpose.engine.runner import Runner
from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.estimators.data_preprocessor import PoseDataPreprocessor

HINT = ' (HRFORMER_TRACEBACK=1 shows the traceback)'
WITHOUT_TARGETS = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=(84, 112), use_udp=True),
    dict(type='PackPoseInputs'),
]


def mistake(train, tmp_path, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        train(tmp_path / 'work', **options)
    line = terminal.one_line(caught.value)
    assert '\n' not in line
    assert line.endswith(HINT)
    return line.removesuffix(HINT)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_transform_is_named_by_its_place(train, tmp_path, workers):
    pipeline = [WITHOUT_TARGETS[0], *WITHOUT_TARGETS[2:]]
    options = {'train_dataloader.dataset.pipeline': pipeline}
    options['train_dataloader.num_workers'] = workers
    line = mistake(train, tmp_path, **options)
    place, _, error = line.partition(': it lacks what an earlier transform sets: ')
    assert (place, error) == ('pipeline[1] (TopdownAffine)', 'KeyError: bbox_scale')
    log = next((tmp_path / 'work').rglob('*.log')).read_text()
    assert 'Traceback' in log
    assert "KeyError: 'bbox_scale'" in log


def test_the_first_iteration(train, tmp_path):
    options = {'train_dataloader.dataset.pipeline': WITHOUT_TARGETS[:3]}
    line = mistake(train, tmp_path, **options)
    assert line == 'model.data_preprocessor (PoseDataPreprocessor): KeyError: inputs'


@pytest.mark.slow
def test_the_first_validation(train, tmp_path):
    twice = [dict(type='EPE'), dict(type='EPE')]
    line = mistake(train, tmp_path, prepare=_own_evaluation, scores=[0], val_evaluator=twice)
    assert line.startswith('val_evaluator: ValueError: There are multiple evaluation results')


def _own_evaluation(runner: Runner) -> None:
    """Undo the fixture's scores."""
    del runner.val_loop.evaluator.evaluate


def test_the_first_call_of_a_hook(train, tmp_path):
    options = {
        'default_hooks.checkpoint.max_keep_ckpts': '1',
        'default_hooks.checkpoint.interval': 1,
    }
    line = mistake(train, tmp_path, **options)
    assert line == (
        'default_hooks.checkpoint (CheckpointHook): TypeError: '
        "'>' not supported between instances of 'str' and 'int'"
    )


def test_building(train, tmp_path):
    line = mistake(train, tmp_path, optim_wrapper=dict(paramwise_cfg=3))
    assert line.startswith('optim_wrapper (AutoAmpOptimWrapper): TypeError: paramwise_cfg')


@pytest.mark.parametrize('use', ['val', 'test'])
def test_of_equal_components_the_one_that_was_built_is_named(train, tmp_path, use):
    runner = train(tmp_path / 'work', **{'train_cfg.max_epochs': 1})
    sampler = dict(type='DefaultSampler', colour=1)
    for key in ('val', 'test'):
        loader = copy.deepcopy(runner.cfg.train_dataloader)
        loader.sampler = sampler
        runner.cfg[f'{key}_dataloader'] = loader
    vars(runner)[f'_{use}_dataloader'] = runner.cfg[f'{use}_dataloader']
    vars(runner)[f'_{use}_evaluator'] = dict(type='EPE')
    with pytest.raises(TypeError, match="'colour'") as caught:
        getattr(runner, f'build_{use}_loop')({})
    key = config_errors.key_of(caught.value, runner.cfg)
    assert key == f'{use}_dataloader.sampler (DefaultSampler)'


class FailsLater(Hook):
    """Fails in the second iteration."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 1:
            raise KeyError('a bug')


@pytest.mark.slow
def test_what_fails_later_is_a_bug(train, tmp_path, monkeypatch):
    with pytest.raises(KeyError, match='a bug'):
        train(tmp_path / 'hook', prepare=lambda runner: runner.register_hook(FailsLater()))
    forward, calls = PoseDataPreprocessor.forward, []

    def fail(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise AssertionError('a bug')
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(PoseDataPreprocessor, 'forward', fail)
    with pytest.raises(AssertionError, match='a bug'):
        train(tmp_path / 'model')


def test_loading_weights_is_not_building(train, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError('a bug')

    monkeypatch.setattr(Runner, 'load_checkpoint', fail)
    with pytest.raises(KeyError, match='a bug'):
        train(tmp_path / 'work', load_from='x.pth')


def test_a_users_error_stays(train, tmp_path):
    with pytest.raises(DataError, match='is not a folder'):
        train(tmp_path / 'work', **{'train_dataloader.dataset.data_root': 'nowhere'})


def test_a_message_of_many_lines_becomes_one():
    error = ValueError('one\n  two ' + 'x' * 1000)
    line = str(config_errors.config_error('model', error))
    assert line.startswith('model: ValueError: one two xxx')
    assert len(line) < 400
    assert (
        str(config_errors.config_error('model', AssertionError())) == f'model: AssertionError{HINT}'
    )


def test_the_traceback_is_not_on_the_terminal(capsys):
    config_errors.config_error('model', ValueError('x'))
    assert 'ValueError' not in ''.join(capsys.readouterr())
