"""Every config trains two iterations and tests, on generated data.

The networks of the ready-made sets are tiny here: those of COCO's configs are the same. Those to
compare with are also exported and predict.
"""

import json
import re
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
from tests.datasets import segmentation_data
from tests.datasets.sets import SETS

TINY = dict(channels=(4, 8, 8, 8), num_heads=(1, 2, 2, 2), num_modules=1, num_blocks=1)
CONFIGS = [Path(zoo.find(name)) for name in zoo.names()]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Roots of the data sets that configs name, by environment variable."""
    root = tmp_path_factory.mktemp('data')
    people = synthetic.generate(root / 'people', num_train=4, num_val=2, masks=True)
    drawn = shapes.generate(root / 'shapes', num_train=2, num_val=1)
    for name, ready_made in SETS.items():
        (root / name).mkdir()
        ready_made.write(root / name, people)
    return dict(
        COCO_ROOT=people,
        COCO_DETECTIONS=next((people / 'person_detection_results').glob('*.json')),
        DEMO_ROOT=people,
        PEOPLE_ROOT=people,
        SHAPES_ROOT=drawn,
        IMAGENET_ROOT=drawn,
        sets=root,
        CITYSCAPES_ROOT=segmentation_data.cityscapes(root / 'cityscapes'),
        PASCAL_CONTEXT_ROOT=segmentation_data.pascal_context(root / 'pascal_context'),
        COCO_STUFF_ROOT=segmentation_data.coco_stuff_10k(root / 'coco_stuff'),
    )


def shrink(cfg: Config) -> None:
    """Crops of 64 pixels instead of 512 or 520, which take a minute each on a CPU."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if 'size' in step:
                step['size'] = 64 if isinstance(step['size'], int) else (64, 96)


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_two_iterations_and_a_test(path, data, tmp_path, monkeypatch, capsys):
    for name, value in data.items():
        monkeypatch.setenv(name, str(value))
    ready_made = re.fullmatch(r'hrformer_[a-z]+_(.+)_\d+x\d+', path.stem)
    if path.parent.name == 'datasets':
        monkeypatch.setenv(SETS[ready_made[1]].variable, str(data['sets'] / ready_made[1]))
    cfg = Config.fromfile(path)
    if path.parent.name == 'datasets':
        cfg.model.backbone.arch, cfg.model.head.in_channels = TINY, TINY['channels'][0]
    cfg.work_dir, cfg.launcher = str(tmp_path), 'none'
    cfg.experiment_name = f'{path.stem}_{tmp_path.name}'
    for part in ('backbone', 'neck'):
        cfg.model.get(part, {}).pop('init_cfg', None)
    if cfg.model.backbone.get('depth') == 24:  # ViT-L: 5 GB with gradients and AdamW's averages
        cfg.model.backbone.depth = 2
    if cfg.model.type.endswith('ImageClassifier'):  # ImageNet's thousand classes are not at hand
        cfg.model.head.num_classes = len(shapes.CLASSES)
    if 'crop_size' in cfg:
        shrink(cfg)
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
    """Run the commands; the exported file gives the poses of the checkpoint.

    After two iterations heatmaps are flat, and rounding decides where some of them are highest:
    most keypoints agree, and the check after an export, of all of them, is left out. PRTR has no
    heatmaps.
    """
    weights, exported = folder / 'epoch_1.pth', folder / 'network.onnx'
    status, out = run('export', str(path), str(weights), str(exported), '--no-check')
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
        poses.append(np.array([result['keypoints'] for result in results]).reshape(-1, 3))
    near = np.abs(poses[0] - poses[1]).max(axis=1) < 0.02
    assert near.all() if path.stem.startswith('prtr') else near.mean() > 0.8
    weights.unlink()
