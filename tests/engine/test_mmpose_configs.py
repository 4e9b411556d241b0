"""MMPose's own HRFormer configs run with nothing but this package's prefixes."""

import re
from pathlib import Path

import mmpose
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from mmpose.registry import DATASETS

from hrformer_mmpose.arch import stages_from_arch, stages_from_extra
from hrformer_mmpose.cli import launch

CONFIGS = Path(mmpose.__file__).parent / '.mim/configs'
HRFORMER = sorted(CONFIGS.rglob('td-hm_hrformer-*.py'))
# Every class that the README names for a config that is moved over.
PREFIXED = (
    'HRFormer', 'CocoDataset', 'DefaultSampler', 'CheckpointHook', 'LoadImage',
    'RandomBBoxTransform', 'TopdownAffine', 'CocoMetric',
)  # fmt: skip
BOXES = 'data/coco/person_detection_results/COCO_val2017_detections_AP_H_56_person.json'

pytestmark = pytest.mark.skipif(not HRFORMER, reason="needs the configs of MMPose's wheel")


def moved(path: Path, folder: Path) -> Config:
    """The config as the README says to move it over, read from `folder`."""
    text = re.sub(rf"'({'|'.join(PREFIXED)})'", r"'hrformer_mmpose.\1'", path.read_text())
    text = text.replace('../../../_base_', str(CONFIGS / '_base_'))
    text += "custom_imports = dict(imports=['hrformer_mmpose'])\n"
    file = folder / path.name
    file.write_text(text)
    return Config.fromfile(file)


@pytest.fixture
def folder(synthetic_root, tmp_path, monkeypatch):
    """A folder with data/coco, where MMPose's configs look for it."""
    (tmp_path / 'data').mkdir()
    root = tmp_path / 'data/coco'
    root.mkdir()
    for part in ('annotations', 'train2017', 'val2017'):
        (root / part).symlink_to(synthetic_root / part)
    (root / 'person_detection_results').mkdir()
    boxes = next((synthetic_root / 'person_detection_results').glob('*.json'))
    (tmp_path / BOXES).write_bytes(boxes.read_bytes())
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    DefaultScope._instance_dict.clear()


@pytest.mark.parametrize('path', HRFORMER, ids=lambda path: path.stem)
def test_the_data_sets_are_mmposes(path, folder):
    cfg = moved(path, folder)
    theirs = Config.fromfile(path)
    init_default_scope('mmpose')
    for loader in ('train_dataloader', 'val_dataloader'):
        data, expected = (DATASETS.build(c[loader].dataset) for c in (cfg, theirs))
        assert data.bbox_file == expected.bbox_file
        ids = [[data.get_data_info(i)['id'] for i in range(len(data))] for data in (data, expected)]
        assert ids[0] == ids[1]
        assert len(data) > 5


@pytest.mark.slow
@pytest.mark.parametrize('path', HRFORMER, ids=lambda path: path.stem)
def test_it_trains_and_tests(path, folder):
    cfg = moved(path, folder)
    cfg.work_dir, cfg.launcher = str(folder / 'work'), 'none'
    cfg.experiment_name = folder.name
    cfg.model.backbone.init_cfg = None
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.indices = 2
    runner = launch.build_runner(cfg)
    runner.train()
    assert runner.iter == 1
    assert (folder / 'work/best_coco_AP_epoch_1.pth').is_file()


# `extra` of MMPose 1.x, and of the four configs of 0.x: these entries with 1.x's stages.
@pytest.mark.parametrize(
    'settings',
    [{}, dict(drop_path_rate=0.1), dict(drop_path_rate=0.3, with_rpe=False)],
    ids=['1.x', '0.x small', '0.x base'],
)
@pytest.mark.parametrize('path', HRFORMER, ids=lambda path: path.stem)
def test_the_networks_extra_is_read(path, settings):
    extra = Config.fromfile(path).model.backbone.extra.to_dict()
    if settings:
        stages = {key: value for key, value in extra.items() if key.startswith('stage')}
        extra = {**settings, **stages}
    found, others = stages_from_extra(extra)
    arch = 'small' if 'small' in path.stem else 'base'
    assert found[1:] == stages_from_arch(arch)[1:]
    assert others == {key: value for key, value in extra.items() if not key.startswith('stage')}
