"""Depth-wise convolutions between GELUs."""

import pytest
import torch

from hrformer_mmpose.execution import cuda
from hrformer_mmpose.execution.cuda import convolution
from tests.conftest import relative_error
from tests.execution.cuda.interpreted.references import (
    EPS,
    TYPES,
    bn_grads,
    check,
    double,
    dwconv,
    fold,
    gelu,
    gradients,
    moments,
    tensors,
)

# Maps smaller than a strip, of whole strips and not, of one chunk of rows and more.
MAPS = [(1, 1, 1), (1, 7, 7), (2, 8, 6), (1, 13, 29)]
CASES = [
    ((1, 1, 1), 5, torch.float32),
    ((2, 8, 6), 5, torch.float32),
    ((1, 2, 3), 78, torch.float32),
    ((1, 7, 7), 5, torch.float16),
]
ALL = [(size, C, dtype) for size in MAPS for C in (78, 5) for dtype in TYPES]
grid = pytest.mark.parametrize(('size', 'C', 'dtype'), CASES, ids=str)
whole_grid = pytest.mark.parametrize(('size', 'C', 'dtype'), ALL, ids=str)


@grid
def test_gelu_dwconv(size, C, dtype):
    args = tensors(dtype, (*size, C), (C,), (C,), (C, 9), (C,), (C,), (C,))
    x, scale, offset, weight, bias, gamma, beta = double(args)
    out = dwconv(gelu(x * scale + offset), weight, bias)
    norm = fold(moments(out), gamma, beta, EPS)
    constant = None, None, None, 0.1, EPS
    ours = check('gelu_dwconv', (*args, *constant), (out, norm), (1, 2, 3, 4, 5, 6))
    assert ours[1].dtype is torch.float32
    expected = gelu(dwconv(gelu(x), weight, bias))
    check('gelu_dwconv_gelu', (args[0], *args[3:5]), expected, (1, 2))


def test_running_statistics():
    """`bn_statistics` updates them by the same kernel, whose test is in `test_batch_norm.py`."""
    x, taps, p = torch.randn(2, 3, 4, 5), torch.randn(5, 9), torch.ones(5)
    running = torch.zeros(5), torch.ones(5), torch.tensor(0)
    out, norm = cuda.gelu_dwconv(x, p, p, taps, p, p, p, *running, 0.25, EPS)
    count = out.numel() / 5
    assert relative_error(running[0], 0.25 * norm[2]) < 1e-6
    assert relative_error(running[1], 0.75 + 0.25 * norm[3] * count / (count - 1)) < 1e-6
    assert running[2] == 1


@grid
def test_gelu_dwconv_backward(size, C, dtype):
    args = tensors(dtype, (*size, C), (5, C), (*size, C), (*size, C), (3, C), (C, 9))
    x, (scale, offset, *_), conv_out, grad_pre_act, (a, b, c), weight = double(args)
    grad, grad_weight = gradients(
        lambda pre_act, weight: dwconv(gelu(pre_act), weight, 0.0),
        a * grad_pre_act + b * conv_out + c,
        x * scale + offset,
        weight,
    )
    sums = torch.stack([(grad * y).flatten(0, -2).sum(0) for y in (torch.ones_like(x), x)])
    expected = grad, grad_weight, sums, bn_grads(sums, double(args)[1], x.numel() // C)
    ours = check('gelu_dwconv_backward', (*args, True), expected, (1, 4, 5))
    assert ours[2].dtype is torch.float64


@pytest.mark.slow
@whole_grid
def test_more_maps(size, C, dtype):
    test_gelu_dwconv(size, C, dtype)
    test_gelu_dwconv_backward(size, C, dtype)


@pytest.mark.slow
def test_strips_of_several_chunks(monkeypatch):
    """A large grid takes 16 rows a strip, which the small maps above never do."""
    monkeypatch.setattr(convolution, 'PROGRAMS', 0)
    size = (1, 17, 4)
    assert convolution.strips(torch.empty(*size, 3))[1][3:] == [16, 1, 2]
    test_gelu_dwconv(size, 3, torch.float32)
    test_gelu_dwconv_backward(size, 3, torch.float32)


@pytest.mark.filterwarnings('ignore:invalid value')  # NumPy's
def test_no_images():
    x, p, taps = torch.empty(0, 5, 4, 12), torch.ones(12), torch.ones(12, 9)
    assert cuda.gelu_dwconv_gelu(x, taps, p).shape == x.shape
    norm = cuda.gelu_dwconv(x, p, p, taps, p, p, p, None, None, None, 0.1, EPS)[1]
    assert norm.isnan().all()
    coeffs = torch.ones(3, 12)
    _, grad, sums, _ = cuda.gelu_dwconv_backward(x, norm, x, x, coeffs, taps, True)
    assert torch.equal(grad, torch.zeros(12, 9))
    assert torch.equal(sums, torch.zeros(2, 12).double())
