"""Statistics and gradient coefficients of a BatchNorm against autograd's in float64."""

import pytest
import torch
import torch.nn.functional as F

from hrformer_mmpose.execution import cuda, fused_ops
from tests.conftest import relative_error
from tests.execution.cuda.interpreted.references import double, gradients, tensors

EPS = 1e-5


@pytest.mark.parametrize('of_moments', [False, True])
@pytest.mark.parametrize('C', [5, 130])
def test_statistics(C, of_moments):
    x, gamma, beta, mean, var = tensors(torch.float32, (3, 7, C), *[(C,)] * 4)
    var, num_batches = var.abs(), torch.tensor(3)
    running_mean, running_var = double((mean, var))
    tokens = double((x,))[0].flatten(0, 1)
    expected = F.batch_norm(tokens, running_mean, running_var, *double((gamma, beta)), True, 0.1)
    moments = torch.stack((tokens.mean(0), tokens.var(0, correction=0)))
    total = torch.tensor([21.0], dtype=torch.float64)
    args = gamma, beta, mean, var, num_batches, 0.1, EPS
    if of_moments:
        norm = cuda.bn_from_moments(moments.float(), total, *args)
    else:
        norm = cuda.bn_statistics(x, *args)
    assert relative_error(tokens * norm[0] + norm[1], expected) < 1e-5
    assert relative_error(norm[2:4].double(), moments) < 1e-6
    assert relative_error(norm[4].double(), (moments[1] + EPS) ** -0.5) < 1e-6
    assert relative_error(mean.double(), running_mean) < 1e-6
    assert relative_error(var.double(), running_var) < 1e-6
    assert num_batches == 4
    constant = gamma, beta, None, None, None, 0.1, EPS
    if of_moments:
        without = cuda.bn_from_moments(moments.float(), None, *constant)
    else:
        without = cuda.bn_statistics(x, *constant)
    assert torch.equal(norm, without)


def exact_gradients(x, grad, gamma, beta):
    """Autograd's gradients of x, a bias before the norm, gamma and beta, in float64."""
    return gradients(
        lambda x, bias, gamma, beta: F.batch_norm(x + bias, None, None, gamma, beta, True),
        grad, x, torch.zeros_like(gamma), gamma, beta,
    )  # fmt: skip


def compare_gradients(bn_grads, x, grad, expected):
    a, b, c, *others = bn_grads.double()
    assert relative_error(a * grad + b * x + c, expected[0]) < 1e-5
    assert others[0].abs().max() < 1e-6
    for ours, exact in zip(others[1:], expected[2:], strict=True):
        assert relative_error(ours, exact) < 1e-5


@pytest.mark.parametrize('C', [5, 130])
def test_gradients(C):
    x, grad, gamma, beta = tensors(torch.float32, (21, C), (21, C), (C,), (C,))
    norm = cuda.bn_statistics(x, gamma, beta, None, None, None, 0.1, EPS)
    grad_pre_act, _, sums, bn_grads = cuda.bn_gelu_backward(x, grad, norm, True)
    x, grad_pre_act = double((x, grad_pre_act))
    expected = exact_gradients(x, grad_pre_act, *double((gamma, beta)))
    compare_gradients(bn_grads, x, grad_pre_act, expected)
    total = torch.tensor([21.0], dtype=torch.float64)
    compare_gradients(cuda.bn_total_grads(sums, norm, sums, total), x, grad_pre_act, expected)


def test_gradients_of_running_statistics():
    x, grad, gamma, beta, mean = tensors(torch.float32, (21, 5), (21, 5), *[(5,)] * 3)
    moments = torch.stack((mean, mean.abs() + 1))
    norm = cuda.bn_from_moments(moments, None, gamma, beta, None, None, None, 0.1, EPS)
    grad_pre_act, _, _, bn_grads = cuda.bn_gelu_backward(x, grad, norm, False)
    exact = double((x, torch.zeros(5), gamma, beta))
    expected = gradients(
        lambda x, bias, gamma, beta: F.batch_norm(x + bias, *double(moments), gamma, beta),
        grad_pre_act.double(), *exact,
    )  # fmt: skip
    a, b, c, *others = bn_grads.double()
    assert not b.any()
    assert not c.any()
    for ours, exact in zip((a * grad_pre_act, *others), expected, strict=True):
        assert relative_error(ours, exact) < 1e-5


def test_gradients_of_several_processes():
    norm, sums, total_sums = tensors(torch.float32, (5, 12), (2, 12), (2, 12))
    args = sums.double(), norm, total_sums.double(), torch.tensor([40.0], dtype=torch.float64)
    ours, plain = cuda.bn_total_grads(*args), fused_ops.bn_total_grads.__wrapped__(*args)
    assert relative_error(ours.double(), plain.double()) < 1e-6


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_weight_grad(dtype, monkeypatch):
    monkeypatch.setattr(cuda, '_HAS_OUT_DTYPE', False)  # not on CPUs
    grad, x = tensors(dtype, (2, 3, 5, 6), (2, 3, 5, 4))
    ours = cuda.weight_grad(grad, x)
    assert ours.dtype is torch.float32
    expected = torch.einsum('bhwd,bhwc->dc', grad.double(), x.double())
    assert relative_error(ours.double(), expected) < 4 * torch.finfo(dtype).eps
