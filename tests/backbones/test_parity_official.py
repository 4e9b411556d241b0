"""Outputs against recorded outputs of the authors' code."""

import pytest
import torch
from torch import nn

from hrformer_mmpose.arch import ARCHS, stages_from_arch
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import load_pretrained
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.heads.classification import ClassificationHead
from hrformer_mmpose.heads.ocr import OCRHead
from hrformer_mmpose.heads.segmentation import resize
from tests import official
from tests.conftest import relative_error

pytestmark = pytest.mark.usefixtures('no_init')


def classification_network(arch: str) -> nn.Module:
    model = nn.Module()
    model.backbone = HRFormer(arch=arch, multiscale_output=True, align_corners=True)
    model.head = ClassificationHead(stages_from_arch(arch)[-1].channels)
    return model


def segmentation_network(arch: str, classes: int, window: int = 7) -> nn.Module:
    model = nn.Module()
    spec = dict(ARCHS[arch], window_sizes=window)
    model.backbone = HRFormer(arch=spec, multiscale_output=True, align_corners=True)
    model.head = OCRHead(spec['channels'], classes)
    return model


@pytest.mark.parametrize('size', [(256, 192), (160, 224)], ids=str)
@pytest.mark.parametrize(
    ('options', 'recorded'),
    [
        (dict(), 'off'),  # what the authors' code computes, without a flag
        (dict(with_rpe=False), 'off'),
        (dict(official_pose_rpe=True), 'on'),
    ],
    ids=['default', 'no_rpe', 'their_rpe'],
)
@torch.no_grad()
def test_pose_outputs(tmp_path, size, options, recorded):
    torch.save({'state_dict': dict(official.state_dict('pose_small'))}, tmp_path / 'pose.pth')
    model = HRFormer(arch='small', **options).eval()
    load_pretrained(model, tmp_path / 'pose.pth')
    H, W = size
    output = model(official.image(1, H, W, seed=H + W))[0][:, ::3, ::5, ::5]
    expected = official.output(f'pose_small_rpe_{recorded}_1x3x{H}x{W}')
    assert relative_error(output, expected) < 1e-5


@torch.no_grad()
def test_classification_maps(tmp_path):
    torch.save({'model': dict(official.state_dict('cls_small'))}, tmp_path / 'cls.pth')
    model = HRFormer(arch='small', multiscale_output=True, align_corners=True).eval()
    load_pretrained(model, tmp_path / 'cls.pth')
    for i, output in enumerate(model(official.image(2, 224, 224, seed=7))):
        recorded = official.output(f'cls_small_map{i}_2x224x224')
        assert relative_error(output[:, ::3, ::5, ::5], recorded) < 1e-5


@torch.no_grad()
def test_classification_logits(tmp_path):
    """The authors' complete checkpoint, including the head, loaded into our classifier."""
    torch.save({'model': dict(official.state_dict('cls_small'))}, tmp_path / 'cls.pth')
    model = classification_network('small').eval()
    result = load_pretrained(model, tmp_path / 'cls.pth')
    assert 'skipped: nothing' in result.lines[3]
    logits = model.head(model.backbone(official.image(2, 224, 224, seed=7)))
    recorded = official.output('cls_small_logits_2x224x224')
    assert relative_error(logits, recorded) < 1e-5


@pytest.mark.parametrize('name', ['tiny', pytest.param('base', marks=pytest.mark.slow)])
def test_whole_classification_files_load(tmp_path, name):
    torch.save({'model': dict(official.state_dict(f'cls_{name}'))}, tmp_path / 'file.pth')
    result = load_pretrained(classification_network(name), tmp_path / 'file.pth')
    assert 'skipped: nothing' in result.lines[3]
    assert len(result.lines) == 4  # nothing initialised anew


@torch.no_grad()
def test_segmentation_logits(tmp_path):
    """The authors' segmentation file, head included; 96x104 pixels are no multiple of 32."""
    weights = {f'module.{key}': value for key, value in official.state_dict('seg_small').items()}
    torch.save({'state_dict': weights}, tmp_path / 'seg.pth')  # as their trainer saves it
    model = segmentation_network('small', 19).eval()
    result = load_pretrained(model, tmp_path / 'seg.pth')
    assert 'HRFormer-S, 19 classes, origin official-segmentation' in result.lines[0]
    assert 'skipped: nothing' in result.lines[3]
    assert len(result.lines) == 4
    logits = model.head(model.backbone(official.image(2, 96, 104, seed=200)))
    recorded = official.output('seg_small_logits_2x3x96x104')
    assert relative_error(resize(logits, (96, 104))[:, ::3, ::5, ::5], recorded) < 1e-5


@pytest.mark.slow
def test_a_whole_segmentation_file_with_windows_of_15_loads(tmp_path):
    torch.save({'state_dict': dict(official.state_dict('seg_base'))}, tmp_path / 'file.pth')
    result = load_pretrained(segmentation_network('base', 59, 15), tmp_path / 'file.pth')
    assert len(result.lines) == 4
    assert 'skipped: nothing' in result.lines[3]


@pytest.mark.parametrize(
    ('network', 'message'),
    [
        (('small', 20), 'predicts 19 classes, the config builds a head for 20'),
        (('small', 19, 15), r'holds HRFormer-S, the config builds HRFormer\(.*window_size=15'),
        (('tiny', 19), 'holds HRFormer-S, the config builds HRFormer-T'),
    ],
    ids=['classes', 'window', 'architecture'],
)
def test_a_segmentation_file_that_does_not_fit_is_refused_in_one_line(tmp_path, network, message):
    torch.save({'state_dict': dict(official.state_dict('seg_small'))}, tmp_path / 'file.pth')
    with pytest.raises(WeightsError, match=message) as error:
        load_pretrained(segmentation_network(*network), tmp_path / 'file.pth')
    assert '\n' not in str(error.value)


def test_another_ocr_head_of_the_authors_is_refused(tmp_path):
    """`HRT_*_OCR_V3` has grouped 7x7 convolutions under the same names."""
    weights = dict(official.state_dict('seg_small'))
    weights['conv3x3.0.weight'] = torch.zeros(512, 15, 7, 7)
    torch.save({'state_dict': weights}, tmp_path / 'file.pth')
    with pytest.raises(WeightsError, match=r'does not fit the config \(head.conv3x3.0.weight\)'):
        load_pretrained(segmentation_network('small', 19), tmp_path / 'file.pth')


@pytest.mark.parametrize(
    'name',
    [
        'cls_tiny',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('pose_base', 'cls_base')),
    ],
)
def test_the_other_lists_load_completely(tmp_path, name):
    torch.save({'model': dict(official.state_dict(name))}, tmp_path / 'file.pth')
    model = HRFormer(arch=name.split('_')[1], multiscale_output='cls' in name)
    result = load_pretrained(model, tmp_path / 'file.pth')
    assert len(result.lines) == 4  # nothing initialised anew
