"""Products of linear layers with the operations that stand before and after them.

As separate passes these move more bytes than the products themselves: the inputs and outputs of the
FFN's layers are four times as wide as the maps between them. Here they act on tiles in registers.
For half precision on GPUs with fast products of it: `cuda/__init__.py` chooses.

Weights are float32. Each program converts the tiles that it multiplies: no converted copies exist
in memory.

Shapes: T tokens, K and N channels in and out of a product, P programs. Of a weight's gradient: M
channels of the output's gradient, N channels of the input. Tiles are named by their axes.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from .batch_norm import merge_moments, merge_sums
from .common import (
    gelu,
    gelu_and_derivative,
    launch,
    tokens_and_channels,
    tokens_per_program,
)

_SPLITS = 216  # programs of a weight's gradient, two for each processor of an A100
_PRODUCT = dict(num_stages=2, PRECISION='ieee')


def _tiles(T: int, N: int, width: int) -> tuple[tuple[int], int, dict]:
    """Return grid, tokens of a program and constants of a product (T, K) x (K, N).

    Larger tiles than these spill registers on GPUs of compute capability 9.0 or 10.0.

    Args:
        T: tokens.
        N: columns.
        width: most columns of a tile. What is done to the rows of x is repeated for each.
    """
    width = min(width, max(16, triton.next_power_of_2(N)))
    columns = triton.cdiv(N, width)
    block = 64 if triton.cdiv(T, 64) * columns >= 256 else 32
    tokens = tokens_per_program(T, block, columns)
    sizes = dict(BLOCK_K=16, num_warps=16) if width > 64 else dict(BLOCK_K=32, num_warps=8)
    constants = dict(COLUMNS=columns, BLOCK_T=block, BLOCK_N=width, **sizes, **_PRODUCT)
    return (triton.cdiv(T, tokens) * columns,), tokens, constants


@triton.jit
def _load(ptr, rows, columns, row_stride, mask):
    """Load a tile (rows, columns) of a matrix; 0 outside the mask."""
    return tl.load(ptr + (rows[:, None] * row_stride + columns), mask, 0.0)


@triton.jit
def _gelu_tile(x, scale_ptr, offset_ptr, c, C):
    """Compute gelu(x scale + offset) of a tile (..., C) in its type."""
    scale = tl.load(scale_ptr + c, c < C, 0.0).to(tl.float32)
    offset = tl.load(offset_ptr + c, c < C, 0.0).to(tl.float32)
    return gelu(x.to(tl.float32) * scale + offset).to(x.dtype)


@triton.jit
def _gelu_linear(
    x_ptr, scale_ptr, offset_ptr, weight_ptr, bias_ptr, out_ptr, partials_ptr, T, tokens,
    K: tl.constexpr, N: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0) // COLUMNS
    n = tl.program_id(0) % COLUMNS * BLOCK_N + tl.arange(0, BLOCK_N)
    bias = tl.load(bias_ptr + n, n < N, 0.0).to(tl.float32)
    count = tl.zeros((BLOCK_N,), tl.float32)
    mean = tl.zeros((BLOCK_N,), tl.float32)
    m2 = tl.zeros((BLOCK_N,), tl.float32)
    first_token = program.to(tl.int64) * tokens
    x_ptr, out_ptr = x_ptr + first_token * K, out_ptr + first_token * N
    for start in tl.range(0, tokens, BLOCK_T, disable_licm=True):
        t = start + tl.arange(0, BLOCK_T)
        exists = (t < T - first_token)[:, None]
        out = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
        for first in range(0, K, BLOCK_K):
            k = first + tl.arange(0, BLOCK_K)
            x = _load(x_ptr, t, k, K, exists & (k < K))
            if scale_ptr is not None:
                x = _gelu_tile(x, scale_ptr, offset_ptr, k, K)
            at = weight_ptr + (n * K + k[:, None])
            weight = tl.load(at, (k[:, None] < K) & (n < N), 0.0).to(x.dtype)
            out = tl.dot(x, weight, out, input_precision=PRECISION)
        rounded = (out + bias).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + (t[:, None] * N + n), rounded, exists & (n < N))
        count, mean, m2 = _add_moments(count, mean, m2, rounded.to(tl.float32), exists)
    to = partials_ptr + program.to(tl.int64) * (3 * N) + n
    tl.store(to, count, n < N)
    tl.store(to + N, mean, n < N)
    tl.store(to + 2 * N, m2, n < N)


@triton.jit
def _add_moments(count, mean, m2, x, exists):
    """Add the rows of a tile that exist to the moments of its columns (Chan et al., 1979)."""
    rows = tl.sum(exists.to(tl.float32), 0)
    total = count + rows
    share = rows / tl.maximum(total, 1.0)
    center = tl.sum(tl.where(exists, x, 0.0), 0) / tl.maximum(rows, 1.0)
    x = tl.where(exists, x - center, 0.0)
    # A second pass corrects the rounding error of the first mean.
    residue = tl.sum(x, 0)
    center += residue / tl.maximum(rows, 1.0)
    square = tl.sum(x * x, 0) - residue * residue / tl.maximum(rows, 1.0)
    delta = center - mean
    return total, mean + delta * share, m2 + square + delta * delta * count * share


def gelu_linear(x, scale, offset, weight, bias, *norm):
    (T, K), N = tokens_and_channels(x), len(weight)
    out = x.new_empty(*x.shape[:-1], N)
    grid, tokens, constants = _tiles(T, N, 64 if scale is None else 128)
    partials = x.new_empty(triton.cdiv(T, tokens), 3, N, dtype=torch.float32)
    launch(
        _gelu_linear, grid, x, scale, offset, weight, bias, out, partials, T, tokens,
        K=K, N=N, **constants,
    )  # fmt: skip
    return out, merge_moments(partials, *norm)


@triton.jit
def _gelu_linear_backward(
    x_ptr, grad_ptr, norm_ptr, weight_ptr, grad_pre_act_ptr, partials_ptr, T, tokens,
    K: tl.constexpr, N: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of GELU's input and its sums; N channels of x, K of `grad`."""
    program = tl.program_id(0) // COLUMNS
    n = tl.program_id(0) % COLUMNS * BLOCK_N + tl.arange(0, BLOCK_N)
    scale = tl.load(norm_ptr + n, n < N, 0.0).to(tl.float32)
    offset = tl.load(norm_ptr + N + n, n < N, 0.0).to(tl.float32)
    sum_grad = tl.zeros((BLOCK_N,), tl.float32)
    sum_grad_x = tl.zeros((BLOCK_N,), tl.float32)
    first_token = program.to(tl.int64) * tokens
    x_ptr, grad_ptr = x_ptr + first_token * N, grad_ptr + first_token * K
    grad_pre_act_ptr += first_token * N
    for start in tl.range(0, tokens, BLOCK_T, disable_licm=True):
        t = start + tl.arange(0, BLOCK_T)
        exists = (t < T - first_token)[:, None]
        grad = tl.zeros((BLOCK_T, BLOCK_N), tl.float32)
        for first in range(0, K, BLOCK_K):
            k = first + tl.arange(0, BLOCK_K)
            grad_out = _load(grad_ptr, t, k, K, exists & (k < K))
            weight = _load(weight_ptr, k, n, N, (k[:, None] < K) & (n < N)).to(grad_out.dtype)
            grad = tl.dot(grad_out, weight, grad, input_precision=PRECISION)
        x = _load(x_ptr, t, n, N, exists & (n < N)).to(tl.float32)
        _, derivative = gelu_and_derivative(x * scale + offset)
        grad *= derivative
        to = grad_pre_act_ptr + (t[:, None] * N + n)
        tl.store(to, grad.to(grad_pre_act_ptr.dtype.element_ty), exists & (n < N))
        sum_grad += tl.sum(grad, 0)
        sum_grad_x += tl.sum(grad * x, 0)
    to = partials_ptr + program.to(tl.int64) * (2 * N) + n
    tl.store(to, sum_grad, n < N)
    tl.store(to + N, sum_grad_x, n < N)


def gelu_linear_backward(x, grad, norm, weight, of_batch):
    (T, N), K = tokens_and_channels(x), len(weight)
    grad_pre_act = torch.empty_like(x)
    grid, tokens, constants = _tiles(T, N, 64)
    partials = x.new_empty(triton.cdiv(T, tokens), 2, N, dtype=torch.float32)
    launch(
        _gelu_linear_backward, grid, x, grad, norm, weight, grad_pre_act, partials, T, tokens,
        K=K, N=N, **constants,
    )  # fmt: skip
    grad_weight = _launch_weight_grad(grad, x, None, norm[0], norm[1])
    return grad_pre_act, grad_weight, *merge_sums(partials, norm, T, of_batch)[1:]


@triton.jit
def _weight_grad(
    grad_ptr, x_ptr, mean_and_rstd_ptr, scale_ptr, offset_ptr, partials_ptr, T, tokens,
    M: tl.constexpr, N: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute a tile of grad^T f(x) over a program's tokens.

    f is x scale + offset of normalised tokens, or GELU of x scale + offset.
    """
    program, tile = tl.program_id(0) // TILES, tl.program_id(0) % TILES
    m = tile % ROWS * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile // ROWS * BLOCK_N + tl.arange(0, BLOCK_N)
    scale = tl.load(scale_ptr + n, n < N, 0.0).to(tl.float32)
    offset = tl.load(offset_ptr + n, n < N, 0.0).to(tl.float32)
    out = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    first_token = program.to(tl.int64) * tokens
    for start in tl.range(0, tokens, BLOCK_K, disable_licm=True):
        base, t = first_token + start, tl.arange(0, BLOCK_K)
        inside = t < T - base
        grad = _load(grad_ptr + base * M, t, m, M, inside[:, None] & (m < M))
        x = _load(x_ptr + base * N, t, n, N, inside[:, None] & (n < N)).to(tl.float32)
        if mean_and_rstd_ptr is not None:
            mean = tl.load(mean_and_rstd_ptr + base + t, inside, 0.0)
            rstd = tl.load(mean_and_rstd_ptr + T + base + t, inside, 0.0)
            x = (x - mean[:, None]) * rstd[:, None] * scale + offset
        else:
            x = gelu(x * scale + offset)
        out = tl.dot(tl.trans(grad), x.to(grad.dtype), out, input_precision=PRECISION)
    to = partials_ptr + program.to(tl.int64) * (M * N) + (m[:, None] * N + n)
    tl.store(to, out, (m[:, None] < M) & (n < N))


def _launch_weight_grad(grad, x, mean_and_rstd, scale, offset):
    (T, M), N = tokens_and_channels(grad), x.shape[-1]
    # GELU of x is repeated for each block of M, LayerNorm costs little.
    largest = (256, 64) if mean_and_rstd is None else (64, 128)
    block_m, block_n = (
        min(block, max(16, triton.next_power_of_2(size)))
        for block, size in zip(largest, (M, N), strict=True)
    )
    rows, columns = triton.cdiv(M, block_m), triton.cdiv(N, block_n)
    splits = max(1, min(_SPLITS // (rows * columns), triton.cdiv(T, 256)))
    tokens = max(1, triton.cdiv(triton.cdiv(T, splits), 32)) * 32
    splits = max(1, triton.cdiv(T, tokens))
    partials = x.new_empty(splits, M, N, dtype=torch.float32)
    launch(
        _weight_grad, (splits * rows * columns,), grad, x, mean_and_rstd, scale, offset, partials,
        T, tokens, M=M, N=N, ROWS=rows, TILES=rows * columns, BLOCK_M=block_m, BLOCK_N=block_n,
        BLOCK_K=32, num_warps=16 if block_m > 128 else 8, **_PRODUCT,
    )  # fmt: skip
    return partials[0] if splits == 1 else partials.sum(0)


def normed_weight_grad(grad, x, mean_and_rstd, gamma, beta, eps):
    return _launch_weight_grad(grad, x, mean_and_rstd, gamma, beta)
