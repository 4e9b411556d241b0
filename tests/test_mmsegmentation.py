"""Our backbone in a config of MMSegmentation, which is no requirement.

MMSegmentation 1.2.2 needs mmcv with its operators, not mmcv-lite.
"""

from pathlib import Path

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from tests.datasets import segmentation_data

try:
    import mmseg
    import mmseg.models  # fails without mmcv's operators
except ImportError:
    pytest.skip('needs MMSegmentation, and mmcv with its operators', allow_module_level=True)

CONFIG = 'ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024.py'
CHANNELS = (18, 36, 72, 144)  # of the config's HRNet, and of HRFormer-T


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(Path(mmseg.__file__).parent / '.mim/configs' / CONFIG)
    # What docs/beyond_poses.md tells to change.
    cfg.custom_imports = dict(imports=['hrformer_mmpose'])
    cfg.model.pretrained = None
    cfg.model.backbone = dict(
        type='mmpose.hrformer_mmpose.HRFormer',
        arch='tiny',
        multiscale_output=True,
        align_corners=True,
        norm_cfg=dict(type='SyncBN'),
    )
    assert [tuple(head.in_channels) for head in cfg.model.decode_head] == [CHANNELS] * 2
    # A run of a moment.
    cfg.work_dir, cfg.launcher = str(tmp_path / 'work'), 'none'
    cfg.crop_size = cfg.model.data_preprocessor.size = (64, 96)
    root = str(segmentation_data.cityscapes(tmp_path / 'data'))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = root
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step['scale'] = (128, 64)
            if 'crop_size' in step:
                step['crop_size'] = (64, 96)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    yield cfg
    DefaultScope._instance_dict.clear()


@pytest.mark.slow
def test_it_trains_and_tests(cfg):
    runner = Runner.from_cfg(cfg)
    weight = runner.model.backbone.conv1.weight
    before = weight.detach().clone()
    runner.train()
    assert runner.iter == 2
    assert not torch.equal(weight, before)
    assert 'mIoU' in runner.test()
