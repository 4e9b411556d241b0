"""The operators on a GPU, compared with their plain forms in float64."""

import pytest
import torch

from hrformer_mmpose.execution import cuda, fused_ops
from tests.conftest import relative_error
from tests.execution.test_operators import SHAPES, in_float64, valid

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def arguments(name: str, dtype: torch.dtype) -> dict:
    torch.manual_seed(0)
    given = valid(name, dtype)
    return {k: x.cuda() if torch.is_tensor(x) else x for k, x in given.items()}


def compare(name: str, given: dict, dtype: torch.dtype) -> None:
    expected = getattr(fused_ops, name).__wrapped__(**in_float64(given))
    ours = getattr(cuda, name)(**given)
    ours, expected = ((x,) if torch.is_tensor(x) else x for x in (ours, expected))
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and a.numel():
            assert a.is_cuda
            assert relative_error(a.double(), b.double()) < TOLERANCES[dtype], name


def needs(name: str) -> None:
    if not cuda.available(name):
        pytest.skip(f'not chosen for this device: {cuda.reason()}')


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('name', SHAPES)
def test_operators(name, dtype):
    needs(name)
    with torch.no_grad():
        compare(name, arguments(name, dtype), dtype)


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize(('D', 'window'), [(39, (7, 7)), (32, (7, 7)), (18, (15, 15))])
@pytest.mark.parametrize('size', [(2, 64, 48), (3, 13, 29), (1, 1, 1)], ids=str)
def test_attention(size, D, window, dtype):
    needs('window_attention')
    h, N = 4, window[0] * window[1]
    shapes = (*size, 3 * h * D), (3 * h * D,), (h, N, N), (*size, h * D)
    names = 'qkv', 'qkv_bias', 'rel_pos_bias', 'grad'
    given = {
        name: torch.randn(*shape, device='cuda', dtype=dtype)
        for name, shape in zip(names, shapes, strict=True)
    }
    given |= dict(num_heads=h, window=list(window))
    with torch.no_grad():
        compare('window_attention_backward', given, dtype)
        del given['grad']
        compare('window_attention', given, dtype)


def test_parameters_in_float32_beside_maps_in_float16():
    needs('gelu_dwconv')
    x = torch.randn(2, 16, 12, 312, device='cuda', dtype=torch.float16)
    scale, offset, bias, gamma, beta = torch.randn(5, 312, device='cuda')
    taps, constant = torch.randn(312, 9, device='cuda'), (None, None, None, 0.1, 1e-5)
    with torch.no_grad():
        out, norm = cuda.gelu_dwconv(x, scale, offset, taps, bias, gamma, beta, *constant)
    assert out.dtype is torch.float16
    assert norm.dtype is torch.float32


@pytest.mark.parametrize('name', SHAPES)
def test_each_run_gives_the_same_result(name):
    needs(name)
    if name == 'bn_backward_':
        pytest.skip('works in place')
    given = arguments(name, torch.float16)
    with torch.no_grad():
        first, second = (getattr(cuda, name)(**given) for _ in range(2))
    first, second = ((x,) if torch.is_tensor(x) else x for x in (first, second))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
