"""Statistics and gradient coefficients of a BatchNorm against autograd's in float64."""

import pytest
import torch
import torch.nn.functional as F

from hrformer_mmpose.execution import cuda, fused_ops
from tests.conftest import relative_error
from tests.execution.cuda.interpreted.references import double, gradients, tensors


@pytest.mark.parametrize('with_total', [False, True])
@pytest.mark.parametrize('given', [False, True])
@pytest.mark.parametrize('C', [5, 130])
def test_bn_statistics(C, given, with_total):
    x, gamma, beta, mean, var = tensors(torch.float32, (3, 7, C), *[(C,)] * 4)
    var = var.abs()
    running_mean, running_var = double((mean, var))
    tokens = double((x,))[0].flatten(0, 1)
    expected = F.batch_norm(tokens, running_mean, running_var, *double((gamma, beta)), True, 0.1)
    moments = torch.stack((tokens.mean(0), tokens.var(0, correction=0))).float() if given else None
    total = torch.tensor([21.0], dtype=torch.float64) if with_total else None
    count = 5.0 if with_total else 21.0  # `total` replaces it
    norm = cuda.bn_statistics(x, moments, gamma, beta, mean, var, count, 0.1, 1e-5, total)
    scale, offset = norm[:2].double()
    assert relative_error(tokens * scale + offset, expected) < 1e-5
    assert relative_error(mean.double(), running_mean) < 1e-6
    assert relative_error(var.double(), running_var) < 1e-6
    without = cuda.bn_statistics(x, moments, gamma, beta, None, None, count, 0.1, 1e-5)
    assert torch.equal(norm, without)


@pytest.mark.parametrize('C', [5, 130])
def test_bn_grad_coeffs(C):
    x, grad, gamma, beta = tensors(torch.float32, (21, C), (21, C), (C,), (C,))
    exact, grad, bias = *double((x, grad)), torch.zeros(C, dtype=torch.float64)
    grads = gradients(
        lambda x, bias, gamma, beta: F.batch_norm(x + bias, None, None, gamma, beta, True),
        grad, exact, bias, *double((gamma, beta)),
    )  # fmt: skip
    norm = cuda.bn_statistics(x, None, gamma, beta, None, None, 21.0, 0.1, 1e-5)
    sums = torch.stack((grad.sum(0), (grad * exact).sum(0)))
    a, b, c, *others = cuda.bn_grad_coeffs(sums, norm, 21.0).double()
    assert relative_error(a * grad + b * exact + c, grads[0]) < 1e-5
    assert others[0].abs().max() < 1e-6
    for ours, expected in zip(others[1:], grads[2:], strict=True):
        assert relative_error(ours, expected) < 1e-5


@pytest.mark.parametrize('count', [0.0, 21.0])
@pytest.mark.parametrize('with_total', [False, True])
def test_coefficients_are_those_of_the_plain_form(count, with_total):
    norm, sums, total_sums = tensors(torch.float32, (4, 12), (2, 12), (2, 12))
    args = (sums.double(), norm, count)
    if with_total:
        args += (total_sums.double(), torch.tensor([40.0], dtype=torch.float64))
    ours, plain = cuda.bn_grad_coeffs(*args), fused_ops.bn_grad_coeffs.__wrapped__(*args)
    assert relative_error(ours.double(), plain.double()) < 1e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_weight_grad(dtype, monkeypatch):
    monkeypatch.setattr(cuda, '_HAS_OUT_DTYPE', False)  # not on CPUs
    grad, x = tensors(dtype, (2, 3, 5, 6), (2, 3, 5, 4))
    ours = cuda.weight_grad(grad, x)
    assert ours.dtype is torch.float32
    expected = torch.einsum('bhwd,bhwc->dc', grad.double(), x.double())
    assert relative_error(ours.double(), expected) < 4 * torch.finfo(dtype).eps
