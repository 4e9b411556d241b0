"""Window attention."""

import pytest
import torch

from hrformer_mmpose.execution import cuda
from hrformer_mmpose.execution.cuda import attention, attention_backward
from tests.execution.cuda.interpreted.references import (
    TYPES,
    check,
    double,
    gradients,
    tensors,
    window_attention,
)

MAPS = [(1, 1, 1), (1, 7, 7), (2, 8, 6), (1, 13, 29)]
WIDTHS = [18, 32, 39, 64]
# Map, window, heads, head width, relative position bias, type.
CASES = [
    ((1, 1, 1), (7, 7), 2, 18, True, torch.float32),
    ((1, 7, 7), (7, 7), 1, 64, False, torch.float32),
    ((1, 13, 29), (7, 7), 1, 32, True, torch.float16),
    ((1, 5, 4), (3, 4), 3, 5, False, torch.float32),
    ((1, 2, 3), (9, 9), 1, 18, True, torch.float32),
    ((1, 8, 6), (7, 7), 1, 39, True, torch.bfloat16),
]
grid = pytest.mark.parametrize(
    ('size', 'window', 'num_heads', 'D', 'with_bias', 'dtype'), CASES, ids=str
)


def inputs(size, window, num_heads, D, with_bias, dtype):
    C, N = num_heads * D, window[0] * window[1]
    qkv, qkv_bias, rel_pos_bias, grad = tensors(
        dtype, (*size, 3 * C), (3 * C,), (num_heads, N, N), (*size, C)
    )
    return qkv, qkv_bias, rel_pos_bias if with_bias else None, grad


@grid
def test_forward(size, window, num_heads, D, with_bias, dtype):
    *args, _ = inputs(size, window, num_heads, D, with_bias, dtype)
    expected = window_attention(*double(args), num_heads, window)
    parameters = (1, 2) if with_bias else (1,)
    check('window_attention', (*args, num_heads, window), expected, parameters)


@grid
def test_backward(size, window, num_heads, D, with_bias, dtype):
    args = inputs(size, window, num_heads, D, with_bias, dtype)
    qkv, qkv_bias, rel_pos_bias, grad = double(args)
    optional = (rel_pos_bias,) if with_bias else ()

    def function(qkv, qkv_bias, table=None):
        # The bias is part of query, key and value: its gradient is the sum over all tokens.
        tokens = qkv + (qkv_bias - qkv_bias.detach())
        return window_attention(tokens, qkv_bias, table, num_heads, window)

    expected = gradients(function, grad, qkv, qkv_bias, *optional)
    expected = (*expected, *(None,) * (3 - len(expected)))
    parameters = (1, 2) if with_bias else (1,)
    ours = check('window_attention_backward', (*args, num_heads, window), expected, parameters)
    assert [x.dtype for x in ours if x is not None] == [dtype, *[torch.float32] * (1 + with_bias)]


def test_groups_of_windows(monkeypatch):
    """Programs that take several windows after one another, the last group a smaller one."""
    monkeypatch.setattr(attention_backward, '_PROGRAMS', 4)
    test_backward((1, 7, 29), (7, 7), 1, 5, True, torch.float16)
    monkeypatch.setattr(attention_backward, '_PROGRAMS', 1)
    test_backward((1, 4, 9), (4, 9), 2, 5, True, torch.float32)


def test_windows_of_several_blocks(monkeypatch):
    """Blocks of 16 keys make a small window a wide one."""
    sizes = attention.window_sizes

    def of_16_keys(*args):
        numbers, constants = sizes(*args)
        return numbers, constants | dict(BLOCK_N=16)

    for module in (attention, attention_backward):
        monkeypatch.setattr(module, 'window_sizes', of_16_keys)
    for with_bias, dtype in ((False, torch.float32), (True, torch.float16)):
        test_forward((1, 4, 6), (4, 5), 1, 5, with_bias, dtype)
        test_backward((1, 4, 6), (4, 5), 1, 5, with_bias, dtype)


def test_positions_of_64_bits(monkeypatch):
    sizes = attention.window_sizes

    def wide(*args):
        numbers, constants = sizes(*args)
        return numbers, constants | dict(WIDE=True)

    for module in (attention, attention_backward):
        monkeypatch.setattr(module, 'window_sizes', wide)
    test_forward((1, 5, 4), (3, 4), 3, 5, True, torch.float32)
    test_backward((1, 5, 4), (3, 4), 3, 5, True, torch.float32)


def test_large_logits():
    qkv, qkv_bias = tensors(torch.float32, (1, 7, 7, 24), (24,))
    args = 30 * qkv, qkv_bias, None
    expected = window_attention(*double(args), 1, (7, 7))
    check('window_attention', (*args, 1, (7, 7)), expected, (1,))


def test_no_images():
    qkv, bias, table = torch.empty(0, 5, 4, 24), torch.ones(24), torch.ones(2, 9, 9)
    grad = torch.empty(0, 5, 4, 8)
    assert cuda.window_attention(qkv, bias, table, 2, [3, 3]).shape == grad.shape
    grads = cuda.window_attention_backward(qkv, bias, table, grad, 2, [3, 3])
    assert [x.shape for x in grads] == [qkv.shape, bias.shape, table.shape]
    assert not grads[1].any()
    assert not grads[2].any()


@pytest.mark.slow
@pytest.mark.parametrize('D', WIDTHS)
@pytest.mark.parametrize('window', [(7, 7), (15, 15)])
@pytest.mark.parametrize('size', MAPS, ids=str)
def test_more_maps(size, window, D):
    for with_bias in (True, False):
        test_forward(size, window, 1, D, with_bias, torch.float32)
        test_backward(size, window, 1, D, with_bias, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize('dtype', TYPES[1:], ids=str)
@pytest.mark.parametrize('D', WIDTHS)
@pytest.mark.parametrize('size', MAPS, ids=str)
def test_more_types(size, D, dtype):
    test_forward(size, (7, 7), 2, D, True, dtype)
    test_backward(size, (7, 7), 2, D, True, dtype)
