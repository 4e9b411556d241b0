"""Products with GELU, BatchNorm and LayerNorm."""

import pytest
import torch

from hrformer_mmpose.execution import cuda
from hrformer_mmpose.execution.cuda import common
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

# Map, channels in and out: smaller than a tile, one more than some, blocks of columns.
MAPS = [((1, 1, 2), 5, 3), ((2, 5, 7), 40, 20), ((1, 3, 3), 33, 130)]
ALL = [(*case, dtype) for case in MAPS for dtype in TYPES]
CASES = [(*case, torch.float32) for case in MAPS] + [(*MAPS[0], dtype) for dtype in TYPES[1:]]
CONSTANT = None, None, None, 0.1, EPS  # no running statistics
maps = pytest.mark.parametrize(('size', 'C', 'D', 'dtype'), CASES, ids=str)


@maps
def test_gelu_linear(size, C, D, dtype):
    args = tensors(dtype, (*size, C), (C,), (C,), (D, C), *[(D,)] * 3)
    x, scale, offset, weight, bias, gamma, beta = double(args)
    for act, parameters in ((gelu(x * scale + offset), args[1:3]), (x, (None, None))):
        out = act @ weight.t() + bias
        expected = out, fold(moments(out), gamma, beta, EPS)
        inputs = args[0], *parameters, *args[3:], *CONSTANT
        indices = [i for i in range(1, 7) if inputs[i] is not None]
        ours = check('gelu_linear', inputs, expected, indices)
        assert (ours[0].dtype, ours[1].dtype) == (dtype, torch.float32)


@maps
def test_gelu_linear_backward(size, C, D, dtype):
    args = tensors(dtype, (*size, C), (*size, D), (5, C), (D, C))
    x, grad, norm, weight = double(args)
    pre_act = x * norm[0] + norm[1]
    grad_pre_act, grad_weight = gradients(
        lambda pre_act, weight: gelu(pre_act) @ weight.t(), grad, pre_act, weight
    )
    sums = torch.stack([(grad_pre_act * y).flatten(0, -2).sum(0) for y in (torch.ones_like(x), x)])
    grads = bn_grads(sums, norm, x.numel() // C)
    expected = grad_pre_act, grad_weight, sums, grads
    ours = check('gelu_linear_backward', (*args, True), expected, (2, 3))
    assert [y.dtype for y in ours] == [dtype, torch.float32, torch.float64, torch.float32]


@maps
def test_normed_weight_grad(size, C, D, dtype):
    grad, x, gamma, beta = tensors(dtype, (*size, D), (*size, C), (C,), (C,))
    out, statistics = layer_norm(*double((x, gamma, beta)), 1e-6)
    (expected,) = gradients(
        lambda weight: out @ weight.t(), grad.double(), torch.zeros(D, C, dtype=torch.float64)
    )
    args = grad, x, statistics.float(), gamma, beta, 1e-6
    check('normed_weight_grad', args, expected, (3, 4))


@pytest.mark.slow
@pytest.mark.parametrize(('size', 'C', 'D', 'dtype'), ALL, ids=str)
def test_more_maps(size, C, D, dtype):
    for test in (test_gelu_linear, test_gelu_linear_backward, test_normed_weight_grad):
        test(size, C, D, dtype)


def test_several_tiles_and_programs(monkeypatch):
    """Programs of several tiles of tokens, the last one partly filled, and sums over programs."""
    monkeypatch.setattr(common, 'PROGRAMS', 2)
    size = (1, 7, 37)
    test_gelu_linear(size, 24, 20, torch.float32)
    test_gelu_linear_backward(size, 24, 20, torch.float32)
    test_normed_weight_grad(size, 24, 20, torch.float32)


def test_moments_far_from_zero():
    x, weight = tensors(torch.float32, (3, 50, 7), (4, 7))
    bias, p = torch.full((4,), 100.0), torch.ones(4)
    out, norm = cuda.gelu_linear(x, None, None, 0.1 * weight, bias, p, p, *CONSTANT)
    expected = moments(out.double())
    assert (norm[2] - expected[0]).abs().max() < 8e-6  # floats near 100 are 7.6e-6 apart
    assert ((norm[3] - expected[1]) / expected[1]).abs().max() < 4e-6


@pytest.mark.filterwarnings('ignore:invalid value')  # NumPy's
def test_no_images():
    x, grad, weight = torch.empty(0, 5, 4, 12), torch.empty(0, 5, 4, 6), torch.ones(6, 12)
    p, q = torch.ones(12), torch.ones(6)
    out, norm = cuda.gelu_linear(x, p, p, weight, q, q, q, *CONSTANT)
    assert out.shape == grad.shape
    assert norm.isnan().all()
    table, statistics = torch.ones(5, 12), torch.empty(2, 0, 5, 4)
    grad_pre_act, grad_weight, sums, _ = cuda.gelu_linear_backward(x, grad, table, weight, True)
    assert grad_pre_act.shape == x.shape
    assert torch.equal(grad_weight, torch.zeros(6, 12))
    assert not sums.any()
    assert not cuda.normed_weight_grad(grad, x, statistics, p, p, 1e-6).any()
