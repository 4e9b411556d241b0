"""BatchNorm and GELU on maps, and their sums over tokens.

All kernels here are bound by memory: `bn_gelu` reads and writes each number once, 4 bytes in
float16, for about 30 instructions. Each is therefore a single pass.

- Without sums the map is a flat array, which any number of channels leaves aligned: vectors of
  16 bytes. The channel of a number is its index modulo C, a constant of the kernel.
- With sums a program passes over tokens with a tile of 64 channels, sums in its registers and
  writes one partial sum. `batch_norm.py` adds the partial sums up in a second, small launch.
  Without atomic operations the result is the same in each run.

Shapes: T tokens, C channels, P programs.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from ..tensors import tokens_and_channels, without_overlap
from .batch_norm import merge_moments, merge_sums
from .common import (
    gelu,
    gelu_and_derivative,
    launch,
    store_moments,
    tile,
    tokens_per_program,
    update_moments,
)

_FLAT = 1024  # numbers a program of 128 threads: a vector of 16 bytes each in float16


@triton.jit
def _flat_block(numel, C: tl.constexpr, BLOCK: tl.constexpr):
    """Return start, positions, channels and mask of a program's block of a flat map."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = tl.arange(0, BLOCK)
    c = ((start % C).to(tl.int32) + i) % C
    return start, i, c, i < numel - start


@triton.jit
def _bn_gelu(
    x_ptr, scale_ptr, offset_ptr, residual_ptr, out_ptr, numel,
    C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    start, i, c, mask = _flat_block(numel, C, BLOCK)
    x = tl.load(x_ptr + start + i, mask).to(tl.float32)
    if scale_ptr is not None:
        x = x * tl.load(scale_ptr + c).to(tl.float32) + tl.load(offset_ptr + c).to(tl.float32)
    out = gelu(x)
    if residual_ptr is not None:
        out += tl.load(residual_ptr + start + i, mask).to(tl.float32)
    tl.store(out_ptr + start + i, out.to(out_ptr.dtype.element_ty), mask)


def bn_gelu(x, scale=None, offset=None, residual=None):
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), _FLAT),)
    launch(_bn_gelu, grid, x, scale, offset, residual, out, x.numel(), C=x.shape[-1], BLOCK=_FLAT)
    return out


@triton.jit
def _bn_backward(
    grad_ptr, x_ptr, coeffs_ptr, numel, C: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    start, i, c, mask = _flat_block(numel, C, BLOCK)
    grad = tl.load(grad_ptr + start + i, mask).to(tl.float32)
    x = tl.load(x_ptr + start + i, mask).to(tl.float32)
    slope = tl.load(coeffs_ptr + C + c).to(tl.float32)
    constant = tl.load(coeffs_ptr + 2 * C + c).to(tl.float32)
    out = tl.load(coeffs_ptr + c).to(tl.float32) * grad + (slope * x + constant)
    tl.store(grad_ptr + start + i, out.to(grad_ptr.dtype.element_ty), mask)


def bn_backward_(grad, x, bn_grad_coeffs):
    x, coeffs = (without_overlap(y, grad) for y in (x, bn_grad_coeffs))
    grid = (triton.cdiv(x.numel(), _FLAT),)
    launch(_bn_backward, grid, grad, x, coeffs, x.numel(), C=x.shape[-1], BLOCK=_FLAT)
    return grad


@triton.jit
def _bn_gelu_backward(
    x_ptr, grad_ptr, norm_ptr, grad_pre_act_ptr, act_ptr, sums_ptr, T, tokens,
    C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    program, first = tl.program_id(0), tl.program_id(0).to(tl.int64) * tokens
    t, c = tl.arange(0, BLOCK_T)[:, None], tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    scale = tl.load(norm_ptr + c, c < C, 0.0).to(tl.float32)
    offset = tl.load(norm_ptr + C + c, c < C, 0.0).to(tl.float32)
    sum_grad = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    sum_grad_x = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for start in range(0, tokens, BLOCK_T):
        at, base = t * C + c, (first + start) * C
        mask = (t < T - first - start) & (c < C)
        x = tl.load(x_ptr + base + at, mask, 0.0).to(tl.float32)
        act, derivative = gelu_and_derivative(x * scale + offset)
        grad = derivative * tl.load(grad_ptr + base + at, mask, 0.0).to(tl.float32)
        tl.store(grad_pre_act_ptr + base + at, grad.to(x_ptr.dtype.element_ty), mask)
        if act_ptr is not None:
            tl.store(act_ptr + base + at, act.to(x_ptr.dtype.element_ty), mask)
        sum_grad += grad
        sum_grad_x += grad * x
    to = sums_ptr + program.to(tl.int64) * (2 * C) + c
    tl.store(to, tl.sum(sum_grad, 0), c < C)
    tl.store(to + C, tl.sum(sum_grad_x, 0), c < C)


def bn_gelu_backward(x, grad, norm, of_batch, with_act=False):
    T, C = tokens_and_channels(x)
    grad_pre_act = torch.empty_like(x)
    act = torch.empty_like(x) if with_act else None
    sizes = tile(C)
    columns = triton.cdiv(C, sizes['BLOCK_C'])
    tokens = tokens_per_program(T, sizes['BLOCK_T'], columns)
    partials = x.new_empty(triton.cdiv(T, tokens), 2, C, dtype=torch.float32)
    launch(
        _bn_gelu_backward, (len(partials), columns), x, grad, norm, grad_pre_act, act,
        partials, T, tokens, C=C, **sizes,
    )  # fmt: skip
    act = x.new_empty(0) if act is None else act
    return grad_pre_act, act, *merge_sums(partials, norm, T, of_batch)[1:]


@triton.jit
def _moments(
    x_ptr, partials_ptr, T, tokens,
    C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * tokens
    t, c = tl.arange(0, BLOCK_T)[:, None], tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    count = tl.zeros((BLOCK_T, 1), tl.float32)
    mean = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    m2 = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for start in range(0, tokens, BLOCK_T):
        mask = t < T - first - start
        at = x_ptr + (first + start) * C + (t * C + c)
        x = tl.load(at, mask & (c < C), 0.0).to(tl.float32)
        count, mean, m2 = update_moments(x, mask, count, mean, m2)
    store_moments(partials_ptr, count, mean, m2, tl.program_id(0), c, C)


def bn_statistics(x, *norm):
    T, C = tokens_and_channels(x)
    sizes = tile(C)
    columns = triton.cdiv(C, sizes['BLOCK_C'])
    tokens = tokens_per_program(T, sizes['BLOCK_T'], columns)
    partials = x.new_empty(triton.cdiv(T, tokens), 3, C, dtype=torch.float32)
    launch(_moments, (len(partials), columns), x, partials, T, tokens, C=C, **sizes)
    return merge_moments(partials, *norm)
