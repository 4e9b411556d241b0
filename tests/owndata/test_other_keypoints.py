"""A network of some keypoints starts the training of others: backbone, and rows by name."""

import contextlib
import itertools
import json
import sys

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.hooks import Hook

from hrformer_mmpose import zoo
from hrformer_mmpose.checkpoint import load_weights
from hrformer_mmpose.checkpoint.head_rows import names_in_file
from hrformer_mmpose.cli import convert_checkpoint, new_dataset, terminal, test
from hrformer_mmpose.engine.runner import Runner
from hrformer_mmpose.errors import WeightsError
from tests.checkpoint.weights import ARCH
from tests.owndata import writers
from tests.owndata.conftest import TAKEN, five

# Three of the five, spelt in another way, among others.
EIGHT = {
    'left_ear': 3, 'right hand': 10, 'hip_l': 11, 'nose': 0, 'right_ear': 4, 'hip_r': 12,
    'leftHand': 9, 'knee_l': 13,
}  # fmt: skip
SHARED = {1: 2, 3: 0, 6: 1}  # row of the eight -> row of the five
LINE = 'head: rows of right hand, nose, leftHand taken from'
NUMBERS = itertools.count()


class AtStart(Hook):
    """Keeps the weights that the first iteration starts from, and stops there."""

    class Reached(BaseException):
        pass

    def __init__(self, stops=True):
        self.stops = stops

    def before_train(self, runner):
        self.weights = {key: value.clone() for key, value in runner.model.state_dict().items()}
        if self.stops:
            raise AtStart.Reached


@pytest.fixture
def data_set(synthetic_root, tmp_path):
    """Runs `hrformer new-dataset` on drawn people; returns its config, for a small network."""

    def write(out, taken, *flags):
        path = synthetic_root / 'annotations/person_keypoints_train2017.json'
        (tmp_path / f'{out}_source').mkdir()
        path = writers.coco(five(json.loads(path.read_text()), taken), tmp_path / f'{out}_source')
        arguments = [str(path), '--images', str(synthetic_root / 'train2017')]
        arguments += ['--out', str(tmp_path / out), '--model', 'tiny', '--input-size', '64x64']
        arguments += ['--epochs', '1', '--seed', '1', *map(str, flags)]
        assert new_dataset.run(new_dataset.parser().parse_args(arguments)) == 0
        small = f'backbone=dict(arch=dict(_delete_=True, **{ARCH})), head=dict(in_channels=4)'
        path = tmp_path / f'{out}.py'
        path.write_text(f"_base_ = '{out}/config.py'\nmodel = dict({small})\n")
        return zoo.read_config(path)

    return write


def start(cfg: Config, tmp_path, stops=True, **options) -> tuple[dict, str]:
    """Start a training; return the weights of its start and its log."""
    cfg = Config({**cfg})
    number = next(NUMBERS)
    # MMEngine hands out loggers and visualizers by name.
    cfg.experiment_name = cfg.visualizer.name = f'{tmp_path.name}_{number}'
    cfg.work_dir, cfg.launcher = str(tmp_path / f'work_{number}'), 'none'
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.randomness = dict(seed=7)
    cfg.merge_from_dict(options)
    runner, hook = Runner.from_cfg(cfg), AtStart(stops)
    runner.register_hook(hook)
    lines = []
    runner.logger.addFilter(lambda record: lines.append(record.getMessage()) or True)
    with contextlib.suppress(AtStart.Reached):
        runner.train()
    return hook.weights, lines


@pytest.fixture
def trained(data_set, tmp_path):
    """Checkpoint of a training of a moment on five keypoints."""
    cfg = data_set('five', TAKEN, '--weights', 'none')
    start(cfg, tmp_path, stops=False, custom_hooks=[dict(type='EMAHook')])
    (path,) = tmp_path.glob('work_*/epoch_1.pth')
    return path


def head_lines(lines) -> list[str]:
    return [line for line in lines if line.startswith('head: ')]


@pytest.mark.slow
def test_eight_keypoints_start_from_five(data_set, trained, tmp_path, monkeypatch):
    """By each way in; the other rows are those of a start without the file. Seven trainings."""
    assert names_in_file(torch.load(trained, weights_only=True)) == tuple(TAKEN)
    source = load_weights(trained)
    cfg = data_set('eight', EIGHT, '--weights', trained)
    assert cfg.load_from == str(trained)
    assert cfg.model.backbone.init_cfg is None
    anew, lines = start(cfg, tmp_path, load_from=None)
    assert head_lines(lines) == []
    converted = tmp_path / 'converted.pth'
    arguments = [str(trained), str(converted), '--to', 'official']
    convert_checkpoint.run(convert_checkpoint.parser().parse_args(arguments))
    init_cfg = dict(_delete_=True, type='Pretrained', checkpoint=str(trained))
    for options, file in (
        ({}, trained),
        ({'custom_hooks': [dict(type='EMAHook')]}, trained),
        ({'load_from': str(converted)}, converted),
        ({'load_from': None, 'model.backbone.init_cfg': init_cfg}, trained),
    ):
        weights, lines = start(cfg, tmp_path, **options)
        (line,) = head_lines(lines)
        assert line.startswith(f"{LINE} '{file}'; 5 keypoints start anew: left_ear, hip_l, right_")
        for part in ('weight', 'bias'):
            key = f'head.final_layer.{part}'
            assert len(weights[key]) == 8
            for k, row in enumerate(weights[key]):
                theirs = source[key][SHARED[k]] if k in SHARED else anew[key][k]
                assert torch.equal(row, theirs), (options, k)
        for key in (key for key in source if key.startswith('backbone.')):
            assert torch.equal(weights[key], source[key]), key
    only = dict(init_cfg, prefix='backbone')
    weights, lines = start(cfg, tmp_path, **{'load_from': None, 'model.backbone.init_cfg': only})
    assert head_lines(lines) == []
    assert torch.equal(weights['head.final_layer.weight'], anew['head.final_layer.weight'])
    assert torch.equal(weights['backbone.conv2.weight'], source['backbone.conv2.weight'])
    with pytest.raises(WeightsError, match='does not fit its parameter'):  # of the optimizer
        start(cfg, tmp_path, resume=True)
    # A test with that file stays refused, in one line.
    argv = ['test.py', cfg.filename, str(trained), '--work-dir', str(tmp_path / 'tested')]
    monkeypatch.setattr(sys, 'argv', argv)
    with pytest.raises(SystemExit) as end:
        terminal.run(test.run, test.parser())
    line = str(end.value.code)
    assert line.startswith(f"error: '{trained}' predicts 5 keypoints, the config builds a head for")
    assert '\n' not in line


@pytest.mark.slow
def test_files_without_names(data_set, trained, tmp_path):
    """Weights alone, and a damaged metainfo: the head starts anew, with a line."""
    cfg = data_set('eight', EIGHT, '--weights', trained)
    anew, _ = start(cfg, tmp_path, load_from=None)
    content = torch.load(trained, weights_only=True)
    meta = content.pop('meta')
    for name, more, why in (
        ('alone', {}, 'it names no keypoints'),
        ('damaged', dict(meta=dict(meta, dataset_meta=[3])), 'its keypoint names are damaged'),
    ):
        file = tmp_path / f'{name}.pth'
        torch.save({**content, **more}, file)
        weights, lines = start(cfg, tmp_path, load_from=str(file))
        assert head_lines(lines) == [
            f"head: no row of '{file}' is taken, since {why}; all 8 start anew"
        ]
        assert torch.equal(weights['head.final_layer.weight'], anew['head.final_layer.weight'])
        key = 'backbone.conv2.weight'
        assert torch.equal(weights[key], content['state_dict'][key])
