"""BatchNorm, GELU and LayerNorm."""

import math

import pytest
import torch

from hrformer_mmpose.execution import cuda, fused_ops
from hrformer_mmpose.execution.cuda import common, pointwise, probe
from tests.execution.cuda.interpreted.references import (
    EPS,
    TYPES,
    bn_grads,
    check,
    double,
    fold,
    gelu,
    gradients,
    layer_norm,
    moments,
    tensors,
)

CHANNELS = [5, pytest.param(78, marks=pytest.mark.slow)]
TOKENS = (3, 37)
CONSTANT = None, None, None, 0.1, EPS  # no running statistics


@pytest.fixture(params=TYPES, ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize('C', CHANNELS)
def test_bn_gelu(C, dtype):
    args = x, scale, offset, residual = tensors(dtype, (*TOKENS, C), (C,), (C,), (*TOKENS, C))
    x, scale, offset, residual = double(args)
    check('bn_gelu', args, gelu(x * scale + offset) + residual, (1, 2))
    check('bn_gelu', args[:3], gelu(x * scale + offset), (1, 2))
    check('bn_gelu', args[:1], gelu(x), ())
    check('bn_gelu', (args[0], None, None, args[3]), gelu(x) + residual, ())


@pytest.mark.parametrize('C', CHANNELS)
def test_bn_gelu_backward(C, dtype):
    args = tensors(dtype, (*TOKENS, C), (*TOKENS, C), (5, C))
    x, grad, norm = double(args)
    pre_act = x * norm[0] + norm[1]
    (grad_pre_act,) = gradients(gelu, grad, pre_act)
    sums = torch.stack([(grad_pre_act * y).flatten(0, -2).sum(0) for y in (torch.ones_like(x), x)])
    grads = bn_grads(sums, norm, math.prod(TOKENS))
    expected = grad_pre_act, gelu(pre_act), sums, grads
    ours = check('bn_gelu_backward', (*args, True, True), expected, (2,))
    assert ours[2].dtype is torch.float64
    assert not pointwise.bn_gelu_backward(*args, True)[1].numel()


@pytest.mark.parametrize('C', CHANNELS)
def test_bn_backward(C, dtype):
    args = tensors(dtype, (*TOKENS, C), (*TOKENS, C), (3, C))
    grad, x, (a, b, c) = double(args)
    check('bn_backward_', args, a * grad + b * x + c, (2,))
    assert cuda.bn_backward_(*args) is args[0]


@pytest.mark.parametrize('C', CHANNELS)
def test_bn_statistics(C, dtype):
    args = tensors(dtype, (*TOKENS, C), (C,), (C,))
    x, gamma, beta = double(args)
    expected = fold(moments(x), gamma, beta, EPS)
    ours = check('bn_statistics', (*args, *CONSTANT), expected, (1, 2))
    assert ours.dtype is torch.float32


@pytest.mark.parametrize('C', CHANNELS)
def test_layer_norm(C, dtype):
    args = tensors(dtype, (*TOKENS, C), (C,), (C,))
    expected = layer_norm(*double(args), 1e-6)
    ours = check('layer_norm', (*args, 1e-6), expected, (1, 2))
    assert ours[1].dtype is torch.float32


@pytest.mark.parametrize('C', CHANNELS)
def test_layer_norm_backward(C, dtype):
    args = x, gamma, grad, residual = tensors(dtype, (*TOKENS, C), (C,), *[(*TOKENS, C)] * 2)
    x, gamma, grad, residual = double(args)
    grads = gradients(
        lambda *inputs: layer_norm(*inputs, 1e-6)[0], grad, x, gamma, torch.zeros_like(gamma)
    )
    statistics = layer_norm(x, gamma, gamma, 1e-6)[1].to(dtype)
    expected = grads[0] + residual, torch.stack(grads[1:])
    args = args[0], statistics, *args[1:]
    if dtype is torch.float32:
        check('layer_norm_backward', args, expected, ())
        return
    # Statistics are float32, which the plain form does not take beside other types.
    plain = fused_ops.layer_norm_backward.__wrapped__(*args)
    exact = layer_norm(x, gamma, gamma, 1e-6)[1].float()
    ours = cuda.layer_norm_backward(args[0], exact, args[2].float(), *args[3:])
    for a, b, c in zip(ours, plain, expected, strict=True):
        assert (a.double() - c).norm() < 2 * (b.double() - c).norm()
    assert (ours[0].dtype, ours[1].dtype) == (dtype, torch.float32)


def test_several_programs_and_tiles(monkeypatch):
    """Sums of programs that take more than one tile, the last one partly filled."""
    monkeypatch.setattr(common, 'PROGRAMS', 2)
    for test in (test_bn_gelu_backward, test_bn_statistics, test_layer_norm_backward):
        test(78, torch.float32)
    # More programs than `_merge_moments` takes at once.
    x, gamma, beta = tensors(torch.float32, (600, 3), (3,), (3,))
    monkeypatch.setattr(common, 'PROGRAMS', 10**6)
    monkeypatch.setattr(common, 'TILE', 32)
    expected = fold(moments(x.double()), *double((gamma, beta)), EPS)
    check('bn_statistics', (x, gamma, beta, *CONSTANT), expected, ())


@pytest.mark.filterwarnings('ignore:overflow')  # NumPy's
def test_gelu_where_it_bends_and_far_away():
    x = torch.cat((torch.linspace(-9, 9, 2_001), torch.tensor([-100.0, 100.0, 1e30])))[:, None]
    one, zero = torch.ones(1), torch.zeros(1)
    expected = gelu(x.double())
    ours = cuda.bn_gelu(x, one, zero)
    assert ((ours - expected).abs() <= 5e-7 + 1e-7 * expected.abs()).all()
    norm = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])[:, None]
    grad = cuda.bn_gelu_backward(x, torch.ones_like(x), norm, True)[0]
    (expected,) = gradients(gelu, torch.ones_like(x).double(), x.double())
    assert (grad - expected).abs().max() < 5e-7


def test_moments_far_from_zero():
    x = tensors(torch.float32, (3, 50, 7))[0] * 0.1 + 100
    gamma = torch.ones(7)
    ours, expected = cuda.bn_statistics(x, gamma, gamma, *CONSTANT)[2:4], moments(x.double())
    assert (ours - expected).abs().max() < 8e-6  # floats near 100 are 7.6e-6 apart
    assert ((ours[1] - expected[1]) / expected[1]).abs().max() < 1e-6


def test_memory_that_is_shared_with_what_changes():
    buffer, coeffs = tensors(torch.float32, (60,), (3, 12))
    grad, x, shared = buffer[:48].view(4, 12), buffer[12:].view(4, 12), buffer[:36].view(3, 12)
    for other, abc in ((x, coeffs), (grad, coeffs), (x, shared)):
        a, b, c = abc.double()
        expected = a * grad.double() + b * other.double() + c
        cuda.bn_backward_(grad, other, abc)
        assert (grad - expected).abs().max() < 1e-5


@pytest.mark.filterwarnings('ignore:invalid value')  # NumPy's
def test_no_tokens():
    x, p = torch.empty(0, 5, 12), torch.ones(12)
    assert cuda.bn_gelu(x, p, p).shape == x.shape
    norm = torch.ones(5, 12)
    assert torch.equal(cuda.bn_gelu_backward(x, x, norm, True)[2], torch.zeros(2, 12).double())
    assert cuda.bn_statistics(x, p, p, *CONSTANT).isnan().all()
    _, statistics = cuda.layer_norm(x, p, p, 1e-6)
    grads = cuda.layer_norm_backward(x, statistics, p, x, x)
    assert torch.equal(grads[1], torch.zeros(2, 12).double())


def test_the_probe_runs():
    probe.probe('cpu')
