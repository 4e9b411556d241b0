"""Operators of BatchNorm with GELU.

A BatchNorm of a training step is a table `norm`, (5, C): scale, offset, mean, biased variance and
1 / standard deviation. It maps x to x scale + offset.

Shapes: T tokens (written `...` before C), C channels.
"""

import torch
import torch.nn.functional as F

from ..bn_arithmetic import fold, gradients
from ..operator import operator
from .norms import at_least_float32

aten = torch.ops.aten

NORM_SCHEMA = (
    'Tensor gamma, Tensor beta, Tensor(a!)? running_mean, Tensor(b!)? running_var,'
    ' Tensor(c!)? num_batches, float momentum, float eps'
)
NORM_SHAPES = dict(gamma='C', beta='C', running_mean='C', running_var='C', num_batches='i64:')


@operator(f'(Tensor x, {NORM_SCHEMA}) -> Tensor', x='... C', **NORM_SHAPES)
def bn_statistics(
    x: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    num_batches: torch.Tensor | None,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """Compute `norm` from the statistics of x and update the running ones.

    Args:
        x: (..., C), input of the norm.
        gamma: (C), learned scale.
        beta: (C), learned offset.
        running_mean: (C), updated; None for no update.
        running_var: (C), updated; None for no update.
        num_batches: int64 counter of training steps, increased by one; None for none.
        momentum: weight of x in the running statistics.
        eps: added to the variance.

    Returns:
        (5, C).
    """
    running = running_mean, running_var, num_batches
    return fold(*moments(x), gamma, beta, *running, momentum, eps, x.numel() // x.shape[-1])


@operator(
    f'(Tensor moments, Tensor? total_count, {NORM_SCHEMA}) -> Tensor',
    moments='2 C', total_count='f64: 1', **NORM_SHAPES,
)  # fmt: skip
def bn_from_moments(
    moments: torch.Tensor,
    total_count: torch.Tensor | None,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    num_batches: torch.Tensor | None,
    momentum: float,
    eps: float,
) -> torch.Tensor:
    """Compute `norm` from mean and variance: running ones, or those of several processes.

    Args:
        moments: (2, C), mean and biased variance.
        total_count: (1), float64, tokens behind the moments; None if nothing is updated.
        gamma: (C), and all others, see `bn_statistics`.
        beta: (C).
        running_mean: (C) or None.
        running_var: (C) or None.
        num_batches: int64 or None.
        momentum: see `bn_statistics`.
        eps: added to the variance.

    Returns:
        (5, C).
    """
    count = 1 if total_count is None else total_count
    running = running_mean, running_var, num_batches
    return fold(*at_least_float32(moments), gamma, beta, *running, momentum, eps, count)


@operator(
    '(Tensor sums, Tensor norm, Tensor total_sums, Tensor total_count) -> Tensor',
    sums='f64: 2 C', norm='5 C', total_sums='f64: 2 C', total_count='f64: 1',
)  # fmt: skip
def bn_total_grads(
    sums: torch.Tensor, norm: torch.Tensor, total_sums: torch.Tensor, total_count: torch.Tensor
) -> torch.Tensor:
    """Compute a BatchNorm's gradients where several processes share its statistics.

    Args:
        sums: (2, C) in float64, sums over tokens of the output's gradient, and of that times x.
        norm: (5, C).
        total_sums: (2, C) in float64, `sums` of all processes.
        total_count: (1), float64, their tokens.

    Returns:
        (6, C), see `bn_gelu_backward`.
    """
    return gradients(sums, norm, total_count, total_sums)


@operator(
    '(Tensor x, Tensor? scale=None, Tensor? offset=None, Tensor? residual=None) -> Tensor',
    x='... C', scale='C', offset='C', residual='... C',
)  # fmt: skip
def bn_gelu(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute gelu(x scale + offset) + residual.

    Args:
        x: (..., C).
        scale: (C), or None for 1.
        offset: (C), or None for 0.
        residual: (..., C), or None for 0.

    Returns:
        (..., C).
    """
    out = F.gelu(x if scale is None else torch.addcmul(offset, x, scale))
    return (out if residual is None else out + residual).to(x.dtype)


@operator(
    '(Tensor x, Tensor grad, Tensor norm, bool of_batch, bool with_act=False)'
    ' -> (Tensor, Tensor, Tensor, Tensor)',
    x='... C', grad='... C', norm='5 C',
)  # fmt: skip
def bn_gelu_backward(
    x: torch.Tensor,
    grad: torch.Tensor,
    norm: torch.Tensor,
    of_batch: bool,
    with_act: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradient of GELU's input, BatchNorm's output, and of BatchNorm's parameters.

    Args:
        x: (..., C), BatchNorm's input.
        grad: (..., C), gradient of GELU's output.
        norm: (5, C).
        of_batch: the statistics are those of x, not running ones, which have no gradient.
        with_act: also return GELU's output.

    Returns:
        grad_pre_act: (..., C), gradient of BatchNorm's output.
        act: (..., C), GELU's output; empty without `with_act`.
        sums: (2, C) in float64, sums over tokens of grad_pre_act and grad_pre_act x.
        bn_grads: (6, C), `bn_grad_coeffs` of `bn_backward_` (a, b, c); the gradients of a bias
            added to x, of gamma and of beta.
    """
    pre_act = torch.addcmul(norm[1], x, norm[0])
    grad_pre_act = aten.gelu_backward(grad.to(pre_act.dtype), pre_act)
    act = F.gelu(pre_act).to(x.dtype) if with_act else x.new_empty(0)
    sums = sums_over_tokens(grad_pre_act, x)
    bn_grads = gradients(sums, norm, batch_count(x, of_batch))
    return grad_pre_act.to(x.dtype), act, sums, bn_grads


@operator(
    '(Tensor(a!) grad, Tensor x, Tensor bn_grad_coeffs) -> Tensor(a!)',
    grad='... C', x='... C', bn_grad_coeffs='3 C',
)  # fmt: skip
def bn_backward_(grad: torch.Tensor, x: torch.Tensor, bn_grad_coeffs: torch.Tensor) -> torch.Tensor:
    """Replace the gradient of BatchNorm's output by that of its input: a grad + b x + c.

    Args:
        grad: (..., C), gradient of the output; overwritten.
        x: (..., C), BatchNorm's input.
        bn_grad_coeffs: (3, C), a, b and c of each channel.

    Returns:
        `grad`.
    """
    a, b, c = bn_grad_coeffs
    return grad.copy_(torch.addcmul(torch.addcmul(c, x, b), grad, a))


def moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean and biased variance of each channel over all tokens, (C) each."""
    variance, mean = torch.var_mean(at_least_float32(x).flatten(0, -2), 0, unbiased=False)
    return mean, variance


def batch_count(x: torch.Tensor, of_batch: bool) -> int:
    """Return the tokens of x, or 0 for running statistics."""
    return x.numel() // x.shape[-1] if of_batch else 0


def sums_over_tokens(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum grad and grad x over tokens: (2, C) in float64."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return torch.stack((grad.sum(0), (grad * x).sum(0))).double()
