"""Operators of linear layers with what stands before and after them.

A GPU kernel of these takes the weight in float32 and computes the product in the type of x. The
plain forms are made of other operators and PyTorch's products.

Shapes: B batch, H and W of a map, C and D channels in and out of a layer.
"""

import torch

from .. import policy
from ..linear import cast, linear
from ..operator import operator
from .batch_norm import NORM_SCHEMA, bn_gelu, bn_gelu_backward, bn_statistics
from .norms import at_least_float32, layer_norm

_NORM_OF_D = dict(gamma='D', beta='D', running_mean='D', running_var='D', num_batches='i64:')


@operator(
    '(Tensor x, Tensor? scale, Tensor? offset, Tensor weight, Tensor bias,'
    f' {NORM_SCHEMA}) -> (Tensor, Tensor)',
    x='... C', scale='C', offset='C', weight='D C', bias='D', **_NORM_OF_D,
)  # fmt: skip
def gelu_linear(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    offset: torch.Tensor | None,
    weight: torch.Tensor,
    bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    num_batches: torch.Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute gelu(x scale + offset) W^T + b; without `scale` and `offset` x W^T + b.

    Also compute the statistics of the output for the BatchNorm that follows.

    Args:
        x: (..., C).
        scale: (C) or None.
        offset: (C) or None.
        weight: (D, C), W.
        bias: (D), b.
        gamma: (D), and all others: see `bn_statistics`.
        beta: (D).
        running_mean: (D) or None.
        running_var: (D) or None.
        num_batches: int64 or None.
        momentum: see `bn_statistics`.
        eps: added to the variance.

    Returns:
        out: (..., D).
        norm: (5, D), `bn_statistics` of `out`.
    """
    act = x if scale is None else bn_gelu(x, scale, offset)
    out = linear(act, *cast(x.dtype, weight, bias))
    running = running_mean, running_var, num_batches
    return out, bn_statistics(out, gamma, beta, *running, momentum, eps)


@operator(
    '(Tensor x, Tensor grad, Tensor norm, Tensor weight, bool of_batch)'
    ' -> (Tensor, Tensor, Tensor, Tensor)',
    x='B H W C', grad='B H W D', norm='5 C', weight='D C',
)  # fmt: skip
def gelu_linear_backward(
    x: torch.Tensor, grad: torch.Tensor, norm: torch.Tensor, weight: torch.Tensor, of_batch: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of `gelu_linear` and of the BatchNorm before it.

    Args:
        x: (B, H, W, C), input of `gelu_linear` and of the BatchNorm before it.
        grad: (B, H, W, D), gradient of its output.
        norm: (5, C), the BatchNorm before it.
        weight: (D, C).
        of_batch: see `bn_gelu_backward`.

    Returns:
        grad_pre_act: (B, H, W, C), gradient of x scale + offset.
        grad_weight: (D, C), at least float32.
        sums: (2, C) in float64, and the next: see `bn_gelu_backward`.
        bn_grads: (6, C).
    """
    (half_weight,) = cast(x.dtype, weight)
    grad_act = linear(grad, half_weight.t())
    grad_pre_act, act, *sums = bn_gelu_backward(x, grad_act, norm, of_batch, with_act=True)
    return grad_pre_act, weight_grad(grad, act), *sums


@operator('(Tensor grad, Tensor x) -> Tensor', grad='B H W D', x='B H W C')
def weight_grad(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Compute the weight gradient of a linear layer.

    Args:
        grad: (B, H, W, D), gradient of its output.
        x: (B, H, W, C), its input.

    Returns:
        (D, C), at least float32.
    """
    if not policy.use_product_per_image(grad):
        return at_least_float32(grad.flatten(0, -2).t() @ x.flatten(0, -2))
    grad, x = grad.flatten(1, 2), x.flatten(1, 2)
    if grad.shape[-1] > x.shape[-1]:  # the narrower one first is faster
        return torch.bmm(x.transpose(1, 2), grad).sum(0, dtype=torch.float32).t()
    return torch.bmm(grad.transpose(1, 2), x).sum(0, dtype=torch.float32)


@operator(
    '(Tensor grad, Tensor x, Tensor mean_and_rstd, Tensor gamma, Tensor beta, float eps) -> Tensor',
    grad='B H W D', x='B H W C', mean_and_rstd='2 B H W', gamma='C', beta='C',
)  # fmt: skip
def normed_weight_grad(
    grad: torch.Tensor,
    x: torch.Tensor,
    mean_and_rstd: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Compute the weight gradient of a linear layer whose input is a LayerNorm's output.

    Args:
        grad: (B, H, W, D), gradient of the linear layer's output.
        x: (B, H, W, C), the LayerNorm's input.
        mean_and_rstd: (2, B, H, W), its statistics, see `layer_norm`.
        gamma: (C), its scale.
        beta: (C), its offset.
        eps: its constant, for plain forms, which compute the statistics anew.

    Returns:
        (D, C), at least float32.
    """
    return weight_grad(grad, layer_norm(x, gamma, beta, eps)[0])
