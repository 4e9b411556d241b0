"""The authors' names and MMPose's, and what names tell."""

import pytest
import torch

from hrformer_mmpose.arch import ARCHS, stages_from_arch
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import architecture, origin, to_mmpose, to_official
from hrformer_mmpose.checkpoint.state_dict_adapter import (
    INDEX,
    num_classes,
    num_keypoints,
    num_parameters,
)
from hrformer_mmpose.heads.classification import ClassificationHead
from hrformer_mmpose.heads.ocr import OCRHead
from tests import official
from tests.checkpoint.weights import official_weights


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def network(kind: str, size: str) -> dict:
    """The state dict of ours, as bare as the authors' file of that kind."""
    if kind == 'seg':
        arch = dict(ARCHS[size], window_sizes=official.WINDOWS[f'seg_{size}'])
        entries = HRFormer(arch=arch, multiscale_output=True).state_dict()
        entries = {f'backbone.{key}': value for key, value in entries.items()}
    else:
        entries = HRFormer(arch=size, multiscale_output=kind == 'cls').state_dict()
    head = dict(cls=ClassificationHead, seg=OCRHead).get(kind)
    if head is not None:
        classes = dict(seg_small=19, seg_base=59).get(f'{kind}_{size}', 1000)
        head = head(stages_from_arch(size)[-1].channels, classes).state_dict()
        entries |= {f'head.{key}': value for key, value in head.items()}
    return entries


@pytest.mark.parametrize('name', official.NAMES)
def test_the_authors_lists_become_ours_and_back(name):
    keys = official.entries(name)
    weights = {
        key: torch.randint(99, shape) if INDEX in key else torch.randn(shape)
        for key, shape in keys.items()
    }
    converted = to_mmpose(weights)
    kind, size = name.split('_')
    shapes = {key: tuple(value.shape) for key, value in network(kind, size).items()}
    ours = {key: tuple(value.shape) for key, value in converted.items()}
    without_index = [{k: v for k, v in d.items() if INDEX not in k} for d in (ours, shapes)]
    assert without_index[0] == without_index[1]
    assert same(to_official(converted), weights)
    assert same(to_mmpose(converted), converted)
    assert same(to_official(weights), weights)


def whole(backbone: dict, head: str, keypoints: int = 17) -> dict:
    final = {'weight': torch.randn(keypoints, 32, 1, 1), 'bias': torch.randn(keypoints)}
    prefixed = {f'backbone.{key}': value for key, value in backbone.items()}
    return {**prefixed, **{f'{head}.final_layer.{key}': value for key, value in final.items()}}


def test_whole_models_convert_with_their_head():
    official = whole(official_weights(), 'keypoint_head')
    converted = to_mmpose(official)
    assert 'head.final_layer.weight' in converted
    assert 'backbone.stage2.0.branches.0.0.attn.attn.qkv.weight' in converted
    assert not any('keypoint_head' in key or '_proj' in key for key in converted)
    assert same(to_official(converted), official)


def test_query_key_and_value_keep_their_order():
    name = 'stage2.0.branches.0.0.attn.attn.{}.bias'.format
    parts = {name(f'{part}_proj'): torch.full((2,), i) for i, part in enumerate('qkv')}
    assert to_mmpose(dict(reversed(parts.items())))[name('qkv')].tolist() == [0, 0, 1, 1, 2, 2]


def test_conversion_leaves_its_argument_alone():
    weights = official_weights()
    before = dict(weights)
    to_official(to_mmpose(weights))
    assert same(weights, before)


def test_origin():
    backbone = official_weights()
    multiscale = official_weights(multiscale_output=True)
    assert origin(backbone) == 'official-pose'
    assert origin(whole(backbone, 'keypoint_head')) == 'official-pose'
    assert origin({**backbone, 'classifier.weight': 0}) == 'official-classification'
    assert origin(multiscale) == 'official-segmentation'
    assert origin(whole(multiscale, 'x')) == 'official-segmentation'
    assert origin({**whole(backbone, 'x'), 'cls_head.weight': 0}) == 'official-segmentation'
    ours = to_mmpose(backbone)
    assert origin(ours) == 'mmpose'
    assert origin(whole(ours, 'head')) == 'mmpose'
    assert origin(whole(ours, 'keypoint_head')) == 'mmpose'  # MMPose 0.x
    assert origin({'conv1.weight': 0, 'layer1.0.conv1.weight': 0}) == 'unknown'


@pytest.mark.parametrize('name', official.NAMES)
def test_origin_of_the_authors_lists(name):
    keys = official.entries(name)
    kind = dict(pose='pose', cls='classification', seg='segmentation')[name.split('_')[0]]
    assert origin(dict.fromkeys(keys)) == f'official-{kind}'


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_published_architectures_have_a_name(arch):
    state = HRFormer(arch=arch).state_dict()
    assert architecture(state) == f'HRFormer-{arch[0].upper()}'
    assert architecture(to_official(state)) == f'HRFormer-{arch[0].upper()}'
    without = {key: value for key, value in state.items() if 'relative_position' not in key}
    assert architecture(without) == f'HRFormer-{arch[0].upper()}'


def test_other_architectures_are_described():
    arch = dict(channels=(4, 8, 16, 32), num_heads=(1, 2, 2, 4), num_modules=(1, 1, 2, 1))
    state = HRFormer(arch=dict(arch, num_blocks=1, window_sizes=5, mlp_ratios=2)).state_dict()
    assert architecture(state) == (
        'HRFormer(channels=(4, 8, 16, 32), num_modules=(1, 1, 2, 1), num_blocks=1, mlp_ratio=2, '
        'num_heads=(1, 2, 2, 4), window_size=5)'
    )
    # The small network but for one thing is not the small network.
    base = HRFormer(arch=dict(arch, num_heads=(1, 2, 4, 8), channels=(32, 64, 128, 256)))
    assert architecture(base.state_dict()).startswith('HRFormer(')


@pytest.mark.parametrize(
    ('cls', 'options', 'name'),
    [
        ('ResNet', dict(depth=18), 'ResNet'),
        (
            'SwinTransformer',
            dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
            'Swin',
        ),
        ('HRNet', None, 'HRNet-W18'),
        ('PyramidVisionTransformer', dict(num_layers=[1, 1, 1, 1]), 'PVT'),
    ],
)
def test_networks_of_mmpose_are_told_apart(cls, options, name):
    backbones = pytest.importorskip('mmpose.models.backbones')
    if options is None:
        stage = dict(num_modules=1, block='BASIC')
        extra = {'stage1': dict(stage, block='BOTTLENECK', num_branches=1, num_blocks=(1,))}
        extra['stage1']['num_channels'] = (64,)
        for n in (2, 3, 4):
            widths = tuple(18 * 2**i for i in range(n))
            extra[f'stage{n}'] = dict(stage, num_branches=n, num_blocks=(1,) * n)
            extra[f'stage{n}']['num_channels'] = widths
        options = dict(extra=extra)
    assert architecture(getattr(backbones, cls)(**options).state_dict()) == name


def test_counts():
    state = HRFormer(arch='tiny').state_dict()
    expected = sum(parameter.numel() for parameter in HRFormer(arch='tiny').parameters())
    assert num_parameters(state) == expected
    assert num_keypoints(state) is None
    assert num_keypoints(whole({}, 'head', 14)) == 14
    assert num_keypoints(whole({}, 'keypoint_head', 21)) == 21
    for name, classes in dict(pose_base=None, cls_tiny=1000, seg_small=19, seg_base=59).items():
        theirs = {k: torch.empty(v, device='meta') for k, v in official.entries(name).items()}
        assert num_classes(theirs) == num_classes(to_mmpose(theirs)) == classes


def test_names_of_other_networks_stay():
    """A Vision Transformer has an `mlp`, too, and PVT an `out_proj`."""
    keys = 'blocks.0.mlp.fc1.weight', 'layers.0.1.0.attn.attn.out_proj.weight'
    state = {f'backbone.{key}': torch.ones(1) for key in keys}
    assert same(to_mmpose(state), state)
    assert same(to_official(state), state)
