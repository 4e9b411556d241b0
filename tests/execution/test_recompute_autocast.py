"""Recomputing training steps under autocast, compared with the plain layers under autocast."""

import copy

import pytest
import torch

from hrformer_mmpose.execution.block import HRFormerBlock
from tests.conftest import relative_error, without_recompute
from tests.execution.steps import make_block, recomputed, step  # noqa: F401

DTYPES = (torch.bfloat16, torch.float16)


def autocast_step(block: HRFormerBlock, x: torch.Tensor, scale: float = 1.0) -> dict:
    """Return output, gradients and running statistics of a step, all in float64.

    Args:
        block: the block.
        x: (B, C, H, W), in the type of autocast; float64 computes without autocast.
        scale: factor of the loss, as of `torch.amp.GradScaler`.
    """
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    with torch.autocast('cpu', x.dtype, enabled=x.dtype is not torch.float64):
        out = block(x)
    assert out.dtype is x.dtype
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out).to(x.dtype)
    (out * weight * scale).sum().backward()
    gradients = {name: p.grad for name, p in block.named_parameters() if p.grad is not None}
    assert all(gradients[name].dtype is p.dtype for name, p in block.named_parameters())
    results = {'out': out.detach() * scale, 'x': x.grad, **gradients}
    results = {name: value.double() / scale for name, value in results.items()}
    statistics = {n: b.double() for n, b in block.named_buffers() if 'running' in n}
    return {**results, **statistics}


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('size', [(6, 8), (7, 5)], ids=str)
@pytest.mark.parametrize(
    'settings',
    [dict(), dict(with_cp=True), dict(with_dwconv=False), dict(with_rpe=False)],
    ids=['plain', 'cp', 'no dw', 'no rpe'],
)
def test_a_block_is_as_exact_as_the_plain_one(settings, size, dtype, recomputed):  # noqa: F811
    exact = make_block(**settings)
    for p in exact.parameters():
        p.data = p.data.to(dtype).double()  # weights without a rounding error
    ours = copy.deepcopy(exact).float()
    plain = without_recompute(copy.deepcopy(ours))
    x = torch.randn(4, 8, *size).to(dtype)
    results = autocast_step(ours, x, scale=8.0)
    assert {'attention', 'ffn'} <= {*recomputed}
    del recomputed[:]
    baseline, expected = autocast_step(plain, x), autocast_step(exact, x.double())
    largest = max(value.abs().max() for value in expected.values())
    for name, value in expected.items():
        if value.norm() < 1e-9 * largest:  # biases that a norm subtracts, biases of keys
            continue
        error, bound = (relative_error(r[name], value) for r in (results, baseline))
        assert error < 2 * bound + torch.finfo(dtype).eps, name


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_float32_maps_take_the_plain_path_under_autocast(dtype, recomputed):  # noqa: F811
    with torch.autocast('cpu', dtype):
        assert make_block().float()(torch.randn(2, 8, 6, 8)).dtype is torch.float32
    assert recomputed == []


def test_other_types_of_parameters_take_the_plain_path(recomputed):  # noqa: F811
    block = make_block().bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        block(torch.randn(2, 8, 6, 8).bfloat16())
    assert recomputed == []


def test_backward_inside_and_outside_of_autocast_agree():
    block, x = make_block().float(), torch.randn(2, 8, 6, 8).bfloat16()
    gradients = []
    for inside in (False, True):
        block.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            loss = block(x).float().square().sum()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        gradients.append([p.grad.clone() for p in block.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_an_overflow_reaches_the_gradient_scaler():
    """A scale beyond float16 gives infinite gradients, so that the scaler skips the step."""
    block, x = make_block().float(), torch.randn(2, 8, 6, 8).half()
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**24)
    before = copy.deepcopy(block.state_dict())
    with torch.autocast('cpu', torch.float16):
        loss = block(x).square().mean()
    scaler.scale(loss.float()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 2.0**24
    for name, parameter in block.named_parameters():
        assert torch.equal(parameter, before[name]), name
