"""A file of 133 keypoints through all commands: data check, training, test, export, predictions."""

import json
import sys

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnxruntime')
from mmengine.registry import DefaultScope

from hrformer_mmpose.checkpoint import files, save_weights
from hrformer_mmpose.cli import check_dataset, export, predict, terminal, test, train
from hrformer_mmpose.coco.layouts import WHOLE_BODY
from hrformer_mmpose.evaluation.coco_wholebody_metric import PART_METRICS
from tests.conftest import ROOT
from tests.datasets.sets import DETECTIONS, coco_wholebody

CONFIG = f"""
_base_ = ['{ROOT}/configs/datasets/hrformer_small_coco_wholebody_256x192.py']
arch = dict(
    _delete_=True, channels=(4, 8, 8, 8), num_heads=(1, 2, 2, 2), num_modules=1, num_blocks=1
)
model = dict(backbone=dict(arch=arch, init_cfg=None), head=dict(in_channels=4))
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=1)
"""


@pytest.fixture
def run(tmp_path, synthetic_root, monkeypatch, capsys):
    """Run a command beside the data and the config; return what it prints."""
    (tmp_path / 'data').mkdir()
    coco_wholebody(tmp_path / 'data', synthetic_root)
    (tmp_path / 'whole.py').write_text(CONFIG)
    monkeypatch.setenv('COCO_ROOT', str(tmp_path / 'data'))
    monkeypatch.chdir(tmp_path)

    def command(module, *arguments):
        monkeypatch.setattr(sys, 'argv', [module.__name__, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            sys.exit(terminal.run(module.run, module.parser()))
        assert not end.value.code
        return capsys.readouterr().out

    yield command
    DefaultScope._instance_dict.clear()


@pytest.mark.slow
def test_133_keypoints_from_the_file_to_the_poses(run, tmp_path):
    assert 'no problems' in run(check_dataset, 'whole.py', '--full')
    run(train, 'whole.py', '--work-dir', 'work')
    checkpoint = next((tmp_path / 'work').glob('best_coco-wholebody_AP_epoch_*.pth'))

    run(test, 'whole.py', checkpoint, '--work-dir', 'work', '--out', 'figures.json', '--badcase')
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert {f'coco-wholebody/{name}' for name in ('AP', 'AR', *PART_METRICS)} <= set(figures)
    assert len(figures['report']['keypoints']) == sum(WHOLE_BODY.values()) == 133
    assert [*tmp_path.glob('work/*/badcase/results.json')], 'by this package, not by MMPose'

    # A network of two epochs is flat, so that rounding decides about its maxima.
    weights = dict(files.weights_in(files.read(checkpoint), checkpoint))
    final = weights['head.final_layer.weight']
    weights['head.final_layer.weight'] = torch.randn(final.shape) * 0.3
    save_weights(weights, checkpoint := tmp_path / 'sharp.pth', 'mmpose')
    printed = run(export, 'whole.py', checkpoint, 'whole.onnx')
    assert 'ok   onnxruntime' in printed

    poses = {}
    for name, model in (
        ('torch', ['whole.py', '--checkpoint', checkpoint]),
        ('onnx', ['whole.onnx']),
    ):
        run(
            predict, 'data/val2017', '--model', *model, '--boxes', f'data/{DETECTIONS}',
            '--out', name,
        )  # fmt: skip
        poses[name] = json.loads((tmp_path / name / 'keypoints.json').read_text())
    assert {len(row['keypoints']) for row in poses['torch']} == {3 * 133}
    for ours, exported in zip(poses['torch'], poses['onnx'], strict=True):
        np.testing.assert_allclose(exported['keypoints'], ours['keypoints'], atol=0.51)
