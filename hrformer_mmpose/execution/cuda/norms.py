"""LayerNorm over channels.

A program holds whole rows in registers: they are read once, and mean and variance take two passes
over registers. Bound by memory: 4 bytes a number forwards and 8 backwards in float16. Rows are
filled up to a power of two in registers only.

Shapes: T tokens, C channels, P programs.
"""

# ruff: noqa: D103 (launchers: see the operators in `fused_ops/`)
import torch
import triton
import triton.language as tl

from ..tensors import tokens_and_channels
from .common import launch, tokens_per_program

TILE = 1024  # numbers a tile: with twice as many the backward pass takes 214 registers, not 96


def _tile(C: int) -> dict[str, int]:
    width = triton.next_power_of_2(C)
    return dict(
        BLOCK_T=max(1, TILE // width), BLOCK_C=width, num_warps=min(32, max(4, width // 512))
    )


@triton.jit
def _layer_norm(
    x_ptr, gamma_ptr, beta_ptr, out_ptr, statistics_ptr, T, eps,
    C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0).to(tl.int64) * BLOCK_T
    t, c = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_C)
    inside = t < T - first
    base, at, mask = first * C, t[:, None] * C + c, inside[:, None] & (c < C)
    x = tl.load(x_ptr + base + at, mask, 0.0).to(tl.float32)
    mean = tl.sum(x, 1) / C
    x = tl.where(c < C, x - mean[:, None], 0.0)
    rstd = 1 / tl.sqrt(tl.sum(x * x, 1) / C + eps)
    gamma = tl.load(gamma_ptr + c, c < C, 0.0).to(tl.float32)
    beta = tl.load(beta_ptr + c, c < C, 0.0).to(tl.float32)
    out = x * rstd[:, None] * gamma + beta
    tl.store(out_ptr + base + at, out.to(out_ptr.dtype.element_ty), mask)
    tl.store(statistics_ptr + first + t, mean, inside)
    tl.store(statistics_ptr + T + first + t, rstd, inside)


def layer_norm(x, gamma, beta, eps):
    T, C = tokens_and_channels(x)
    out, mean_and_rstd = torch.empty_like(x), x.new_empty(2, *x.shape[:-1], dtype=torch.float32)
    sizes = _tile(C)
    grid = (triton.cdiv(T, sizes['BLOCK_T']),)
    launch(_layer_norm, grid, x, gamma, beta, out, mean_and_rstd, T, eps, C=C, **sizes)
    return out, mean_and_rstd


@triton.jit
def _layer_norm_backward(
    x_ptr, statistics_ptr, gamma_ptr, grad_ptr, residual_ptr, out_ptr, sums_ptr, T, tokens,
    C: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * tokens
    t, c = tl.arange(0, BLOCK_T), tl.arange(0, BLOCK_C)
    gamma = tl.load(gamma_ptr + c, c < C, 0.0).to(tl.float32)
    sum_gamma = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    sum_beta = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    for first in range(start, start + tokens, BLOCK_T):
        inside = t < T - first
        base, at, mask = first * C, t[:, None] * C + c, inside[:, None] & (c < C)
        mean = tl.load(statistics_ptr + first + t, inside, 0.0)[:, None]
        rstd = tl.load(statistics_ptr + T + first + t, inside, 0.0)[:, None]
        x = tl.where(c < C, tl.load(x_ptr + base + at, mask, 0.0).to(tl.float32) - mean, 0.0) * rstd
        grad = tl.load(grad_ptr + base + at, mask, 0.0).to(tl.float32)
        sum_gamma += grad * x
        sum_beta += grad
        grad *= gamma
        along_x, along_1 = tl.sum(grad * x, 1)[:, None] / C, tl.sum(grad, 1)[:, None] / C
        out = rstd * (grad - along_1 - x * along_x)
        out += tl.load(residual_ptr + base + at, mask, 0.0).to(tl.float32)
        tl.store(out_ptr + base + at, out.to(out_ptr.dtype.element_ty), mask)
    to = sums_ptr + tl.program_id(0).to(tl.int64) * (2 * C) + c
    tl.store(to, tl.sum(sum_gamma, 0), c < C)
    tl.store(to + C, tl.sum(sum_beta, 0), c < C)


def layer_norm_backward(x, mean_and_rstd, gamma, grad, residual):
    T, C = tokens_and_channels(x)
    out, sizes = torch.empty_like(x), _tile(C)
    tokens = tokens_per_program(T, sizes['BLOCK_T'], 1)
    partials = x.new_empty(triton.cdiv(T, tokens), 2, C, dtype=torch.float32)
    launch(
        _layer_norm_backward, (len(partials),), x, mean_and_rstd, gamma, grad, residual, out,
        partials, T, tokens, C=C, **sizes,
    )  # fmt: skip
    return out, partials.sum(0)
