"""Operators of the depth-wise 3x3 convolution with the GELUs around it, and of a full one.

Shapes: B batch, H and W of a map, C channels, D channels out.
"""

import torch
import torch.nn.functional as F

from ..bn_arithmetic import fold, gradients
from ..operator import operator
from .batch_norm import (
    NORM_SCHEMA,
    NORM_SHAPES,
    batch_count,
    moments,
    sums_over_tokens,
)
from .norms import at_least_float32

aten = torch.ops.aten


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor conv_weight, Tensor conv_bias,'
    f' {NORM_SCHEMA}) -> (Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', conv_weight='C 9', conv_bias='C', **NORM_SHAPES,
)  # fmt: skip
def gelu_dwconv(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    num_batches: torch.Tensor | None,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the depth-wise 3x3 convolution, padding 1, of gelu(x scale + offset).

    Also compute the statistics of its output for the BatchNorm that follows.

    Args:
        x: (B, H, W, C).
        scale: (C).
        offset: (C).
        conv_weight: (C, 9), taps in row-major order.
        conv_bias: (C).
        gamma: (C), and all others: see `bn_statistics`.
        beta: (C).
        running_mean: (C) or None.
        running_var: (C) or None.
        num_batches: int64 or None.
        momentum: see `bn_statistics`.
        eps: added to the variance.

    Returns:
        out: (B, H, W, C).
        norm: (5, C), `bn_statistics` of `out`.
    """
    out = _dwconv(F.gelu(torch.addcmul(offset, x, scale)), conv_weight, conv_bias)
    running = running_mean, running_var, num_batches
    count = batch_count(x, of_batch=True)
    norm = fold(*moments(out), gamma, beta, *running, momentum, eps, count)
    return out.to(x.dtype), norm


@operator(
    '(Tensor x, Tensor conv_weight, Tensor conv_bias) -> Tensor',
    x='B H W C', conv_weight='C 9', conv_bias='C',
)  # fmt: skip
def gelu_dwconv_gelu(
    x: torch.Tensor, conv_weight: torch.Tensor, conv_bias: torch.Tensor
) -> torch.Tensor:
    """Compute gelu(conv(gelu(x))) with the convolution of `gelu_dwconv`.

    Args:
        x: (B, H, W, C).
        conv_weight: (C, 9).
        conv_bias: (C).

    Returns:
        (B, H, W, C).
    """
    return F.gelu(_dwconv(F.gelu(x.to(conv_weight.dtype)), conv_weight, conv_bias)).to(x.dtype)


@operator(
    '(Tensor x, Tensor norm, Tensor conv_out, Tensor grad_pre_act, Tensor bn_grad_coeffs,'
    ' Tensor conv_weight, bool of_batch) -> (Tensor, Tensor, Tensor, Tensor)',
    x='B H W C', norm='5 C', conv_out='B H W C', grad_pre_act='B H W C', bn_grad_coeffs='3 C',
    conv_weight='C 9',
)  # fmt: skip
def gelu_dwconv_backward(
    x: torch.Tensor,
    norm: torch.Tensor,
    conv_out: torch.Tensor,
    grad_pre_act: torch.Tensor,
    bn_grad_coeffs: torch.Tensor,
    conv_weight: torch.Tensor,
    of_batch: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of `gelu_dwconv` and of the BatchNorms before and after it.

    Args:
        x: (B, H, W, C), input of `gelu_dwconv` and of the BatchNorm before it.
        norm: (5, C), the BatchNorm before it.
        conv_out: (B, H, W, C), its output.
        grad_pre_act: (B, H, W, C), gradient of the output of the BatchNorm after it.
        bn_grad_coeffs: (3, C), of the BatchNorm after it, see `bn_backward_`.
        conv_weight: (C, 9).
        of_batch: `norm` holds statistics of x, see `bn_gelu_backward`.

    Returns:
        grad: (B, H, W, C), gradient of the output of the BatchNorm before it.
        grad_conv_weight: (C, 9), at least float32, gradients of the nine taps.
        sums: (2, C) in float64, sums over tokens of grad and grad x.
        bn_grads: (6, C), of the BatchNorm before it, see `bn_gelu_backward`.
    """
    a, b, c = bn_grad_coeffs
    pre_act = torch.addcmul(norm[1], x, norm[0])
    grad = torch.addcmul(torch.addcmul(c, conv_out, b), grad_pre_act, a)
    grad, grad_weight = _conv_backward(grad.to(pre_act.dtype), F.gelu(pre_act), conv_weight)
    out = aten.gelu_backward(grad, pre_act)
    sums = sums_over_tokens(out, x)
    bn_grads = gradients(sums, norm, batch_count(x, of_batch))
    return out.to(x.dtype), grad_weight, sums, bn_grads


@operator(
    '(Tensor x, Tensor weight, Tensor bias, int stride, bool relu) -> Tensor',
    x='B H W C', weight='D 9 C', bias='D',
)  # fmt: skip
def conv3x3(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: int, relu: bool
) -> torch.Tensor:
    """Compute a 3x3 convolution, padding 1.

    The kernel on CPUs, for float32, computes each product as three of bfloat16, to 2^-16 of it.

    Args:
        x: (B, H, W, C).
        weight: (D, 9, C), taps in row-major order.
        bias: (D).
        stride: along both axes.
        relu: whether to apply a ReLU.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), D).
    """
    dtype = torch.promote_types(x.dtype, weight.dtype)
    weight = weight.unflatten(1, (3, 3)).permute(0, 3, 1, 2).to(dtype)
    out = F.conv2d(x.permute(0, 3, 1, 2).to(dtype), weight, bias.to(dtype), stride, padding=1)
    return (F.relu(out) if relu else out).permute(0, 2, 3, 1).to(x.dtype)


@operator(
    '(Tensor grad, Tensor x, Tensor conv_weight, int stride) -> (Tensor, Tensor)',
    grad='B h w C', x='B H W C', conv_weight='C 9',
)  # fmt: skip
def dwconv_backward(
    grad: torch.Tensor, x: torch.Tensor, conv_weight: torch.Tensor, stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of a strided depth-wise 3x3 convolution, padding 1, without bias.

    Args:
        grad: (B, h, w, C), gradient of its output.
        x: (B, H, W, C), its input.
        conv_weight: (C, 9).
        stride: along both axes.

    Returns:
        (B, H, W, C), gradient of x.
        (C, 9), at least float32, gradients of the nine taps.
    """
    dtype = torch.promote_types(x.dtype, conv_weight.dtype)
    grad_x, grad_weight = _conv_backward(grad.to(dtype), x.to(dtype), conv_weight, stride)
    return grad_x.to(x.dtype), at_least_float32(grad_weight)


def _conv_backward(grad, x, conv_weight, stride=1) -> tuple[torch.Tensor, torch.Tensor]:
    C = x.shape[-1]
    grad_x, grad_weight, _ = aten.convolution_backward(
        grad.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2), _filters(conv_weight.to(x.dtype)), None,
        [stride] * 2, [1, 1], [1, 1], False, [0, 0], C, [True, True, False],
    )  # fmt: skip
    return grad_x.permute(0, 2, 3, 1), grad_weight.reshape(C, 9)


def _dwconv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(x.permute(0, 3, 1, 2), _filters(weight), bias, padding=1, groups=len(bias))
    return x.permute(0, 2, 3, 1)


def _filters(conv_weight: torch.Tensor) -> torch.Tensor:
    """(C, 9) -> (C, 1, 3, 3)."""
    return conv_weight.reshape(-1, 1, 3, 3)
