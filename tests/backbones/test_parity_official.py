"""Outputs against recorded outputs of the authors' code."""

import pytest
import torch
from torch import nn

from hrformer_mmpose.arch import stages_from_arch
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import load_pretrained
from hrformer_mmpose.heads.classification import ClassificationHead
from tests import official
from tests.conftest import relative_error

pytestmark = pytest.mark.usefixtures('no_init')


def classification_network(arch: str) -> nn.Module:
    model = nn.Module()
    model.backbone = HRFormer(arch=arch, multiscale_output=True, align_corners=True)
    model.head = ClassificationHead(stages_from_arch(arch)[-1].channels)
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


@pytest.mark.parametrize('name', ['tiny', 'base'])
def test_whole_classification_files_load(tmp_path, name):
    torch.save({'model': dict(official.state_dict(f'cls_{name}'))}, tmp_path / 'file.pth')
    result = load_pretrained(classification_network(name), tmp_path / 'file.pth')
    assert 'skipped: nothing' in result.lines[3]
    assert len(result.lines) == 4  # nothing initialised anew


@pytest.mark.parametrize('name', ['pose_base', 'cls_tiny', 'cls_base'])
def test_the_other_lists_load_completely(tmp_path, name):
    torch.save({'model': dict(official.state_dict(name))}, tmp_path / 'file.pth')
    model = HRFormer(arch=name.split('_')[1], multiscale_output='cls' in name)
    result = load_pretrained(model, tmp_path / 'file.pth')
    assert len(result.lines) == 4  # nothing initialised anew
