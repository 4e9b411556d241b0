"""Slow: other numbers of keypoints from annotations to test, report, exported file and poses."""

import json
import pickle
import sys

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnxruntime')
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from pycocotools.coco import COCO

from hrformer_mmpose import zoo
from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.cli import export, main, new_dataset
from hrformer_mmpose.cli import test as test_command
from hrformer_mmpose.compat.cocoeval import COCOeval
from hrformer_mmpose.imaging.drawing import LEFT
from hrformer_mmpose.inference.description import Description
from hrformer_mmpose.inference.networks import open_network
from tests.evaluation.cases import reference
from tests.fuzz.materials import fast_mmengine
from tests.owndata import writers

SMALL = """
_base_ = '{config}'
model = dict(
    backbone=dict(arch=dict(
        _delete_=True, channels=(4, 8, 8, 8), num_heads=(1, 2, 2, 2), num_modules=1, num_blocks=1,
    )),
    head=dict(in_channels=4),
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
test_evaluator = [
    dict(_base_.val_evaluator, outfile_prefix='results', sigmas=[1.0] * {K}),
    dict(type='PCKAccuracy', thr=0.2), dict(type='AUC'), dict(type='EPE'),
    dict(type='hrformer_mmpose.PCKAccuracy', head=('paw L', 'paw R')),
]
"""


def with_keypoints(content: dict, K: int) -> list[str]:
    """Give the drawn persons K keypoints within their boxes; return their names."""
    names = ['paw L', 'paw R', *(f'spine {k}' for k in range(2, K))]
    rng = np.random.default_rng(0)
    for ann in content['annotations']:
        x, y, w, h = ann['bbox']
        points = rng.uniform((x, y), (x + w, y + h), (K, 2)).round(2)
        rows = np.column_stack([points, np.full(K, 2)])
        ann.update(keypoints=rows.ravel().tolist(), num_keypoints=K)
    content['categories'][0].update(keypoints=names, skeleton=[[1, 3], [2, 3]])
    return names


def network(config: str) -> str:
    """Write weights by which different images have different poses."""
    torch.manual_seed(3)
    init_default_scope('mmpose')
    model = MODELS.build(zoo.read_config(config).model)
    model.head.final_layer.weight.data.normal_(0, 0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    save_weights(model.state_dict(), 'cats.pth', 'mmpose')
    return 'cats.pth'


@pytest.mark.slow
@pytest.mark.parametrize('K', [3, 21])
def test_from_annotations_to_poses(drawn, tmp_path, monkeypatch, capsys, K):
    content, images = drawn
    names = with_keypoints(content, K)
    monkeypatch.chdir(tmp_path)
    path = str(writers.coco(content, tmp_path))
    flags = ['--model', 'tiny', '--weights', 'none', '--input-size', '64x48', '--codec', 'msra']
    arguments = [path, '--images', str(images), '--out', 'cats', '--val', path, *flags]
    assert new_dataset.run(new_dataset.parser().parse_args(arguments)) == 0
    config = str(tmp_path / 'small.py')
    (tmp_path / 'small.py').write_text(SMALL.format(config=tmp_path / 'cats/config.py', K=K))
    checkpoint = network(config)

    arguments = [config, checkpoint, '--out', 'metrics.json', '--dump', 'dump.pkl', '--badcase']
    with fast_mmengine():
        test_command.run(test_command.parser().parse_args(arguments))
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert [row['name'] for row in metrics['report']['keypoints']] == names
    assert {'PCK', 'AUC', 'EPE', 'PCKh'} <= metrics.keys()
    truth = json.loads((tmp_path / 'cats/val.json').read_text())
    results = json.loads((tmp_path / 'results.keypoints.json').read_text())
    theirs = reference(COCO, COCOeval, truth, results, 'keypoints', [1.0] * K)
    ours = [value for name, value in metrics.items() if name.startswith('coco/')]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert 0.1 < ours[0] < 0.99
    samples = pickle.loads((tmp_path / 'dump.pkl').read_bytes())
    errors = np.concatenate(
        [
            np.linalg.norm(
                s['pred_instances']['keypoints'][0] - s['gt_instances']['keypoints'][0], axis=1
            )
            for s in samples
        ]
    )
    assert metrics['EPE'] == pytest.approx(errors.mean(), rel=1e-4)

    assert export.run(export.parser().parse_args([config, checkpoint, 'cats.onnx'])) == 0
    description = open_network('cats.onnx').description
    assert isinstance(description, Description)
    assert description.skeleton.names == tuple(names)
    assert description.skeleton.flip_indices[:3] == (1, 0, 2)
    assert description.skeleton.links == ((0, 2), (1, 2))

    argv = ['hrformer', 'predict', str(images), '--model', 'cats.onnx', '--boxes', 'cats/val.json']
    monkeypatch.setattr(sys, 'argv', [*argv, '--out', 'poses', '--threshold', '0'])
    main.main()
    (category,) = json.loads((tmp_path / 'poses/categories.json').read_text())
    assert category['keypoints'] == names
    assert category['skeleton'] == [[1, 3], [2, 3]]
    poses = json.loads((tmp_path / 'poses/keypoints.json').read_text())
    coco = COCO('cats/val.json')
    coco.loadRes('poses/keypoints.json')
    found = {(p['image_id'], *np.round(p['bbox'])): p['keypoints'] for p in poses}
    distances = []
    for sample in samples:
        x0, y0, x1, y1 = sample['pred_instances']['bboxes'][0]
        key = sample['img_id'], *np.round([x0, y0, x1 - x0, y1 - y0])
        rows = np.reshape(found[key], (K, 3))
        tested = sample['pred_instances']['keypoints'][0]
        distances.append(np.abs(rows[:, :2] - tested).max(1))
    assert np.percentile(np.concatenate(distances), 90) < 0.5
    pictures = [cv2.imread(str(p)).astype(int) for p in (tmp_path / 'poses/pictures').iterdir()]
    assert len(pictures) == len(truth['images'])
    assert any((abs(picture - LEFT).max(-1) < 30).any() for picture in pictures)
