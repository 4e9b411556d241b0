"""Operators of LayerNorm.

Shapes: T tokens (written `...` before C), C channels.
"""

import torch

from ..operator import operator

aten = torch.ops.aten


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
    mean, rstd = statistics[..., None].contiguous()  # PyTorch ignores their strides
    out, grad_gamma, grad_beta = aten.native_layer_norm_backward(
        grad, wide_x, x.shape[-1:], mean, rstd, gamma, gamma, [True] * 3
    )
    return out.add_(residual).to(x.dtype), torch.stack((grad_gamma, grad_beta))


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Convert float16 and bfloat16 to float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
