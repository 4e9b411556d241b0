"""Every config parses and says what the published recipe says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmpose.registry import MODELS, TRANSFORMS
from torch.nn import BatchNorm2d

from hrformer_mmpose import zoo
from hrformer_mmpose.arch import stages_from_arch
from hrformer_mmpose.backbones import HRFormer
from tests.conftest import ROOT

CONFIGS = [Path(zoo.find(name)) for name in zoo.names()]
# The authors' networks with each codec; the others are ablations and networks to compare with.
COCO = [
    path
    for path in CONFIGS
    if re.fullmatch(r'hrformer_[a-z]+_coco_\d+x\d+(_dark|_udp)?', path.stem)
]


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_it_parses_and_its_parts_build(path, tmp_path, no_init):
    cfg = Config.fromfile(path)
    model = MODELS.build({**cfg.model, '_scope_': 'mmpose'})
    if isinstance(model.backbone, HRFormer) and isinstance(cfg.model.backbone.arch, str):
        widths = stages_from_arch(cfg.model.backbone.arch)[-1].channels
        wanted = widths if cfg.model.backbone.get('multiscale_output') else widths[0]
        assert cfg.model.head.in_channels == wanted
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for transform in loader.dataset.pipeline:
            TRANSFORMS.build({**transform, '_scope_': 'mmpose'})
    # What a run saves in its work folder reads back as the same config.
    cfg.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()


def test_there_are_the_six_published_ones_and_their_codecs():
    assert [path.stem for path in COCO] == [
        f'hrformer_{arch}_coco_{size}{codec}'
        for arch in ('base', 'small', 'tiny')
        for size in ('256x192', '384x288')
        for codec in ('', '_dark', '_udp')
    ]


@pytest.mark.parametrize('path', COCO, ids=lambda path: path.stem)
def test_the_codec_is_everywhere_the_same_and_has_its_pipeline(path):
    """Encoder, decoder and crop belong together; a mixture costs AP without a word."""
    cfg = Config.fromfile(path)
    udp, dark = path.stem.endswith('_udp'), path.stem.endswith('_dark')
    assert cfg.codec.type == f'hrformer_mmpose.{"UDP" if udp else "MSRA"}Heatmap'
    assert cfg.codec.get('unbiased', False) == dark
    if udp or dark:
        assert cfg.codec.blur_kernel_size == (17 if '384x288' in path.stem else 11)
    assert cfg.model.head.decoder == cfg.codec
    assert 'shift_heatmap' not in cfg.model.test_cfg
    loaders = cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader
    pipelines = [{step.type: step for step in loader.dataset.pipeline} for loader in loaders]
    assert pipelines[0]['GenerateTarget'].encoder == cfg.codec
    for pipeline in pipelines:
        assert pipeline['hrformer_mmpose.TopdownAffine'].get('use_udp', False) == udp
        assert pipeline['hrformer_mmpose.TopdownAffine'].input_size == cfg.codec.input_size


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


@pytest.mark.parametrize('size', ['384x288', '512x384'])
@pytest.mark.parametrize('trunk', ['res50', 'res101', 'hrnet_w32'])
def test_the_recipe_of_prtr(trunk, size):
    """Settings of https://github.com/mlpc-ucsd/PRTR, two_stage/experiments/coco/transformer."""
    cfg = Config.fromfile(zoo.find(f'prtr_{trunk}_coco_{size}'))
    hrnet = trunk == 'hrnet_w32'
    codec = dict(
        type='hrformer_mmpose.CoordinateLabel', input_size=tuple(map(int, size.split('x')))[::-1]
    )
    assert cfg.codec == cfg.model.head.decoder == codec
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        steps = {step.type.split('.')[-1]: step for step in loader.dataset.pipeline}
        assert steps['TopdownAffine'].input_size == codec['input_size']
        if loader is cfg.train_dataloader:
            assert steps['GenerateTarget'].encoder == codec
            assert 'RandomHalfBody' not in steps
            transform = TRANSFORMS.build(steps['RandomBBoxTransform'])
            assert (transform.shift_prob, transform.scale_factor) == (0, (0.7, 1.3))
            assert (transform.rotate_factor, transform.rotate_prob) == (80, 0.6)
    assert cfg.train_dataloader.batch_size == (16 if hrnet else 32)
    assert cfg.auto_scale_lr.base_batch_size == 4 * cfg.train_dataloader.batch_size
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=1e-4)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=0.1)
    assert ('custom_keys' in cfg.optim_wrapper.paramwise_cfg) != hrnet
    assert cfg.param_scheduler[0].milestones == ([70, 95] if hrnet else [120, 140])
    assert cfg.param_scheduler[0].gamma == 0.5
    assert cfg.train_cfg.max_epochs == 200
    assert cfg.model.data_preprocessor.bgr_to_rgb == hrnet
    if not hrnet:  # BatchNorm, stem and first stage are frozen
        with torch.device('meta'):
            backbone = MODELS.build({**cfg.model.backbone, '_scope_': 'mmpose'})
        backbone.train()
        trained = [key for key, p in backbone.named_parameters() if p.requires_grad]
        # Three convolutions a block, and one for the shortcut of each stage.
        assert len(trained) == 3 * (4 + (6 if trunk == 'res50' else 23) + 3) + 3
        assert all(
            re.match(r'layer[234]\..*(conv\d|downsample\.0)\.weight', key) for key in trained
        )
        assert not any(m.training for m in backbone.modules() if isinstance(m, BatchNorm2d))


def test_coco_root_counts_for_images_annotations_and_detections(monkeypatch):
    monkeypatch.setenv('COCO_ROOT', '/somewhere/coco')
    monkeypatch.setenv('COCO_DETECTIONS', 'mine/boxes.json')
    cfg = Config.fromfile(ROOT / 'configs/hrformer_small_coco_256x192.py')
    dataset = cfg.val_dataloader.dataset
    assert dataset.data_root == cfg.train_dataloader.dataset.data_root == '/somewhere/coco'
    assert cfg.val_evaluator.ann_file == '/somewhere/coco/' + dataset.ann_file
    assert dataset.bbox_file == 'mine/boxes.json'


@pytest.mark.parametrize('size', ['256x192', '384x288'])
def test_the_augmentation_is_the_authors(size):
    """Shifted boxes, or an unshifted half of the body; then scale and rotation of either."""
    pipeline = Config.fromfile(ROOT / f'configs/hrformer_base_coco_{size}.py').train_pipeline
    names = [step.type.split('.')[-1] for step in pipeline]
    first, last = names.index('RandomFlip') + 1, names.index('TopdownAffine')
    steps = [TRANSFORMS.build({**step, '_scope_': 'mmpose'}) for step in pipeline[first:last]]
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 100, (1, 17, 2))
    person = dict(
        bbox_center=np.full((1, 2), 50.0),
        bbox_scale=np.full((1, 2), 125.0),
        keypoints=keypoints,
        keypoints_visible=np.ones((1, 17)),
        upper_body_ids=[*range(11)],
        lower_body_ids=[*range(11, 17)],
    )
    np.random.seed(0)
    centers, scales, rotations = [], [], []
    for _ in range(8000):
        sample = dict(person)
        for step in steps:
            sample = step(sample)
        centers.append(sample['bbox_center'][0])
        scales.append(sample['bbox_scale'][0])
        rotations.append(sample['bbox_rotation'][0])
    centers, scales, rotations = (np.array(x) for x in (centers, scales, rotations))
    upper, lower, whole = (
        np.isclose(centers, middle).all(1)
        for middle in (keypoints[0, :11].mean(0), keypoints[0, 11:].mean(0), 50)
    )
    assert np.mean(upper | lower) == pytest.approx(0.3, abs=0.02)
    assert upper.sum() / (upper | lower).sum() == pytest.approx(0.6915, abs=0.03)
    shifted = ~(upper | lower | whole)
    assert shifted.sum() / (shifted | whole).sum() == pytest.approx(0.3, abs=0.02)
    assert np.abs(centers[shifted] - 50).max() == pytest.approx(20, abs=0.2)
    box = scales[shifted | whole] / 125
    assert np.mean((box == 0.5) | (box == 1.5)) == pytest.approx(0.317, abs=0.02)
    assert np.ptp(scales[upper], axis=0) == pytest.approx(1.5 * np.ptp(keypoints[0, :11], axis=0))
    assert np.mean(rotations != 0) == pytest.approx(0.6, abs=0.02)
