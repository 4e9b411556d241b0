"""Window attention on the map in place, forwards.

A program computes 64 queries of one window and head. It gathers the window's tokens from the map,
so that no partition and no padding exist in memory: 4 C numbers are read and written a token, where
the plain form moves them about five times. Heads of one window are neighbours in the grid and
share cache lines, since a head of 39 numbers in float16 starts and ends within one.

Softmax goes over blocks of 64 keys (Milakov & Gimelshein, 2018); a window of up to 64 tokens is a
single block. The head width is filled up to a power of two in registers only.

Offsets within an image's map are 32 bits wide where they fit: 64 of them in registers would be
spilled.

Shapes: B batch, H and W of a map, C channels, h heads, D = C / h head width, Kh x Kw window,
N = Kh * Kw tokens a window; M queries and N keys of a block.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops.py`)
import torch
import triton
import triton.language as tl

from ...layers.window import padding
from .common import launch


def window_sizes(x: torch.Tensor, num_heads: int, window: list[int]) -> tuple[list[int], dict]:
    """Return what all kernels of attention need to know of map and windows.

    Args:
        x: (B, H, W, C).
        num_heads: h.
        window: (Kh, Kw).

    Returns:
        sizes: windows of all maps, h, H, W, rows and columns of windows, rows and columns of
            padding above and left.
        constants: constants of the kernel by name.
    """
    B, H, W, C = x.shape
    rows, cols = (triton.cdiv(size, k) for size, k in zip((H, W), window, strict=True))
    pads = [padding(size, k)[0] for size, k in zip((H, W), window, strict=True)]
    D, N = C // num_heads, window[0] * window[1]
    width = max(16, triton.next_power_of_2(D))
    block = max(16, min(64, triton.next_power_of_2(N), 2**13 // width))
    constants = dict(
        D=D, KH=window[0], KW=window[1], WIDE=3 * H * W * C >= 2**31, BLOCK_N=block, BLOCK_D=width
    )
    return [B * rows * cols, num_heads, H, W, rows, cols, *pads], constants


@triton.jit
def locate(
    n, window, H, W, rows, cols, top, left,
    KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Return the positions in the map of tokens `n` of a window, and which of them exist."""
    y = window // cols % rows * KH - top + n // KW
    x = window % cols * KW - left + n % KW
    inside = (n < KH * KW) & (y >= 0) & (y < H) & (x >= 0) & (x < W)
    if WIDE:
        y = y.to(tl.int64)
    return y * W + x, inside


@triton.jit
def image_start(window, H, W, rows, cols):
    """Return the number of tokens before the map that holds a window."""
    return (window // (rows * cols)).to(tl.int64) * (tl.cast(H, tl.int64) * W)


@triton.jit
def load_tokens(ptr, token, inside, padded_ptr, stride, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Load a head's numbers of tokens, (..., BLOCK_D); padded ones get those at `padded_ptr`."""
    d = tl.arange(0, BLOCK_D)
    x = tl.load(ptr + (token[:, None] * stride + d), inside[:, None] & (d < D), 0.0)
    if padded_ptr is not None:
        padded = tl.load(padded_ptr + d, d < D, 0.0).to(x.dtype)
        x = tl.where(inside[:, None], x, padded)
    return x


@triton.jit
def logits(q, k, rel_pos_bias_ptr, i, j, scale, N: tl.constexpr, PRECISION: tl.constexpr):
    """Compute q k^T scale + bias, -inf for keys beyond the window."""
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if rel_pos_bias_ptr is not None:
        mask = (i[:, None] < N) & (j < N)
        s += tl.load(rel_pos_bias_ptr + (i[:, None] * N + j), mask, 0.0).to(tl.float32)
    return tl.where(j < N, s, float('-inf'))


@triton.jit
def _window_attention(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, out_ptr, scale,
    windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    N: tl.constexpr = KH * KW
    C = heads * D
    head, window = tl.program_id(0) % heads, tl.program_id(0) // heads
    start = image_start(window, H, W, rows, cols)
    qkv_ptr += start * (3 * C) + head * D
    qkv_bias_ptr += head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
    i = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    query, issues = locate(i, window, H, W, rows, cols, top, left, KH, KW, WIDE)
    q = load_tokens(qkv_ptr, query, issues, None, 3 * C, D, BLOCK_D)
    largest = tl.full((BLOCK_N,), float('-inf'), tl.float32)
    total = tl.zeros((BLOCK_N,), tl.float32)
    out = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for first in range(0, N, BLOCK_N):
        j = first + tl.arange(0, BLOCK_N)
        key, inside = locate(j, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        k = load_tokens(qkv_ptr + C, key, inside, qkv_bias_ptr + C, 3 * C, D, BLOCK_D)
        s = logits(q, k, rel_pos_bias_ptr, i, j, scale, N, PRECISION)
        before, largest = largest, tl.maximum(largest, tl.max(s, 1))
        p = tl.exp(s - largest[:, None])
        shrink = tl.exp(before - largest)
        total = total * shrink + tl.sum(p, 1)
        v = load_tokens(qkv_ptr + 2 * C, key, inside, qkv_bias_ptr + 2 * C, 3 * C, D, BLOCK_D)
        out = out * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
    out_ptr += start * C + head * D
    d = tl.arange(0, BLOCK_D)
    out = (out / total[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + (query[:, None] * C + d), out, issues[:, None] & (d < D))


def window_attention(qkv, qkv_bias, rel_pos_bias, num_heads, window):
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    sizes, constants = window_sizes(out, num_heads, window)
    grid = sizes[0] * num_heads, triton.cdiv(window[0] * window[1], constants['BLOCK_N'])
    launch(
        _window_attention, grid, qkv, qkv_bias, rel_pos_bias, out, constants['D'] ** -0.5, *sizes,
        **constants, PRECISION='ieee',
    )  # fmt: skip
    return out
