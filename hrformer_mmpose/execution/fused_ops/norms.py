"""Operators of BatchNorm with GELU and of LayerNorm.

Shapes: T tokens (written `...` before C), C channels.
"""

import torch
import torch.nn.functional as F

from ..operator import operator

aten = torch.ops.aten


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
    '(Tensor x, Tensor grad, Tensor scale, Tensor offset, bool with_act=False)'
    ' -> (Tensor, Tensor, Tensor)',
    x='... C', grad='... C', scale='C', offset='C',
)  # fmt: skip
def bn_gelu_backward(
    x: torch.Tensor,
    grad: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    with_act: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradient of GELU's input, x scale + offset.

    Args:
        x: (..., C).
        grad: (..., C), gradient of GELU's output.
        scale: (C).
        offset: (C).
        with_act: also return GELU's output.

    Returns:
        grad_pre_act: (..., C), gradient of x scale + offset.
        act: (..., C), GELU's output; empty without `with_act`.
        sums: (2, C) in float64, sums over tokens of grad_pre_act and grad_pre_act x.
    """
    pre_act = torch.addcmul(offset, x, scale)
    grad_pre_act = aten.gelu_backward(grad.to(pre_act.dtype), pre_act)
    act = F.gelu(pre_act).to(x.dtype) if with_act else x.new_empty(0)
    return grad_pre_act.to(x.dtype), act, sums_over_tokens(grad_pre_act, x)


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
    return torch.addcmul(torch.addcmul(c, x, b), grad, a, out=grad)


@operator(
    '(Tensor x, Tensor? moments, Tensor gamma, Tensor beta, Tensor(a!)? running_mean,'
    ' Tensor(b!)? running_var, float count, float momentum, float eps, Tensor? total_count=None)'
    ' -> Tensor',
    x='... C', moments='2 C', gamma='C', beta='C', running_mean='C', running_var='C',
    total_count='f64: 1',
)  # fmt: skip
def bn_statistics(
    x: torch.Tensor,
    moments: torch.Tensor | None,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    count: float,
    momentum: float,
    eps: float,
    total_count: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute scale and offset of a BatchNorm and update its running statistics.

    Args:
        x: (..., C), input of the norm.
        moments: (2, C), mean and biased variance to normalise by; None computes those of x.
        gamma: (C), learned scale.
        beta: (C), learned offset.
        running_mean: (C), updated; None for no update.
        running_var: (C), updated; None for no update.
        count: tokens behind the moments, for the unbiased variance.
        momentum: weight of the moments in the running statistics.
        eps: added to the variance.
        total_count: (1), float64, replaces `count` without waiting for the device.

    Returns:
        (4, C): scale, offset, mean, 1 / standard deviation.
    """
    mean, var = _moments(x) if moments is None else at_least_float32(moments)
    if running_mean is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        if total_count is None:
            unbiased = var * (count / max(count - 1, 1))
        else:
            unbiased = var * (total_count / (total_count - 1).clamp(min=1))
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    rstd = (var + eps).rsqrt()
    scale = gamma * rstd
    return torch.stack((scale, torch.addcmul(beta, mean, scale, value=-1), mean, rstd))


@operator(
    '(Tensor sums, Tensor norm, float count, Tensor? total_sums=None, Tensor? total_count=None)'
    ' -> Tensor',
    sums='f64: 2 C', norm='4 C', total_sums='f64: 2 C', total_count='f64: 1',
)  # fmt: skip
def bn_grad_coeffs(
    sums: torch.Tensor,
    norm: torch.Tensor,
    count: float,
    total_sums: torch.Tensor | None = None,
    total_count: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute a BatchNorm's gradients from sums over tokens.

    Args:
        sums: (2, C) in float64, sums over tokens of the output's gradient, and of that times x.
        norm: (4, C), result of `bn_statistics`.
        count: tokens behind the statistics; 0 for running statistics, which have no gradient.
        total_sums: (2, C) in float64, `sums` of all processes that share the statistics.
        total_count: (1), float64, their tokens.

    Returns:
        (6, C): `bn_grad_coeffs` of `bn_backward_` (a, b, c); the gradients of a bias added to x, of
        gamma and of beta.
    """
    scale, _, mean, rstd = norm.double()
    if total_sums is None:
        total_sums = sums
    count = count if total_count is None else total_count
    grad_beta, total_beta = sums[0], total_sums[0]
    grad_gamma, total_gamma = ((s[1] - mean * s[0]) * rstd for s in (sums, total_sums))
    zero = torch.zeros_like(scale)
    b, c, grad_bias = zero, zero, scale * grad_beta
    if total_count is not None or count:
        b = scale * rstd * total_gamma / -count
        c = scale * total_beta / -count - b * mean
        grad_bias = zero  # the norm subtracts the mean
    return torch.stack((scale, b, c, grad_bias, grad_gamma, grad_beta)).to(norm.dtype)


@operator('(Tensor x) -> Tensor', x='... C')
def moments(x: torch.Tensor) -> torch.Tensor:
    """Compute mean and biased variance of each channel over all tokens.

    Args:
        x: (..., C).

    Returns:
        (2, C).
    """
    variance, mean = torch.var_mean(at_least_float32(x).flatten(0, -2), 0, unbiased=False)
    return torch.stack((mean, variance))


_moments = moments  # arguments of other operators have the same name


@operator(
    '(Tensor x, Tensor gamma, Tensor beta, float eps) -> (Tensor, Tensor)',
    x='... C', gamma='C', beta='C',
)  # fmt: skip
def layer_norm(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute LayerNorm over the channels.

    Args:
        x: (..., C).
        gamma: (C), scale.
        beta: (C), offset.
        eps: added to the variance.

    Returns:
        out: (..., C).
        mean_and_rstd: (2, ...), mean and 1 / standard deviation of each token.
    """
    out, *statistics = torch.native_layer_norm(x.to(gamma.dtype), x.shape[-1:], gamma, beta, eps)
    return out.to(x.dtype), at_least_float32(torch.stack(statistics)).squeeze(-1)


@operator(
    '(Tensor x, Tensor mean_and_rstd, Tensor gamma, Tensor grad, Tensor residual)'
    ' -> (Tensor, Tensor)',
    x='... C', mean_and_rstd='2 ...', gamma='C', grad='... C', residual='... C',
)  # fmt: skip
def layer_norm_backward(
    x: torch.Tensor,
    mean_and_rstd: torch.Tensor,
    gamma: torch.Tensor,
    grad: torch.Tensor,
    residual: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of `layer_norm`.

    Args:
        x: (..., C), its input.
        mean_and_rstd: (2, ...), its second result.
        gamma: (C), its scale.
        grad: (..., C), gradient of its output.
        residual: (..., C), gradient of the shortcut around the branch that starts with the norm.

    Returns:
        grad_x: (..., C), gradient of x plus `residual`.
        grad_gamma_and_beta: (2, C), at least float32.
    """
    wide_x, statistics, gamma, grad = map(at_least_float32, (x, mean_and_rstd, gamma, grad))
    out, grad_gamma, grad_beta = aten.native_layer_norm_backward(
        grad, wide_x, x.shape[-1:], *statistics[..., None], gamma, gamma, [True] * 3
    )
    return out.add_(residual).to(x.dtype), torch.stack((grad_gamma, grad_beta))


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Convert float16 and bfloat16 to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sums_over_tokens(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum grad and grad x over tokens: (2, C) in float64."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return torch.stack((grad.sum(0), (grad * x).sum(0))).double()
