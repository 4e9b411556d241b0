"""The training steps that keep less against the plain layers: outputs, gradients, statistics."""

import copy

import pytest
import torch
from torch import nn

from hrformer_mmpose.layers import HRFormerBlock, recompute


def block(**settings) -> HRFormerBlock:
    """In float64, so that a difference is an error and not rounding."""
    torch.manual_seed(3)
    made = HRFormerBlock(8, 2, (3, 4), 2.0, **settings).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.train()


def step(layer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict, dict]:
    """Output, gradient of the input, gradients of the parameters, buffers after a step."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    out = layer(x)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    return out.detach(), x.grad, gradients, dict(layer.named_buffers())


def compare(ours, theirs) -> None:
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            assert (a[name] is None) == (value is None), name
            if value is not None:
                assert torch.allclose(a[name], value, rtol=1e-9, atol=1e-10), name


def frozen_statistics(made: HRFormerBlock) -> None:
    for norm in (made.ffn.norm1, made.ffn.norm2, made.ffn.norm3):
        norm.eval()


def cumulative_average(made: HRFormerBlock) -> None:
    made.ffn.norm1.momentum = None


def frozen_parameters(made: HRFormerBlock) -> None:
    made.ffn.fc2.requires_grad_(False)
    made.ffn.norm1.requires_grad_(False)
    made.attn.attn.relative_position_bias_table.requires_grad_(False)
    made.norm1.requires_grad_(False)


@pytest.mark.parametrize(
    ('settings', 'change'),
    [
        (dict(), None),
        (dict(with_rpe=False), None),
        (dict(with_pad_mask=True), None),
        (dict(with_cp=True), None),
        (dict(with_dwconv=False), None),
        (dict(shifted=True), None),
        (dict(drop_path=0.5), None),
        (dict(), frozen_statistics),
        (dict(), cumulative_average),
        (dict(), frozen_parameters),
    ],
    ids=[
        'plain',
        'no rpe',
        'mask',
        'cp',
        'no dw',
        'shifted',
        'drop path',
        'eval',
        'cumulative',
        'frozen',
    ],
)
@pytest.mark.parametrize('size', [(6, 8), (7, 5)], ids=str)
def test_a_block_trains_as_the_plain_one(settings, change, size, monkeypatch):
    ours = block(**settings)
    if change:
        change(ours)
    plain = copy.deepcopy(ours)
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    taken = []
    applies = recompute.applies
    monkeypatch.setattr(recompute, 'applies', lambda *a: taken.append(applies(*a)) or taken[-1])
    kept = step(ours, x)
    assert any(taken)
    monkeypatch.setattr(recompute, 'applies', lambda *_: False)
    compare(kept, step(plain, x))


@pytest.mark.parametrize(
    'norms',
    [
        [nn.SyncBatchNorm(4)],
        [nn.BatchNorm2d(4, affine=False)],
        [nn.LayerNorm(4, bias=False)],
        [nn.BatchNorm2d(4), nn.Identity()],
    ],
    ids=['synchronised', 'without scale', 'without bias', 'other'],
)
def test_other_normalisation_takes_the_plain_way(norms):
    assert not recompute.applies(torch.zeros(1), *norms)
    assert recompute.applies(torch.zeros(1), nn.BatchNorm2d(4), nn.LayerNorm(4))


def test_without_gradients_or_with_autocast_the_plain_way():
    with torch.no_grad():
        assert not recompute.applies(torch.zeros(1))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert not recompute.applies(torch.zeros(1))
