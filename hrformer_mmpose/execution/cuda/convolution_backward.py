"""Depth-wise 3x3 convolution between GELUs, backwards.

A program takes strips down a map as in `convolution.py`. It computes the gradient of the
convolution's output, a BatchNorm backwards, of six numbers a row and keeps three rows in registers:
each then serves nine taps of the input's gradient and nine of the weight's. GELU and its derivative
are computed once a number. Three maps are read and one is written, once.

Shapes: B batch, H and W of a map, C channels, P programs, U strips. A tile is (BLOCK_U, BLOCK_C); a
row of six such tiles is called `row`, three taps `w`.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from ..tensors import tokens_and_channels
from .batch_norm import merge_sums
from .common import gelu_and_derivative, launch
from .convolution import (
    column_masks,
    load_row,
    load_taps,
    locate_row,
    locate_strips,
    strips,
)


@triton.jit
def _load_strip(ptr, masks, is_row, C: tl.constexpr):
    """Load a row's four numbers."""
    return (
        tl.load(ptr, masks[1] & is_row, 0.0),
        tl.load(ptr + C, masks[2] & is_row, 0.0),
        tl.load(ptr + 2 * C, masks[3] & is_row, 0.0),
        tl.load(ptr + 3 * C, masks[4] & is_row, 0.0),
    )


@triton.jit
def _bn_backward(grad, out, coeffs, mask):
    """Compute the gradient of a BatchNorm's input."""
    grad, out = grad.to(tl.float32), out.to(tl.float32)
    return tl.where(mask, coeffs[0] * grad + (coeffs[1] * out + coeffs[2]), 0.0)


@triton.jit
def _grad_row(grad, out, masks, is_row, coeffs):
    """Compute the gradients of a row's six numbers around four columns."""
    return (
        _bn_backward(grad[0], out[0], coeffs, masks[0] & is_row),
        _bn_backward(grad[1], out[1], coeffs, masks[1] & is_row),
        _bn_backward(grad[2], out[2], coeffs, masks[2] & is_row),
        _bn_backward(grad[3], out[3], coeffs, masks[3] & is_row),
        _bn_backward(grad[4], out[4], coeffs, masks[4] & is_row),
        _bn_backward(grad[5], out[5], coeffs, masks[5] & is_row),
    )


@triton.jit
def _correlate(row, w, k: tl.constexpr):
    """Add up what a row of gradients gives column k: the taps run the other way."""
    return w[0] * row[k + 2] + w[1] * row[k + 1] + w[2] * row[k]


@triton.jit
def _add_taps(sums, act, row, k: tl.constexpr):
    """Add to the gradients of three taps."""
    return (
        sums[0] + act * row[k + 2],
        sums[1] + act * row[k + 1],
        sums[2] + act * row[k],
    )


@triton.jit
def _store_sums(ptr, sums, c, C):
    """Store the sums of a tile's rows."""
    tl.store(ptr + c, tl.sum(sums[0], 0), c < C)
    tl.store(ptr + C + c, tl.sum(sums[1], 0), c < C)
    tl.store(ptr + 2 * C + c, tl.sum(sums[2], 0), c < C)


@triton.jit
def _gelu_dwconv_backward(
    x_ptr, norm_ptr, conv_out_ptr, grad_ptr, coeffs_ptr, weight_ptr, out_ptr, sums_ptr,
    U, H, W, rows, across, down,
    C: tl.constexpr, BLOCK_U: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    u = tl.program_id(0).to(tl.int64) * BLOCK_U + tl.arange(0, BLOCK_U)
    y, x, start, exists = locate_strips(u, U, H, W, rows, across, down)
    scale = tl.load(norm_ptr + c, c < C, 0.0).to(tl.float32)
    offset = tl.load(norm_ptr + C + c, c < C, 0.0).to(tl.float32)
    coeffs = (
        tl.load(coeffs_ptr + c, c < C, 0.0).to(tl.float32),
        tl.load(coeffs_ptr + C + c, c < C, 0.0).to(tl.float32),
        tl.load(coeffs_ptr + 2 * C + c, c < C, 0.0).to(tl.float32),
    )
    w0, w1 = load_taps(weight_ptr, c, C, 0), load_taps(weight_ptr, c, C, 1)
    w2 = load_taps(weight_ptr, c, C, 2)
    zero = tl.zeros((BLOCK_U, BLOCK_C), tl.float32)
    beside = (zero, zero, zero, zero, zero, zero)
    # Zeros of its own: of two variables that begin with the same values, one of which takes over
    # the other's, Triton 3.6 to 3.9 keeps the first constant.
    zero_above = tl.zeros((BLOCK_U, BLOCK_C), tl.float32)
    above = (zero_above, zero_above, zero_above, zero_above, zero_above, zero_above)
    taps0, taps1, taps2 = (zero, zero, zero), (zero, zero, zero), (zero, zero, zero)
    sum_grad, sum_grad_x = zero, zero
    masks = column_masks(x, exists, c, W, C)
    at, stride = locate_row(start, y - 1, x, c, W, C)
    grad_ptr, conv_out_ptr = grad_ptr + at, conv_out_ptr + at
    x_ptr, out_ptr = x_ptr + at, out_ptr + at - stride
    is_row, is_own = ((y > 0) & (y <= H))[:, None], (y < 0)[:, None]
    coming_grad = load_row(grad_ptr, masks, is_row, C)
    coming_out = load_row(conv_out_ptr, masks, is_row, C)
    coming_x = _load_strip(x_ptr, masks, is_own, C)
    for step in range(-1, rows + 1):
        # Rows are loaded while those above them are computed.
        raw_grad, raw_out, raw_x = coming_grad, coming_out, coming_x
        below = _grad_row(raw_grad, raw_out, masks, is_row, coeffs)
        is_now, is_own = is_own, ((step >= 0) & (y + step < H))[:, None]
        is_row = (y + step + 1 < H)[:, None]
        coming_grad = load_row(grad_ptr + stride, masks, is_row, C)
        coming_out = load_row(conv_out_ptr + stride, masks, is_row, C)
        coming_x = _load_strip(x_ptr, masks, is_own, C)
        for k in tl.static_range(4):
            mask = masks[k + 1] & is_now
            number = raw_x[k].to(tl.float32)
            act, derivative = gelu_and_derivative(number * scale + offset)
            act = tl.where(mask, act, 0.0)
            # Tap row 0 lies above its output: the output below uses it.
            taps0 = _add_taps(taps0, act, below, k)
            taps1 = _add_taps(taps1, act, beside, k)
            taps2 = _add_taps(taps2, act, above, k)
            grad = _correlate(below, w0, k) + _correlate(beside, w1, k) + _correlate(above, w2, k)
            grad = tl.where(mask, grad * derivative, 0.0)
            sum_grad += grad
            sum_grad_x += grad * number
            tl.store(out_ptr + k * C, grad.to(out_ptr.dtype.element_ty), mask)
        grad_ptr, conv_out_ptr = grad_ptr + stride, conv_out_ptr + stride
        x_ptr, out_ptr = x_ptr + stride, out_ptr + stride
        above, beside = beside, below
    sums_ptr += tl.program_id(0).to(tl.int64) * (11 * C)
    _store_sums(sums_ptr, taps0, c, C)
    _store_sums(sums_ptr + 3 * C, taps1, c, C)
    _store_sums(sums_ptr + 6 * C, taps2, c, C)
    tl.store(sums_ptr + 9 * C + c, tl.sum(sum_grad, 0), c < C)
    tl.store(sums_ptr + 10 * C + c, tl.sum(sum_grad_x, 0), c < C)


def gelu_dwconv_backward(x, norm, conv_out, grad_pre_act, bn_grad_coeffs, conv_weight, of_batch):
    out = torch.empty_like(x)
    grid, sizes, constants = strips(x)
    partials = x.new_empty(grid[0], 11, x.shape[-1], dtype=torch.float32)
    tensors = x, norm, conv_out, grad_pre_act, bn_grad_coeffs, conv_weight, out, partials
    launch(_gelu_dwconv_backward, grid, *tensors, *sizes, **constants)
    return out, *merge_sums(partials, norm, tokens_and_channels(x)[0], of_batch)
