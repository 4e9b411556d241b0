"""Every config parses and says what the published recipe says."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
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
HRNET = [path for path in CONFIGS if re.match(r'hrnet_w\d+_coco', path.stem)]
# Their other recipe and codecs have the same network: built in the slow tests. Those of the
# ready-made sets build in tests/engine/test_every_config.py.
BUILT = [
    pytest.param(path, marks=pytest.mark.slow)
    if path in (*COCO, *HRNET) and path.stem.endswith(('_adam', '_dark', '_udp'))
    else path
    for path in CONFIGS
    if path.parent.name != 'datasets'
]
read = functools.cache(Config.fromfile)  # for tests that change nothing


@pytest.mark.parametrize('path', BUILT, ids=lambda path: path.stem)
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


@pytest.mark.parametrize('path', COCO + HRNET, ids=lambda path: path.stem)
def test_the_codec_is_everywhere_the_same_and_has_its_pipeline(path):
    """Encoder, decoder and crop belong together; a mixture costs AP without a word."""
    cfg = read(path)
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
    cfg = read(path)
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


SEGMENTATION = [path for path in CONFIGS if path.parent.name == 'segmentation']
# Of seg/scripts/*/hrt and seg/configs/*/H_48_D_4.json of the authors' repository: images of the
# training set, images a batch, iterations, crop, drop path of S, B and B with windows of 15.
SEGMENTATION_RECIPES = {
    'cityscapes_512x1024': (2975, 8, 80_000, (512, 1024), (0.2, 0.4, 0.4)),
    'pascal_context_520': (4998, 16, 60_000, (520, 520), (0.2, 0.2, 0.3)),
    'coco_stuff_520': (9000, 16, 60_000, (520, 520), (0.2, 0.2, 0.2)),
}


def test_there_is_a_segmentation_config_of_each_network_and_data_set():
    assert {path.stem for path in SEGMENTATION} == {
        f'hrformer_{network}_{data}'
        for network in ('small', 'base', 'base_window15')
        for data in SEGMENTATION_RECIPES
    }


@pytest.mark.parametrize('path', SEGMENTATION, ids=lambda path: path.stem)
def test_the_segmentation_recipe(path):
    cfg = Config.fromfile(path)
    network, data = re.fullmatch(r'hrformer_(small|base_window15|base)_(.*)', path.stem).groups()
    images, batch, iterations, crop, drop_paths = SEGMENTATION_RECIPES[data]
    assert cfg.crop_size == crop
    drop_path = dict(zip(('small', 'base', 'base_window15'), drop_paths, strict=True))[network]
    assert cfg.model.backbone.drop_path_rate == drop_path
    # On 8 GPUs: an epoch of whole batches, the sampler gives every GPU as many images.
    assert cfg.train_dataloader.batch_size * 8 == batch == cfg.auto_scale_lr.base_batch_size
    epoch = -(-images // 8) // cfg.train_dataloader.batch_size
    assert cfg.train_dataloader.drop_last
    assert cfg.train_cfg.max_epochs * epoch == pytest.approx(iterations, rel=0.003)
    warm_up, poly = cfg.param_scheduler
    assert warm_up.end * epoch == pytest.approx(1500, rel=0.13)
    assert (poly.begin, poly.end, poly.power) == (warm_up.end, cfg.train_cfg.max_epochs, 0.9)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 0.01)
    head = cfg.model.head
    assert head.get('ohem_threshold') == (None if 'pascal' in data else 0.9)
    assert (len(head.get('class_weight', ())) == 19) == ('cityscapes' in data)
    scale_crop = next(s for s in cfg.train_pipeline if s.type.endswith('RandomScaleCrop'))
    assert (scale_crop.size, scale_crop.scale, scale_crop.aspect) == (crop, (0.5, 2.0), (0.9, 1.1))
    assert 'flip' not in str(cfg.test_pipeline)
    assert not cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.test_dataloader.dataset == cfg.val_dataloader.dataset
    assert cfg.test_dataloader.dataset.test_mode


def test_hrnet_has_both_sizes_all_codecs_and_both_recipes():
    assert [path.stem for path in HRNET] == [
        f'hrnet_{width}_coco_{size}{variant}'
        for width in ('w32', 'w48')
        for size in ('256x192', '384x288')
        for variant in ('', '_adam', '_dark', '_udp')
    ]


@pytest.mark.parametrize('path', HRNET, ids=lambda path: path.stem)
def test_the_recipes_of_hrnet(path):
    """Ours, or that of HRNet's authors (experiments/coco/hrnet/*.yaml of their repository)."""
    cfg = read(path)
    optimizer, own = cfg.optim_wrapper.optimizer, path.stem.endswith('_adam')
    rates = [scheduler.type for scheduler in cfg.param_scheduler]
    box = [step for step in cfg.train_pipeline if step.type.endswith('RandomBBoxTransform')]
    batch, norm = cfg.auto_scale_lr.base_batch_size, cfg.model.backbone.norm_cfg.type
    if not own:
        ours = read(ROOT / 'configs/hrformer_small_coco_256x192.py')
        assert (optimizer, cfg.param_scheduler) == (
            ours.optim_wrapper.optimizer,
            ours.param_scheduler,
        )
        assert (batch, norm, len(box)) == (256, 'SyncBN', 2)
        return
    assert dict(optimizer) == dict(type='Adam', lr=1e-3)
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    assert (rates, cfg.param_scheduler[0].milestones) == (['MultiStepLR'], [170, 200])
    images = 24 if path.stem == 'hrnet_w48_coco_384x288_adam' else 32
    assert (batch, norm, cfg.train_dataloader.batch_size) == (4 * images, 'BN', images)
    (step,) = box
    assert (step.scale_factor, step.rotate_factor) == ((0.65, 1.35), 90.0)
    assert (step.shift_prob, step.distribution) == (0.0, 'clipped')
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    names = [step.type.split('.')[-1] for step in cfg.train_pipeline]
    assert names == [
        'LoadImage', 'GetBBoxCenterScale', 'RandomFlip', 'RandomHalfBody', 'RandomBBoxTransform',
        'TopdownAffine', 'GenerateTarget', 'PackPoseInputs',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'epochs', 'rate', 'start', 'batch'),
    [
        ('tokenpose_s_v1', 300, 1e-3, None, 128),
        ('tokenpose_s_v2', 300, 1e-3, None, 48),
        ('tokenpose_b', 300, 1e-3, 'hrnet_w32-36af842e.pth', 128),
        ('tokenpose_l_d6', 300, 1e-3, 'hrnet_w48-8ef0771d.pth', 64),
        ('tokenpose_l_d24', 300, 1e-3, 'hrnet_w48-8ef0771d.pth', 64),
        ('transpose_r_a3', 230, 1e-4, 'resnet50-19c8e357.pth', 28),
        ('transpose_r_a4', 230, 1e-4, 'resnet50-19c8e357.pth', 20),
        ('transpose_h_a4', 240, 1e-4, 'hrnet_w48-8ef0771d.pth', 56),
        ('transpose_h_a6', 240, 1e-4, 'hrnet_w48-8ef0771d.pth', 56),
    ],
)
def test_the_recipes_of_pose_transformers(name, epochs, rate, start, batch):
    cfg = zoo.read_config(f'{name}_coco_256x192')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer == dict(type='Adam', lr=rate)
    (schedule,) = cfg.param_scheduler
    if name.startswith('tokenpose'):
        assert (schedule.milestones, schedule.gamma) == ([200, 260], 0.1)
    else:
        assert (schedule.T_max, schedule.eta_min) == (epochs, 1e-5)
    assert schedule.end == epochs
    assert cfg.auto_scale_lr.base_batch_size == batch
    assert cfg.codec.unbiased
    assert cfg.model.head.decoder == cfg.codec
    init = cfg.model.backbone.init_cfg
    assert init.get('checkpoint', '').rpartition('/')[2] == (start or '')
    assert (init.type == 'Pretrained') == bool(start)


def test_the_learning_rate_of_segmentation_is_the_authors():
    """Their `warm_lambda_poly` (seg/segmentor/tools/optim_scheduler.py), for epochs of two."""
    cfg = Config.fromfile(zoo.find('hrformer_small_cityscapes_512x1024'))
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedulers = []
    for settings in cfg.param_scheduler:
        settings = dict(settings, optimizer=optimizer, epoch_length=2)
        schedulers.append(PARAM_SCHEDULERS.build(settings))
    warm, length = 4 * 2, 215 * 2
    for iteration in range(length):
        if iteration < warm:
            expected = 1 - (1 - iteration / warm) * (1 - 1e-6)
        else:
            expected = (1 - (iteration - warm) / (length - warm)) ** 0.9
        # Theirs end one iteration later.
        tolerance = 1.1 / warm if iteration < warm else 2 / (length - warm)
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, abs=tolerance)
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0, abs=1e-6)


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
