"""Window attention against a naive loop over maps, windows, heads and tokens."""

import math

import pytest
import torch

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.layers import LocalWindowSelfAttention, WindowMSA
from hrformer_mmpose.layers.attention import relative_position_index
from tests.conftest import relative_error


def neighbours(y: int, size: int, K: int, shift: int) -> range:
    """Rows of a padded map in the window of row y; the first window ends at row `shift`.

    A map of one window is not shifted.
    """
    if size <= K:
        return range(size)
    if y < shift:
        return range(shift)
    start = (y - shift) // K * K + shift
    return range(start, min(start + K, size))


def naive(layer: LocalWindowSelfAttention, x: torch.Tensor) -> torch.Tensor:
    """Attention token by token, with padded tokens as explicit zeros."""
    B, H, W, C = x.shape
    K, h = layer.window[0], layer.attn.num_heads
    d = C // h
    top, left = (-H % K) // 2, (-W % K) // 2
    out = torch.zeros_like(x)
    cells = [(y, x_) for y in range(H) for x_ in range(W)]
    for b in range(B):
        for y, x_ in cells:
            rows = neighbours(y + top, H + -H % K, K, layer.shift_size[0])
            columns = neighbours(x_ + left, W + -W % K, K, layer.shift_size[1])
            window = [(i - top, j - left) for i in rows for j in columns]
            inside = [0 <= i < H and 0 <= j < W for i, j in window]
            tokens = [
                x[b, i, j] if ok else torch.zeros(C)
                for (i, j), ok in zip(window, inside, strict=True)
            ]
            query = layer.attn.qkv(x[b, y, x_])[:C]
            heads = []
            for n in range(h):
                logits, values = [], []
                for (i, j), ok, token in zip(window, inside, tokens, strict=True):
                    if layer.with_pad_mask and not ok:
                        continue
                    _, key, value = layer.attn.qkv(token).split(C)
                    part = slice(n * d, (n + 1) * d)
                    logit = query[part] @ key[part] / math.sqrt(d)
                    if layer.attn.with_rpe:
                        row = (y - i + K - 1) * (2 * K - 1) + x_ - j + K - 1
                        logit = logit + layer.attn.relative_position_bias_table[row, n]
                    logits.append(logit)
                    values.append(value[part])
                weights = torch.stack(logits).softmax(0)
                heads.append(weights @ torch.stack(values))
            out[b, y, x_] = layer.attn.proj(torch.cat(heads))
    return out


@pytest.mark.parametrize('with_rpe', [True, False])
@pytest.mark.parametrize('with_pad_mask', [True, False])
@pytest.mark.parametrize('shifted', [True, False])
@pytest.mark.parametrize('size', [(6, 3), (4, 3), (3, 5), (4, 4), (2, 3)], ids=str)
@torch.no_grad()
def test_equals_a_naive_loop(size, shifted, with_pad_mask, with_rpe):
    layer = LocalWindowSelfAttention(6, 2, (3, 3), with_rpe, with_pad_mask, shifted)
    torch.nn.init.normal_(layer.attn.qkv.bias)
    if with_rpe:
        torch.nn.init.normal_(layer.attn.relative_position_bias_table)
    x = torch.randn(2, *size, 6)
    assert relative_error(layer(x), naive(layer, x)) < 1e-5


@torch.no_grad()
def test_larger_windows_are_shifted_by_half():
    layer = LocalWindowSelfAttention(4, 1, (5, 5), shifted=True)
    assert layer.shift_size == (2, 2)
    torch.nn.init.normal_(layer.attn.qkv.bias)
    x = torch.randn(1, 10, 7, 4)
    assert relative_error(layer(x), naive(layer, x)) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize('size', [(4, 3), (3, 4)])
def test_the_mask_acts_when_one_axis_is_padded(size):
    masked = LocalWindowSelfAttention(6, 2, (3, 3), with_pad_mask=True)
    torch.nn.init.normal_(masked.attn.qkv.bias)
    plain = LocalWindowSelfAttention(6, 2, (3, 3))
    plain.load_state_dict(masked.state_dict())
    x = torch.randn(1, *size, 6)
    assert relative_error(masked(x), plain(x)) > 1e-2


def test_relative_position_index_of_a_small_window():
    # Window 1 x 3: offsets -2 ... 2 are rows 0 ... 4.
    assert relative_position_index((1, 3)).tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_heads_must_divide_channels():
    with pytest.raises(ConfigError, match='channels=10 cannot be divided among num_heads=4'):
        WindowMSA(10, 4, (7, 7))


@pytest.mark.parametrize(
    ('with_rpe', 'mask'), [(True, None), (False, None), (True, torch.zeros(3, 12))]
)
def test_attention_weights_are_those_of_forward(with_rpe, mask):
    """The weights times the values, projected, are the output."""
    attention = WindowMSA(8, 2, (3, 4), with_rpe)
    if mask is not None:
        mask[:, 5:] = -math.inf
    if with_rpe:
        torch.nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(6, 12, 8)
    weights = attention.attention_weights(x, mask)
    assert torch.allclose(weights.sum(-1), torch.ones(6, 2, 12))
    if mask is not None:
        assert (weights[..., 5:] == 0).all()
    values = attention.qkv(x)[..., 16:].reshape(6, 12, 2, 4).transpose(1, 2)
    expected = attention.proj((weights @ values).transpose(1, 2).reshape(6, 12, 8))
    assert relative_error(attention(x, mask), expected) < 1e-6
