"""Recorded outputs of the authors' own code."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import to_mmpose
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


def load(model: torch.nn.Module, state: dict) -> None:
    missing, unexpected = model.load_state_dict(to_mmpose(state), strict=False)
    assert not unexpected
    assert all(key.endswith('relative_position_index') for key in missing)


@pytest.mark.parametrize('name', ['pose_small', 'pose_base'])
def test_pose_keys_are_ours_after_conversion(parity, name):
    load(HRFormer(arch=name.removeprefix('pose_')), backbone_part(official_state(parity, name)))


def backbone_part(state: dict) -> dict:
    """Without the head: some lists hold the whole network."""
    prefixed = {k.removeprefix('backbone.'): v for k, v in state.items() if 'backbone.' in k}
    state = prefixed or state
    heads = ('incre_modules', 'downsamp_modules', 'final_layer', 'classifier', 'keypoint_head')
    return {key: value for key, value in state.items() if not key.startswith(heads)}


@pytest.mark.parametrize('size', [(256, 192), (160, 224)], ids=str)
@pytest.mark.parametrize('with_rpe', [True, False], ids=['rpe', 'no_rpe'])
@torch.no_grad()
def test_pose_outputs(parity, size, with_rpe):
    module, expected, _ = parity
    state = backbone_part(official_state(parity, 'pose_small'))
    if not with_rpe:
        state = {k: v for k, v in state.items() if 'relative_position' not in k}
    model = HRFormer(arch='small', with_rpe=with_rpe).eval()
    load(model, state)
    H, W = size
    output = model(module.image(1, H, W, seed=H + W))[0][:, ::3, ::5, ::5]
    recorded = expected[f'pose_small_rpe_{"on" if with_rpe else "off"}_1x3x{H}x{W}']
    assert relative_error(output, torch.from_numpy(recorded)) < 1e-5


@torch.no_grad()
def test_classification_maps(parity):
    module, expected, _ = parity
    model = HRFormer(arch='small', multiscale_output=True, align_corners=True).eval()
    load(model, backbone_part(official_state(parity, 'cls_small')))
    for i, output in enumerate(model(module.image(2, 224, 224, seed=7))):
        recorded = torch.from_numpy(expected[f'cls_small_map{i}_2x224x224'])
        assert relative_error(output[:, ::3, ::5, ::5], recorded) < 1e-5
