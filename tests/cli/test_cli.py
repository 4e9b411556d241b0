"""What a user's mistake looks like on the terminal: one line, no traceback."""

import json
import shutil
import sys

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose import zoo
from hrformer_mmpose.cli import arguments as cli
from hrformer_mmpose.cli import launch, terminal
from hrformer_mmpose.errors import DataError

CONFIG = zoo.find('hrformer_tiny_demo_112x84')


def complain(monkeypatch, *arguments, tool='train') -> str:
    """Run a tool in this process; return the line it ends with."""
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *map(str, arguments)])
    parser = cli.train_parser() if tool == 'train' else cli.test_parser()
    with pytest.raises(SystemExit) as caught:
        terminal.run(getattr(launch, tool), parser)
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
    ],
)
def test_mistakes_in_the_config(monkeypatch, work_dir, synthetic_root, option, words):
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    line = complain(monkeypatch, CONFIG, '--work-dir', work_dir, '--cfg-options', option)
    assert words in line


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


def test_the_variable_brings_the_traceback_back(monkeypatch):
    monkeypatch.setenv('HRFORMER_TRACEBACK', '1')
    monkeypatch.setattr(sys, 'argv', ['train.py', 'nowhere.py'])
    with pytest.raises(Exception, match='nowhere'):
        terminal.run(launch.train, cli.train_parser())


def test_errors_of_ours_are_not_hidden():
    assert terminal.one_line(ValueError('a bug')) is None
    assert terminal.one_line(KeyError('name')) is None
    wrapped = DataError(
        'Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        'last):\n  File "x.py"\nhrformer_mmpose.errors.DataError: image \'a.jpg\' is broken\n'
    )
    assert terminal.one_line(wrapped) == "image 'a.jpg' is broken"


def test_mmposes_flags_are_there():
    options = {flag for action in cli.train_parser()._actions for flag in action.option_strings}
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
    options = {flag for action in cli.test_parser()._actions for flag in action.option_strings}
    assert options >= {'--work-dir', '--out', '--dump', '--badcase', '--show-dir', '--launcher'}
