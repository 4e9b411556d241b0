"""Every config trains two iterations and tests, on generated data.

Those of the networks to compare with are also exported and predict.
"""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.registry import DefaultScope

from hrformer_mmpose import zoo
from hrformer_mmpose.cli import launch
from hrformer_mmpose.synthetic import dataset as synthetic
from hrformer_mmpose.synthetic import shapes
from tests.cli.predict.helpers import hrformer

CONFIGS = [Path(zoo.find(name)) for name in zoo.names()]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Roots of the data sets that configs name, by environment variable."""
    root = tmp_path_factory.mktemp('data')
    people = synthetic.generate(root / 'people', num_train=4, num_val=2, masks=True)
    drawn = shapes.generate(root / 'shapes', num_train=2, num_val=1)
    return dict(
        COCO_ROOT=people,
        COCO_DETECTIONS=next((people / 'person_detection_results').glob('*.json')),
        DEMO_ROOT=people,
        PEOPLE_ROOT=people,
        SHAPES_ROOT=drawn,
        IMAGENET_ROOT=drawn,
    )


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_iterations_and_a_test(path, data, tmp_path, monkeypatch, capsys):
    for name, value in data.items():
        monkeypatch.setenv(name, str(value))
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.launcher = str(tmp_path), 'none'
    cfg.experiment_name = f'{path.stem}_{tmp_path.name}'
    for part in ('backbone', 'neck'):
        cfg.model.get(part, {}).pop('init_cfg', None)
    if cfg.model.type.endswith('ImageClassifier'):  # ImageNet's thousand classes are not at hand
        cfg.model.head.num_classes = len(shapes.CLASSES)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.indices = 4
    runner = launch.build_runner(cfg)
    runner.train()
    assert runner.iter == 2
    runner = launch.build_runner(
        Config(
            {**cfg, 'load_from': str(tmp_path / 'epoch_1.pth'), 'experiment_name': tmp_path.name}
        )
    )
    figures = runner.test()
    assert figures
    DefaultScope._instance_dict.clear()
    if path.parent.name == 'comparisons':
        export_and_predict(path, data, tmp_path, lambda *args: hrformer(monkeypatch, capsys, *args))


def export_and_predict(path, data, folder, run):
    """Run the commands; the exported file gives the poses of the checkpoint."""
    weights, exported = folder / 'epoch_1.pth', folder / 'network.onnx'
    status, out = run('export', str(path), str(weights), str(exported))
    assert status == 0, out
    images = data['COCO_ROOT'] / 'val2017'
    boxes = data['COCO_ROOT'] / 'annotations/person_keypoints_val2017.json'
    poses = []
    for model in ((str(path), '--checkpoint', str(weights)), (str(exported),)):
        target = folder / f'poses_{len(poses)}'
        arguments = ('--model', *model, '--boxes', str(boxes), '--out', str(target))
        status, out = run('predict', str(images), *arguments)
        assert status == 0, out
        results = json.loads((target / 'keypoints.json').read_text())
        poses.append(np.array([result['keypoints'] for result in results]))
    np.testing.assert_allclose(*poses, atol=0.02)
    weights.unlink()
