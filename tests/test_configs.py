"""Every config parses and says what the published recipe says."""

import pytest

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmpose.registry import MODELS, TRANSFORMS

from tests.conftest import ROOT

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
COCO = [path for path in CONFIGS if '_coco_' in path.name]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_it_parses_and_its_parts_build(path, tmp_path):
    cfg = Config.fromfile(path)
    model = MODELS.build({**cfg.model, '_scope_': 'mmpose'})
    backbone = model.backbone
    assert backbone.stage4[-1].fuse_layers[0][1][0].out_channels == cfg.model.head.in_channels
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for transform in loader.dataset.pipeline:
            TRANSFORMS.build({**transform, '_scope_': 'mmpose'})
    # What a run saves in its work folder reads back as the same config.
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()


def test_there_are_the_six_published_ones():
    assert [path.stem for path in COCO] == [
        f'hrformer_{arch}_coco_{size}'
        for arch in ('base', 'small', 'tiny')
        for size in ('256x192', '384x288')
    ]


@pytest.mark.parametrize('path', COCO, ids=lambda path: path.stem)
def test_the_recipe(path):
    cfg = Config.fromfile(path)
    large, base = '384x288' in path.stem, 'base' in path.stem
    assert cfg.codec.input_size == ((288, 384) if large else (192, 256))
    assert cfg.codec.sigma == (3 if large else 2)
    assert cfg.model.head.decoder == cfg.codec
    batch, drop_path = (32, 0.2 if base else 0.1)
    if large and base:
        batch, drop_path = 8, 0.3
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == 8 * batch
    assert cfg.model.backbone.drop_path_rate == drop_path
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 5e-4, 0.01)
    assert cfg.param_scheduler[1].milestones == [170, 200]
    assert cfg.train_cfg.max_epochs == 210
    assert cfg.default_hooks.checkpoint.save_best == 'coco/AP'


def test_coco_root_counts_for_images_annotations_and_detections(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/somewhere/coco')
    monkeypatch.setenv('COCO_DETECTIONS', 'mine/boxes.json')
    cfg = Config.fromfile(ROOT / 'configs/hrformer_small_coco_256x192.py')
    dataset = cfg.val_dataloader.dataset
    assert dataset.data_root == cfg.train_dataloader.dataset.data_root == '/somewhere/coco'
    assert cfg.val_evaluator.ann_file == '/somewhere/coco/' + dataset.ann_file
    assert dataset.bbox_file == 'mine/boxes.json'
