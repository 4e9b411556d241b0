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
        grad_gamma_and_beta: (2, C) in float64.
    """
    wide_x, statistics, gamma, grad = map(at_least_float32, (x, mean_and_rstd, gamma, grad))
    out, grad_gamma, grad_beta = aten.native_layer_norm_backward(
        grad, wide_x, x.shape[-1:], *statistics[..., None], gamma, gamma, [True] * 3
    )
    return out.add_(residual).to(x.dtype), torch.stack((grad_gamma, grad_beta)).double()


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Convert float16 and bfloat16 to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sums_over_tokens(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum grad and grad x over tokens: (2, C) in float64."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return torch.stack((grad.sum(0), (grad * x).sum(0))).double()
