"""The inference network computes the plain network's outputs, and so MMPose's."""

import copy

import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.benchmark import complexity
from hrformer_mmpose.execution import policy
from tests.backbones.weights import randomise
from tests.conftest import relative_error

# Multiples of 32, of nothing, and smaller than a window.
SIZES = [(1, 160, 224), (2, 96, 72), (1, 97, 65), (1, 32, 32)]


def network(arch: str = 'tiny', **settings) -> HRFormer:
    model = HRFormer(arch=arch, multiscale_output=True, **settings).eval()
    randomise(model)
    return model


def agree(ours, expected) -> bool:
    return all(
        a.shape == b.shape and relative_error(a, b) < 1e-5
        for a, b in zip(ours, expected, strict=True)
    )


@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_outputs(size):
    model = network()
    x = torch.randn(size[0], 3, *size[1:])
    assert agree(model.fuse_for_inference()(x), model(x))


@pytest.mark.parametrize(
    'settings',
    [
        dict(with_rpe=False),
        dict(with_pad_mask=True),
        dict(with_pad_mask=True, with_rpe=False),
        dict(align_corners=True),
        dict(with_dwconv=False),
        dict(shift_windows=True),
        dict(shift_windows=True, with_pad_mask=True, with_rpe=False),
        dict(block='conv'),
        dict(norm_cfg=dict(type='BN', affine=False)),
        dict(drop_path_rate=0.5),
    ],
    ids=str,
)
@torch.no_grad()
def test_options(settings):
    model = network(**settings)
    x = torch.randn(1, 3, 96, 72)
    assert agree(model.fuse_for_inference()(x), model(x))


@pytest.mark.parametrize('arch', ['small', pytest.param('base', marks=pytest.mark.slow)])
@torch.no_grad()
def test_other_widths(arch):
    model = network(arch)
    x = torch.randn(1, 3, 96, 64)
    assert agree(model.fuse_for_inference()(x), model(x))


@torch.no_grad()
def test_without_fused_kernels(monkeypatch):
    """Take the path of devices without fused kernels."""
    model = network()
    fused = model.fuse_for_inference()
    x = torch.randn(1, 3, 96, 72)
    with_kernels = fused(x)
    monkeypatch.setattr(policy, 'use_fused_ops', lambda x: False)
    monkeypatch.setattr(policy, 'allows_kernels', lambda device: False)
    assert agree(fused(x), model(x))
    assert agree(fused(x), with_kernels)


def test_gradients_of_the_image_and_autocast_take_the_plain_kernels():
    model = network()
    fused = model.fuse_for_inference()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        ours, theirs = fused(x)[0], model(x)[0]
    assert relative_error(ours.float(), theirs.float()) < 0.05
    x.requires_grad_()
    assert fused(x)[0].requires_grad


@torch.no_grad()
def test_the_network_itself_stays_as_it_is():
    model = network()
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    fused = model.fuse_for_inference()
    fused(x)
    fused.train()
    assert not {*fused.state_dict()} - {*model.state_dict()}, 'derived values are not stored'
    assert not any(module.training for module in fused.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(model(x), expected, strict=True))


@torch.no_grad()
def test_copies_moves_and_graphs(tmp_path):
    model = network()
    fused = model.fuse_for_inference()
    x = torch.randn(1, 3, 64, 64)
    expected = fused(x)  # from now on oneDNN's layout of the weights is kept beside them
    assert agree(copy.deepcopy(fused)(x), expected)
    torch.save(fused, tmp_path / 'fused.pt')
    assert agree(torch.load(tmp_path / 'fused.pt', weights_only=False)(x), expected)
    assert agree(fused.double()(x.double()), [y.double() for y in expected])
    assert agree(fused.float()(x), expected)
    traced = torch.jit.trace(fused, x, check_trace=False)
    assert agree(traced(x), expected)


@pytest.mark.parametrize('arch', ['small', pytest.param('base', marks=pytest.mark.slow)])
@torch.no_grad()
def test_fewer_calls(arch, no_init):
    """Count calls, which do not vary as times do; views do not count."""
    model = HRFormer(arch=arch).eval()
    x = torch.randn(1, 3, 64, 64)
    fused = model.fuse_for_inference()
    fused(x)  # which brings the weights into oneDNN's layout, once
    assert complexity.count(fused, x).calls <= 900 < complexity.count(model, x).calls
