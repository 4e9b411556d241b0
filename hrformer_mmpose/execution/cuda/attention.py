"""Window attention on the map in place, forwards.

A program computes one window and head. It gathers the window's tokens from the map, so that no
partition and no padding exist in memory: 4 C numbers are read and written a token, where the plain
form moves them about five times. Heads of a window are neighbours in the grid and share cache
lines: a head of 39 numbers in float16 starts and ends within one.

A window of up to 64 tokens is one block of queries and of keys. In float32, whose products have no
tensor cores here, its programs take 16 queries at a time to save registers. Larger windows pass
over blocks of 32 keys (Milakov & Gimelshein, 2018). The head width is filled up to a power of two
in registers only.

Positions in an image's map are 32 bits wide where that suffices, to save registers.

Shapes: B batch, H and W of a map, C channels, h heads, D = C / h head width, Kh x Kw window,
N = Kh * Kw tokens a window. Blocks: BLOCK_M queries, BLOCK_N keys.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
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
        sizes: factor of the logits, windows of all maps, h, H, W, rows and columns of windows, rows
            and columns of padding above and left.
        constants: constants of the kernel by name, and its warps.
    """
    B, H, W, C = x.shape
    rows, cols = (triton.cdiv(size, k) for size, k in zip((H, W), window, strict=True))
    pads = [padding(size, k)[0] for size, k in zip((H, W), window, strict=True)]
    D, N = C // num_heads, window[0] * window[1]
    width = max(16, triton.next_power_of_2(D))
    block = triton.next_power_of_2(N) if N <= 64 else 32
    constants = dict(
        D=D, KH=window[0], KW=window[1], WIDE=3 * H * W * C >= 2**31, BLOCK_M=16,
        BLOCK_N=max(16, min(block, 2**13 // width)), BLOCK_D=width, PRECISION='ieee', num_warps=4,
    )  # fmt: skip
    return [D**-0.5, B * rows * cols, num_heads, H, W, rows, cols, *pads], constants


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
def logits(
    q, transposed_k, rel_pos_bias_ptr, i, j, scale, N: tl.constexpr, PRECISION: tl.constexpr
):
    """Compute q k^T scale + bias, -inf for keys beyond the window."""
    s = tl.dot(q, transposed_k, input_precision=PRECISION) * scale
    if rel_pos_bias_ptr is not None:
        mask = (i[:, None] < N) & (j < N)
        s += tl.load(rel_pos_bias_ptr + (i[:, None] * N + j), mask, 0.0).to(tl.float32)
    return tl.where(j < N, s, float('-inf'))


@triton.jit
def _one_block(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, out_ptr, scale,
    windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attend in a window whose keys are a single block: they are loaded once for all queries."""
    N: tl.constexpr = KH * KW
    C = heads * D
    head, window = tl.program_id(0) % heads, tl.program_id(0) // heads
    start = image_start(window, H, W, rows, cols)
    qkv_ptr += start * (3 * C) + head * D
    out_ptr += start * C + head * D
    padded_ptr = qkv_bias_ptr + head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
    j, d = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    key, inside = locate(j, window, H, W, rows, cols, top, left, KH, KW, WIDE)
    k = load_tokens(qkv_ptr + C, key, inside, padded_ptr + C, 3 * C, D, BLOCK_D)
    v = load_tokens(qkv_ptr + 2 * C, key, inside, padded_ptr + 2 * C, 3 * C, D, BLOCK_D)
    transposed_k = tl.trans(k)
    for first in range(0, N, BLOCK_M):
        i = first + tl.arange(0, BLOCK_M)
        query, issues = locate(i, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        q = load_tokens(qkv_ptr, query, issues, None, 3 * C, D, BLOCK_D)
        s = logits(q, transposed_k, rel_pos_bias_ptr, i, j, scale, N, PRECISION)
        p = tl.exp(s - tl.max(s, 1)[:, None])
        out = tl.dot(p.to(v.dtype), v, input_precision=PRECISION) / tl.sum(p, 1)[:, None]
        out = out.to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + (query[:, None] * C + d), out, issues[:, None] & (d < D))


@triton.jit
def _many_blocks(
    qkv_ptr, qkv_bias_ptr, rel_pos_bias_ptr, out_ptr, scale,
    windows, heads, H, W, rows, cols, top, left,
    D: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Attend for a block of queries in a larger window, block by block of keys."""
    N: tl.constexpr = KH * KW
    C = heads * D
    head, window = tl.program_id(0) % heads, tl.program_id(0) // heads
    start = image_start(window, H, W, rows, cols)
    qkv_ptr += start * (3 * C) + head * D
    padded_ptr = qkv_bias_ptr + head * D
    if rel_pos_bias_ptr is not None:
        rel_pos_bias_ptr += head.to(tl.int64) * (N * N)
    i, d = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    query, issues = locate(i, window, H, W, rows, cols, top, left, KH, KW, WIDE)
    q = load_tokens(qkv_ptr, query, issues, None, 3 * C, D, BLOCK_D)
    largest = tl.full((BLOCK_M,), float('-inf'), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    out = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    for first in range(0, N, BLOCK_N):
        j = first + tl.arange(0, BLOCK_N)
        key, inside = locate(j, window, H, W, rows, cols, top, left, KH, KW, WIDE)
        k = load_tokens(qkv_ptr + C, key, inside, padded_ptr + C, 3 * C, D, BLOCK_D)
        s = logits(q, tl.trans(k), rel_pos_bias_ptr, i, j, scale, N, PRECISION)
        before, largest = largest, tl.maximum(largest, tl.max(s, 1))
        p, shrink = tl.exp(s - largest[:, None]), tl.exp(before - largest)
        total = total * shrink + tl.sum(p, 1)
        v = load_tokens(qkv_ptr + 2 * C, key, inside, padded_ptr + 2 * C, 3 * C, D, BLOCK_D)
        out = out * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
    out = (out / total[:, None]).to(out_ptr.dtype.element_ty)
    out_ptr += start * C + head * D
    tl.store(out_ptr + (query[:, None] * C + d), out, issues[:, None] & (d < D))


def window_attention(qkv, qkv_bias, rel_pos_bias, num_heads, window):
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    sizes, constants = window_sizes(out, num_heads, window)
    tensors = qkv, qkv_bias, rel_pos_bias, out
    N, programs = window[0] * window[1], sizes[1] * num_heads
    if constants['BLOCK_N'] >= N:
        is_float32 = qkv.dtype is torch.float32
        constants |= dict(num_warps=8) if is_float32 else dict(BLOCK_M=constants['BLOCK_N'])
        launch(_one_block, (programs,), *tensors, *sizes, **constants)
    else:
        grid = programs, triton.cdiv(N, constants['BLOCK_M'])
        launch(_many_blocks, grid, *tensors, *sizes, **constants)
    return out
