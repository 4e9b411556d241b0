"""BatchNorm's statistics and gradients from the sums of a map's programs.

Small kernels over channels. Each finishes what a pass over a map began, in one launch after it:
written in PyTorch they take a dozen launches, more time than their arithmetic, 132 times a step.

Shapes: C channels, P programs. `norm` is (5, C): scale, offset, mean, variance, 1 / deviation.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from .common import launch, merge_rows

_BLOCK = 16  # channels of a program: few, so that there are many programs
_SIZES = dict(BLOCK_P=64, BLOCK_C=_BLOCK)


@triton.jit
def _store_norm(
    norm_ptr, gamma_ptr, beta_ptr, running_mean_ptr, running_var_ptr, num_batches_ptr,
    momentum, eps, mean, var, count, c, C,
):  # fmt: skip
    """Store `norm` and update the running statistics by mean and biased variance."""
    mask = c < C
    if num_batches_ptr is not None:
        i = tl.arange(0, 1)
        tl.store(num_batches_ptr + i, tl.load(num_batches_ptr + i) + 1, tl.program_id(0) + i == 0)
    if running_mean_ptr is not None:
        before = tl.load(running_mean_ptr + c, mask, 0.0)
        tl.store(running_mean_ptr + c, before + momentum * (mean - before), mask)
        unbiased = var * (count / tl.maximum(count - 1, 1.0))
        before = tl.load(running_var_ptr + c, mask, 0.0)
        tl.store(running_var_ptr + c, before + momentum * (unbiased - before), mask)
    rstd = 1 / tl.sqrt_rn(tl.where(mask, var, 1.0) + eps)
    scale = tl.load(gamma_ptr + c, mask, 0.0).to(tl.float32) * rstd
    offset = tl.load(beta_ptr + c, mask, 0.0).to(tl.float32) - mean * scale
    tl.store(norm_ptr + c, scale, mask)
    tl.store(norm_ptr + C + c, offset, mask)
    tl.store(norm_ptr + 2 * C + c, mean, mask)
    tl.store(norm_ptr + 3 * C + c, var, mask)
    tl.store(norm_ptr + 4 * C + c, rstd, mask)


@triton.jit
def _merge_moments(
    partials_ptr, norm_ptr, gamma_ptr, beta_ptr, running_mean_ptr, running_var_ptr,
    num_batches_ptr, momentum, eps, P, C: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    p = tl.arange(0, BLOCK_P)[:, None]
    count = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    mean = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    m2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, P, BLOCK_P):
        at = partials_ptr + tl.cast(first, tl.int64) * (3 * C) + (p * (3 * C) + c)
        mask = (first + p < P) & (c < C)
        other_count = tl.load(at, mask, 0.0)
        delta = tl.load(at + C, mask, 0.0) - mean
        share = other_count / tl.maximum(count + other_count, 1.0)
        m2 += tl.load(at + 2 * C, mask, 0.0) + delta * delta * count * share
        mean += delta * share
        count += other_count
    count, mean, m2 = merge_rows(count, mean, m2)
    _store_norm(
        norm_ptr, gamma_ptr, beta_ptr, running_mean_ptr, running_var_ptr, num_batches_ptr,
        momentum, eps, mean, m2 / count, count, c, C,
    )  # fmt: skip


def merge_moments(partials, gamma, beta, running_mean, running_var, num_batches, momentum, eps):
    """Compute `norm` from the moments of the programs, see `store_moments`, as `bn_statistics`."""
    P, _, C = partials.shape
    norm = partials.new_empty(5, C)
    launch(
        _merge_moments, (triton.cdiv(C, _BLOCK),), partials, norm, gamma, beta, running_mean,
        running_var, num_batches, momentum, eps, P, C=C, **_SIZES,
    )  # fmt: skip
    return norm


@triton.jit
def _norm_from_moments(
    moments_ptr, total_count_ptr, norm_ptr, gamma_ptr, beta_ptr, running_mean_ptr,
    running_var_ptr, num_batches_ptr, momentum, eps, C, BLOCK_C: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    mean = tl.load(moments_ptr + c, c < C, 0.0).to(tl.float32)
    var = tl.load(moments_ptr + C + c, c < C, 1.0).to(tl.float32)
    count = 1.0
    if total_count_ptr is not None:
        count = tl.load(total_count_ptr).to(tl.float32)
    _store_norm(
        norm_ptr, gamma_ptr, beta_ptr, running_mean_ptr, running_var_ptr, num_batches_ptr,
        momentum, eps, mean, var, count, c, C,
    )  # fmt: skip


def bn_from_moments(
    moments, total_count, gamma, beta, running_mean, running_var, num_batches, momentum, eps
):
    C = moments.shape[1]
    norm = moments.new_empty(5, C, dtype=torch.float32)
    launch(
        _norm_from_moments, (triton.cdiv(C, _BLOCK),), moments, total_count, norm, gamma, beta,
        running_mean, running_var, num_batches, momentum, eps, C, BLOCK_C=_BLOCK,
    )  # fmt: skip
    return norm


@triton.jit
def _store_bn_grads(
    bn_grads_ptr, norm_ptr, sum_grad, sum_grad_x, total_grad, total_grad_x, count, c, C,
    OF_BATCH: tl.constexpr,
):  # fmt: skip
    """Store a BatchNorm's gradients, (6, C), see `bn_gelu_backward`, from sums in float64."""
    mask = c < C
    scale = tl.load(norm_ptr + c, mask, 0.0).to(tl.float64)
    mean = tl.load(norm_ptr + 2 * C + c, mask, 0.0).to(tl.float64)
    rstd = tl.load(norm_ptr + 4 * C + c, mask, 0.0).to(tl.float64)
    grad_gamma = (sum_grad_x - mean * sum_grad) * rstd
    slope, constant, grad_bias = tl.zeros_like(scale), tl.zeros_like(scale), scale * sum_grad
    if OF_BATCH:
        slope = -scale * rstd * ((total_grad_x - mean * total_grad) * rstd) / count
        constant = -scale * total_grad / count - slope * mean
        grad_bias = tl.zeros_like(scale)
    tl.store(bn_grads_ptr + c, scale.to(tl.float32), mask)
    tl.store(bn_grads_ptr + C + c, slope.to(tl.float32), mask)
    tl.store(bn_grads_ptr + 2 * C + c, constant.to(tl.float32), mask)
    tl.store(bn_grads_ptr + 3 * C + c, grad_bias.to(tl.float32), mask)
    tl.store(bn_grads_ptr + 4 * C + c, grad_gamma.to(tl.float32), mask)
    tl.store(bn_grads_ptr + 5 * C + c, sum_grad.to(tl.float32), mask)


@triton.jit
def _sum_over_programs(
    partials_ptr, row, P, c, C, ROWS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):
    """Sum a row of (P, ROWS, C) in float64: (BLOCK_C)."""
    p = tl.arange(0, BLOCK_P)[:, None]
    total = tl.zeros((BLOCK_P, BLOCK_C), tl.float64)
    for first in range(0, P, BLOCK_P):
        at = partials_ptr + tl.cast(first, tl.int64) * (ROWS * C) + (p * (ROWS * C) + row * C + c)
        total += tl.load(at, (first + p < P) & (c < C), 0.0).to(tl.float64)
    return tl.sum(total, 0)


@triton.jit
def _merge_sums(
    partials_ptr, norm_ptr, sums_ptr, bn_grads_ptr, taps_ptr, P, count, C: tl.constexpr,
    OF_BATCH: tl.constexpr, TAPS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Finish a BatchNorm's gradients (last column of the grid) or those of a tap (all others)."""
    row = tl.program_id(1)
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = _sum_over_programs(partials_ptr, row, P, c, C, TAPS + 2, BLOCK_P, BLOCK_C)
    if taps_ptr is not None:
        channels = tl.where(row < TAPS, C, 0)
        tl.store(taps_ptr + c * TAPS + row, total.to(tl.float32), c < channels)
    if row == TAPS:
        total_x = _sum_over_programs(partials_ptr, row + 1, P, c, C, TAPS + 2, BLOCK_P, BLOCK_C)
        tl.store(sums_ptr + c, total, c < C)
        tl.store(sums_ptr + C + c, total_x, c < C)
        tokens = tl.cast(count, tl.float64)
        _store_bn_grads(
            bn_grads_ptr, norm_ptr, total, total_x, total, total_x, tokens, c, C, OF_BATCH
        )


def merge_sums(partials, norm, count, of_batch):
    """Finish the sums of the programs of a pass over a map.

    Args:
        partials: (P, 2, C), sums over tokens of grad and grad x; or (P, 11, C), before these those
            of the convolution's nine taps.
        norm: (5, C).
        count: tokens of the map.
        of_batch: see `bn_gelu_backward`.

    Returns:
        grad_conv_weight: (C, 9), or None.
        sums: (2, C) in float64.
        bn_grads: (6, C), see `bn_gelu_backward`.
    """
    P, rows, C = partials.shape
    grad_conv_weight = partials.new_empty(C, 9) if rows > 2 else None
    sums, bn_grads = partials.new_empty(2, C, dtype=torch.float64), partials.new_empty(6, C)
    launch(
        _merge_sums, (triton.cdiv(C, _BLOCK), rows - 1), partials, norm, sums, bn_grads,
        grad_conv_weight, P, float(count), C=C, OF_BATCH=of_batch and count > 0,
        TAPS=rows - 2, **_SIZES,
    )  # fmt: skip
    return grad_conv_weight, sums, bn_grads


@triton.jit
def _bn_total_grads(
    sums_ptr, norm_ptr, total_sums_ptr, total_count_ptr, bn_grads_ptr, C, BLOCK_C: tl.constexpr
):
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    sum_grad, sum_grad_x = tl.load(sums_ptr + c, c < C, 0.0), tl.load(sums_ptr + C + c, c < C, 0.0)
    total, total_x = (
        tl.load(total_sums_ptr + c, c < C, 0.0),
        tl.load(total_sums_ptr + C + c, c < C, 0.0),
    )
    count = tl.load(total_count_ptr)
    _store_bn_grads(bn_grads_ptr, norm_ptr, sum_grad, sum_grad_x, total, total_x, count, c, C, True)


def bn_total_grads(sums, norm, total_sums, total_count):
    C = norm.shape[1]
    bn_grads = norm.new_empty(6, C, dtype=torch.float32)
    grid = (triton.cdiv(C, _BLOCK),)
    tensors = sums, norm, total_sums, total_count, bn_grads
    launch(_bn_total_grads, grid, *tensors, C, BLOCK_C=_BLOCK)
    return bn_grads
