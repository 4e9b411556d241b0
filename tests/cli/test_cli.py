"""What a user's mistake looks like on the terminal: one line, no traceback."""

import json
import shutil
import sys

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose import zoo
from hrformer_mmpose.benchmark import loading
from hrformer_mmpose.checkpoint import published
from hrformer_mmpose.cli import benchmark_data, check_dataset, launch, terminal, test, train
from hrformer_mmpose.errors import DataError

CONFIG = zoo.find('hrformer_tiny_demo_112x84')


def complain(monkeypatch, *arguments, tool='train') -> str:
    """Run a tool in this process; return the line it ends with."""
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *map(str, arguments)])
    command = train if tool == 'train' else test
    with pytest.raises(SystemExit) as caught:
        terminal.run(command.run, command.parser())
    line = str(caught.value)
    assert line.startswith('error: ')
    assert '\n' not in line
    assert 'Traceback' not in line
    return line


@pytest.fixture
def work_dir(tmp_path):
    return tmp_path / 'work'


def test_a_missing_config(monkeypatch):
    assert "config 'nowhere.py' is neither a file nor one of the names" in complain(
        monkeypatch, 'nowhere.py'
    )


def test_a_checkpoint_in_place_of_the_config(monkeypatch, tmp_path):
    (tmp_path / 'a.pth').touch()
    line = complain(monkeypatch, str(tmp_path / 'a.pth'))
    assert line.endswith("a.pth' is a checkpoint: the config comes first")


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('model = dict(\n', 'does not parse'),
        ('_base_ = ["missing.py"]\n', 'missing.py'),
        ('model = undefined\n', 'undefined'),
        ('custom_imports = dict(imports=["no_such_module"])\n', 'no_such_module'),
    ],
)
def test_a_config_that_does_not_parse(monkeypatch, tmp_path, text, words):
    path = tmp_path / 'config.py'
    path.write_text(text)
    line = complain(monkeypatch, path)
    assert 'config.py' in line
    assert words in line


def test_a_missing_data_root(monkeypatch, work_dir, tmp_path):
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'nothing'))
    line = complain(monkeypatch, CONFIG, '--work-dir', work_dir)
    assert 'nothing' in line
    assert 'COCO_ROOT' in line


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('model.backbone.arch=huge', "arch='huge' is not one of tiny, small, base"),
        ('model.backbone.droppath=0.1', "'droppath'"),
        ('model.head.layers=3', "'layers'"),
        ('model.backbone.type=hrformer_mmpose.HRFormr', 'hrformer_mmpose.HRFormr is not in the'),
        ('train_dataloader.dataset.colour=1', "'colour'"),
        ('train_dataloader.dataset.metainfo.from_file=no.py', "file 'no.py' does not exist"),
        ('default_hooks.checkpooint.interval=2', "did you mean 'checkpoint'?"),
        ('param_scheduler.0.start_factor=7', 'param_scheduler[0] (LinearLR): ValueError: Start'),
        ('optim_wrapper.clip_grad=3', 'optim_wrapper (AutoAmpOptimWrapper): AssertionError: '),
        ('optim_wrapper.paramwise_cfg=3', 'optim_wrapper (AutoAmpOptimWrapper): TypeError: param'),
        ('train_cfg.max_epochs.x=1', '--cfg-options train_cfg.max_epochs.x: '),
        ('work_dir=1', 'work_dir=1 must be a text'),
        ('randomness=x', "randomness must be a dict, it is 'x'"),
        ('model.test_cfg=[[]]', 'model.test_cfg must be a dict, it is [[]]'),
        ('model.head.deconv_out_channels=x', "deconv_out_channels='x' must be of type "),
        ('model.head.decoder.type=0.5', 'model.head.decoder.type=0.5 must be the name of a class'),
        (
            'model.backbone.drop_path_rate=x',
            "drop_path_rate='x' must be of type float",
        ),
        ('model.data_preprocessor.std=0', 'model.data_preprocessor.std=0 must be of type '),
        ('default_hooks.logger.interval=0', 'default_hooks.logger (LoggerHook): ValueError: '),
        ('custom_hooks.0.colour=1', "custom_hooks[0]: SyncBuffersHook has no argument 'col"),
        ('visualizer.name=False', 'visualizer.name=False must be of type str'),
        ('env_cfg.mp_cfg.mp_start_method=x', "mp_start_method='x' must be of type"),
        ('optim_wrapper.paramwise_cfg=x', 'optim_wrapper ('),
        ('param_scheduler.0.colour=1', 'param_scheduler[0]: LinearLR has no argument '),
        ('val_dataloader.sampler.colour=1', 'val_dataloader.sampler: DefaultSampler has no'),
        ('train_dataloader.drop_last=x', "train_dataloader.drop_last='x' must be of type"),
        (
            'train_dataloader.dataset.pipeline.3.colour=1',
            'pipeline[3]: RandomBBoxTransform has ',
        ),
        (
            'val_dataloader.dataset.pipeline.2.colour=1',
            'pipeline[2]: TopdownAffine has no arg',
        ),
        ('val_evaluator.colour=1', 'val_evaluator: CocoMetric has no argument'),
    ],
)
def test_mistakes_in_the_config(monkeypatch, work_dir, synthetic_root, option, words):
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    line = complain(monkeypatch, CONFIG, '--work-dir', work_dir, '--cfg-options', option)
    assert words in line


def test_names_that_are_too_long(monkeypatch, work_dir):
    name = 'x' * 300
    for flags in (
        [name],
        [CONFIG, '--work-dir', name],
        [CONFIG, '--cfg-options', f'work_dir={name}'],
    ):
        assert 'File name too long' in complain(monkeypatch, *flags)
    for flag in ('--out', '--dump'):
        line = complain(monkeypatch, CONFIG, 'gone.pth', flag, f'{name}.pkl', tool='test')
        assert line.endswith('File name too long')


def test_a_work_folder_of_the_config_that_is_a_file(monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    line = complain(monkeypatch, CONFIG, '--cfg-options', f'work_dir={tmp_path}/file')
    assert line == f"error: work_dir '{tmp_path}/file': '{tmp_path}/file' is a file, not a folder"


@pytest.mark.parametrize('head', ['None', "dict(_delete_=True, type='IntegralRegressionHead')"])
def test_bad_cases_by_a_loss_that_the_config_does_not_have(monkeypatch, tmp_path, work_dir, head):
    (tmp_path / 'weights.pth').touch()
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = ['{CONFIG}']\nmodel = dict(head={head})\ntest_evaluator = [dict(type='EPE')]\n"
    )
    flags = [path, tmp_path / 'weights.pth', '--work-dir', work_dir, '--badcase']
    assert 'has no loss: set default_hooks.badcase.metric' in complain(
        monkeypatch, *flags, tool='test'
    )


def test_transforms_in_a_wrong_order(monkeypatch, work_dir, synthetic_root, tmp_path):
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    path = tmp_path / 'config.py'
    text = 'pipeline = _base_.train_pipeline[::-1]\ntrain_dataloader = dict(num_workers=0, '
    text += 'persistent_workers=False, dataset=dict(pipeline=pipeline))\n'
    path.write_text(f"_base_ = ['{CONFIG}']\n{text}")
    line = complain(monkeypatch, path, '--work-dir', work_dir)
    assert 'pipeline[0] (PackPoseInputs): it lacks what an earlier transform sets' in line


@pytest.mark.parametrize('flag', ['--work-dir', '--show-dir'])
def test_a_folder_that_cannot_be_made(monkeypatch, tmp_path, flag):
    file = tmp_path / 'file'
    file.touch()
    for folder in (file, file / 'below'):
        line = complain(monkeypatch, CONFIG, flag, folder)
        assert f"{flag} '{folder}': '{file}' is a file, not a folder" in line
    assert complain(monkeypatch, CONFIG, flag, '') == f"error: {flag} '': give a folder"


@pytest.mark.parametrize('flag', ['--out', '--dump'])
def test_results_that_cannot_be_written_are_found_before_the_test(monkeypatch, tmp_path, flag):
    """The checkpoint does not exist: nothing has been loaded, let alone tested, by then."""
    (tmp_path / 'folder.pkl').mkdir()
    (tmp_path / 'file').touch()
    for name, words in (
        ('folder.pkl', 'is a folder'),
        ('file/out.pkl', "file' is a file, not a folder"),
        ('out.txt', 'must end in'),
        ('out', 'must end in'),
    ):
        path = tmp_path / name
        line = complain(monkeypatch, CONFIG, 'gone.pth', flag, path, tool='test')
        assert line.startswith(f"error: {flag} '{path if path.parent == tmp_path else path.parent}")
        assert words in line


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--cfg-options', 'a'], "argument --cfg-options: 'a' is not KEY=VALUE"),
        (['--cfg-options', 'x=1', '=1'], "argument --cfg-options: '=1' is not KEY=VALUE"),
        (['--cfg-options', 'a..b=1'], "'a..b=1' is not KEY=VALUE"),
        (['--cfg-options', 'a=[1,2'], "'a=[1,2': Imbalanced brackets"),
        (['--interval', '0'], "argument --interval: '0' is not a whole number of at least 1"),
    ],
)
def test_arguments_that_cannot_be_read(monkeypatch, capsys, flags, words):
    for parser in (train.parser(), check_dataset.parser()):
        if flags[0] in {flag for action in parser._actions for flag in action.option_strings}:
            with pytest.raises(SystemExit) as caught:
                parser.parse_args([CONFIG, *flags])
            assert caught.value.code == 2
            assert words in capsys.readouterr().err.splitlines()[-1]


def test_options_are_mmengines():
    given = ['a.b=1', 'c=[1,2.5]', 'd="(x,y)"', 'e=f=g', 'h=None']
    parsed = train.parser().parse_args([CONFIG, '--cfg-options', *given]).cfg_options
    assert parsed == {'a.b': 1, 'c': [1, 2.5], 'd': ('x', 'y'), 'e': 'f=g', 'h': None}


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_that_did_not_start_the_process(monkeypatch, work_dir, launcher):
    for name in launch.ENVIRONMENT[launcher]:
        monkeypatch.delenv(name, raising=False)
    line = complain(monkeypatch, CONFIG, '--work-dir', work_dir, '--launcher', launcher)
    assert f'--launcher {launcher} without ' in line
    assert 'tools/dist_*.sh' in line


def test_pictures_where_the_config_has_no_hook_for_them(monkeypatch, tmp_path):
    args = [CONFIG, '--show-dir', str(tmp_path / 'show'), '--cfg-options', 'default_hooks=None']
    hook = launch.load_config(train.parser().parse_args(args)).default_hooks.visualization
    assert hook == dict(
        type='PoseVisualizationHook', enable=True, show=False, out_dir=args[2], interval=1
    )


def test_loading_is_timed_without_training_annotations(
    monkeypatch, capsys, synthetic_root, tmp_path
):
    root = shutil.copytree(synthetic_root, tmp_path / 'data')
    missing = root / 'annotations/person_keypoints_train2017.json'
    missing.unlink()
    flags = ['--samples', '2', '--rounds', '1', '--boxes', '1']
    timed = []
    monkeypatch.setattr(loading, '_compare', lambda name, *arguments: timed.append(name))
    benchmark_data.run(benchmark_data.parser().parse_args(['loading', str(root), *flags]))
    assert timed == ['test, persons a second']
    assert f"training: not timed, since '{missing}' does not exist" in capsys.readouterr().out
    with pytest.raises(DataError, match='does not exist'):
        benchmark_data.run(benchmark_data.parser().parse_args(['loading', str(tmp_path), *flags]))


def test_a_pretraining_url_that_cannot_be_reached(monkeypatch, work_dir, synthetic_root):
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    url = 'http://127.0.0.1:9/weights.pth'
    line = complain(
        monkeypatch,
        CONFIG,
        '--work-dir',
        work_dir,
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={url}',
    )
    assert url in line
    assert 'model.backbone.init_cfg=None' in line


def test_a_broken_image_met_by_a_worker_is_named(monkeypatch, work_dir, synthetic_root, tmp_path):
    root = shutil.copytree(synthetic_root, tmp_path / 'data')
    for image in (root / 'train2017').iterdir():
        image.write_bytes(image.read_bytes()[:2000])
    monkeypatch.setenv('DEMO_ROOT', str(root))
    line = complain(
        monkeypatch,
        CONFIG,
        '--work-dir',
        work_dir,
        '--cfg-options',
        'train_dataloader.num_workers=1',
    )
    assert line.startswith("error: image '")
    assert 'is cut short' in line


def test_an_empty_annotation_list(monkeypatch, work_dir, synthetic_root, tmp_path):
    root = shutil.copytree(synthetic_root, tmp_path / 'data')
    path = root / 'annotations/person_keypoints_train2017.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'annotations': []}))
    monkeypatch.setenv('DEMO_ROOT', str(root))
    assert 'holds no person' in complain(monkeypatch, CONFIG, '--work-dir', work_dir)


def test_a_missing_checkpoint(monkeypatch):
    assert "'gone.pth' does not exist" in complain(monkeypatch, CONFIG, 'gone.pth', tool='test')
    assert "'gone.pth' does not exist" in complain(monkeypatch, CONFIG, '--resume', 'gone.pth')
    name = next(iter(published.FILES))
    hint = f"'{name}' does not exist, mmpose://{name} is a published file"
    assert hint in complain(monkeypatch, CONFIG, name, tool='test')


def test_a_checkpoint_in_the_home_folder(monkeypatch, tmp_path):
    """No shell expands `--resume=~/run.pth`."""
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'run.pth').touch()
    assert launch.existing_checkpoint('~/run.pth') == str(tmp_path / 'run.pth')


@pytest.mark.parametrize(
    'arguments',
    [(CONFIG, 'x.pth', '--work-dir', 'x' * 300), (CONFIG, 'x' * 300), ('x' * 300, 'x.pth')],
    ids=['folder', 'checkpoint', 'config'],
)
def test_a_name_that_is_too_long(monkeypatch, arguments):
    line = complain(monkeypatch, *arguments, tool='test')
    assert 'x' * 300 in line
    assert 'File name too long' in line or 'does not exist' in line


def test_the_variable_brings_the_traceback_back(monkeypatch):
    monkeypatch.setenv('HRFORMER_TRACEBACK', '1')
    monkeypatch.setattr(sys, 'argv', ['train.py', 'nowhere.py'])
    with pytest.raises(Exception, match='nowhere'):
        terminal.run(train.run, train.parser())


def test_errors_of_ours_are_not_hidden():
    text = '`cfg` or `default_args` must contain the key "type", but got {}\nNone'
    assert '\n' not in terminal.one_line(KeyError(text))
    assert terminal.one_line(ValueError('a bug')) is None
    assert terminal.one_line(KeyError('name')) is None
    wrapped = DataError(
        'Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "x.py"\nhrformer_mmpose.errors.DataError: image \'a.jpg\' is broken\n'
    )
    assert terminal.one_line(wrapped) == "image 'a.jpg' is broken"
    # Names of files may hold line breaks.
    assert terminal.one_line(DataError("'no\nsuch.jpg' is broken")) == r"'no\nsuch.jpg' is broken"


def test_mmposes_flags_are_there():
    options = {flag for action in train.parser()._actions for flag in action.option_strings}
    assert options >= {
        '--work-dir',
        '--resume',
        '--amp',
        '--no-validate',
        '--auto-scale-lr',
        '--show-dir',
        '--show',
        '--interval',
        '--wait-time',
        '--cfg-options',
        '--launcher',
        '--local_rank',
    }
    assert options >= {'--amp-dtype', '--compile'}
    options = {flag for action in test.parser()._actions for flag in action.option_strings}
    assert options >= {'--work-dir', '--out', '--dump', '--badcase', '--show-dir', '--launcher'}
