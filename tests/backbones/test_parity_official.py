"""Recorded outputs of the authors' own code."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from torch import nn

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.arch import stages_from_arch
from hrformer_mmpose.checkpoint import load_pretrained
from hrformer_mmpose.heads.classification import ClassificationHead
from tests.conftest import relative_error


@pytest.fixture(scope='module')
def parity(shared):
    """The module that fills weights, the recorded outputs, and the folder."""
    folder = shared / 'parity'
    spec = importlib.util.spec_from_file_location('fill_weights', folder / 'fill_weights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, np.load(folder / 'official_expected.npz'), folder


def official_state(parity, name: str) -> dict:
    module, _, folder = parity
    keys = json.loads((folder / f'official_{name}_keys.json').read_text())
    keys = {key: shape for key, shape in keys.items() if 'relative_position_index' not in key}
    return module.filled_state_dict(keys)


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
def test_pose_outputs(parity, tmp_path, size, options, recorded):
    module, expected, _ = parity
    torch.save({'state_dict': official_state(parity, 'pose_small')}, tmp_path / 'pose.pth')
    model = HRFormer(arch='small', **options).eval()
    load_pretrained(model, tmp_path / 'pose.pth')
    H, W = size
    output = model(module.image(1, H, W, seed=H + W))[0][:, ::3, ::5, ::5]
    expected = torch.from_numpy(expected[f'pose_small_rpe_{recorded}_1x3x{H}x{W}'])
    assert relative_error(output, expected) < 1e-5


@torch.no_grad()
def test_classification_maps(parity, tmp_path):
    module, expected, _ = parity
    torch.save({'model': official_state(parity, 'cls_small')}, tmp_path / 'cls.pth')
    model = HRFormer(arch='small', multiscale_output=True, align_corners=True).eval()
    load_pretrained(model, tmp_path / 'cls.pth')
    for i, output in enumerate(model(module.image(2, 224, 224, seed=7))):
        recorded = torch.from_numpy(expected[f'cls_small_map{i}_2x224x224'])
        assert relative_error(output[:, ::3, ::5, ::5], recorded) < 1e-5


@torch.no_grad()
def test_classification_logits(parity, tmp_path):
    """The authors' file whole, head included, through the names of our classifier."""
    module, expected, _ = parity
    torch.save({'model': official_state(parity, 'cls_small')}, tmp_path / 'cls.pth')
    model = classification_network('small').eval()
    result = load_pretrained(model, tmp_path / 'cls.pth')
    assert 'left out: nothing' in result.lines[3]
    logits = model.head(model.backbone(module.image(2, 224, 224, seed=7)))
    recorded = torch.from_numpy(expected['cls_small_logits_2x224x224'])
    assert relative_error(logits, recorded) < 1e-5


@pytest.mark.parametrize('name', ['tiny', 'base'])
def test_whole_classification_files_load(parity, tmp_path, name):
    torch.save({'model': official_state(parity, f'cls_{name}')}, tmp_path / 'file.pth')
    result = load_pretrained(classification_network(name), tmp_path / 'file.pth')
    assert 'left out: nothing' in result.lines[3]
    assert len(result.lines) == 4  # nothing initialised anew


@pytest.mark.parametrize('name', ['pose_base', 'cls_tiny', 'cls_base'])
def test_the_other_lists_load_completely(parity, tmp_path, name):
    torch.save({'model': official_state(parity, name)}, tmp_path / 'file.pth')
    model = HRFormer(arch=name.split('_')[1], multiscale_output='cls' in name)
    result = load_pretrained(model, tmp_path / 'file.pth')
    assert len(result.lines) == 4  # nothing initialised anew
