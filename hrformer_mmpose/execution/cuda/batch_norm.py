"""Statistics and gradient coefficients of a BatchNorm: small kernels over channels.

Written in PyTorch each takes a dozen launches, more time than its arithmetic, 132 times a step.

Shapes: C channels.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from .common import launch
from .pointwise import moments as moments_of

_BLOCK = 128


@triton.jit
def _bn_statistics(
    moments_ptr, gamma_ptr, beta_ptr, running_mean_ptr, running_var_ptr, total_count_ptr, out_ptr,
    count, momentum, eps, C, BLOCK: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = c < C
    mean = tl.load(moments_ptr + c, mask, 0.0).to(tl.float32)
    var = tl.load(moments_ptr + C + c, mask, 1.0).to(tl.float32)
    if running_mean_ptr is not None:
        if total_count_ptr is not None:
            count = tl.load(total_count_ptr).to(tl.float32)
        before = tl.load(running_mean_ptr + c, mask, 0.0)
        tl.store(running_mean_ptr + c, before + momentum * (mean - before), mask)
        unbiased = var * (count / tl.maximum(count - 1, 1.0))
        before = tl.load(running_var_ptr + c, mask, 0.0)
        tl.store(running_var_ptr + c, before + momentum * (unbiased - before), mask)
    rstd = 1 / tl.sqrt_rn(var + eps)
    scale = tl.load(gamma_ptr + c, mask, 0.0).to(tl.float32) * rstd
    offset = tl.load(beta_ptr + c, mask, 0.0).to(tl.float32) - mean * scale
    tl.store(out_ptr + c, scale, mask)
    tl.store(out_ptr + C + c, offset, mask)
    tl.store(out_ptr + 2 * C + c, mean, mask)
    tl.store(out_ptr + 3 * C + c, rstd, mask)


def bn_statistics(
    x, moments, gamma, beta, running_mean, running_var, count, momentum, eps, total_count=None
):
    moments = moments_of(x) if moments is None else moments
    C = x.shape[-1]
    out = x.new_empty(4, C, dtype=torch.float32)
    launch(
        _bn_statistics, (triton.cdiv(C, _BLOCK),), moments, gamma, beta, running_mean, running_var,
        total_count, out, float(count), momentum, eps, C, BLOCK=_BLOCK,
    )  # fmt: skip
    return out


@triton.jit
def _bn_grad_coeffs(
    sums_ptr, norm_ptr, total_sums_ptr, total_count_ptr, out_ptr, count, C,
    OF_BATCH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = c < C
    scale = tl.load(norm_ptr + c, mask, 0.0).to(tl.float64)
    mean = tl.load(norm_ptr + 2 * C + c, mask, 0.0).to(tl.float64)
    rstd = tl.load(norm_ptr + 3 * C + c, mask, 0.0).to(tl.float64)
    grad_beta = tl.load(sums_ptr + c, mask, 0.0)
    grad_gamma = (tl.load(sums_ptr + C + c, mask, 0.0) - mean * grad_beta) * rstd
    total_beta, total_gamma = grad_beta, grad_gamma
    if total_sums_ptr is not None:
        total_beta = tl.load(total_sums_ptr + c, mask, 0.0)
        total_gamma = (tl.load(total_sums_ptr + C + c, mask, 0.0) - mean * total_beta) * rstd
    slope, constant, grad_bias = tl.zeros_like(scale), tl.zeros_like(scale), scale * grad_beta
    if OF_BATCH:
        tokens = tl.cast(count, tl.float64)
        if total_count_ptr is not None:
            tokens = tl.load(total_count_ptr)
        slope = -scale * rstd * total_gamma / tokens
        constant = -scale * total_beta / tokens - slope * mean
        grad_bias = tl.zeros_like(scale)
    tl.store(out_ptr + c, scale.to(tl.float32), mask)
    tl.store(out_ptr + C + c, slope.to(tl.float32), mask)
    tl.store(out_ptr + 2 * C + c, constant.to(tl.float32), mask)
    tl.store(out_ptr + 3 * C + c, grad_bias.to(tl.float32), mask)
    tl.store(out_ptr + 4 * C + c, grad_gamma.to(tl.float32), mask)
    tl.store(out_ptr + 5 * C + c, grad_beta.to(tl.float32), mask)


def bn_grad_coeffs(sums, norm, count, total_sums=None, total_count=None):
    C = norm.shape[1]
    out = norm.new_empty(6, C)
    launch(
        _bn_grad_coeffs, (triton.cdiv(C, _BLOCK),), sums, norm, total_sums, total_count, out,
        float(count), C, OF_BATCH=total_count is not None or count > 0, BLOCK=_BLOCK,
    )  # fmt: skip
    return out
