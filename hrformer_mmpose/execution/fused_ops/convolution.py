"""Operators of the depth-wise 3x3 convolution with the GELUs around it.

Shapes: B batch, H and W of a map, C channels.
"""

import torch
import torch.nn.functional as F

from ..operator import operator
from .norms import moments, sums_over_tokens

aten = torch.ops.aten


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor conv_weight, Tensor conv_bias)'
    ' -> (Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', conv_weight='9 C', conv_bias='C',
)  # fmt: skip
def gelu_dwconv(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the depth-wise 3x3 convolution, padding 1, of gelu(x scale + offset).

    Args:
        x: (B, H, W, C).
        scale: (C).
        offset: (C).
        conv_weight: (9, C), taps in row-major order.
        conv_bias: (C).

    Returns:
        out: (B, H, W, C).
        moments: (2, C), `moments` of `out`.
    """
    out = _dwconv(F.gelu(torch.addcmul(offset, x, scale)), conv_weight, conv_bias)
    return out.to(x.dtype), moments(out)


@operator(
    '(Tensor x, Tensor conv_weight, Tensor conv_bias) -> Tensor',
    x='B H W C', conv_weight='9 C', conv_bias='C',
)  # fmt: skip
def gelu_dwconv_gelu(
    x: torch.Tensor, conv_weight: torch.Tensor, conv_bias: torch.Tensor
) -> torch.Tensor:
    """Compute gelu(conv(gelu(x))) with the convolution of `gelu_dwconv`.

    Args:
        x: (B, H, W, C).
        conv_weight: (9, C).
        conv_bias: (C).

    Returns:
        (B, H, W, C).
    """
    return F.gelu(_dwconv(F.gelu(x.to(conv_weight.dtype)), conv_weight, conv_bias)).to(x.dtype)


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor conv_out, Tensor grad_pre_act,'
    ' Tensor bn_grad_coeffs, Tensor conv_weight) -> (Tensor, Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', conv_out='B H W C', grad_pre_act='B H W C',
    bn_grad_coeffs='3 C', conv_weight='9 C',
)  # fmt: skip
def gelu_dwconv_backward(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    conv_out: torch.Tensor,
    grad_pre_act: torch.Tensor,
    bn_grad_coeffs: torch.Tensor,
    conv_weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of `gelu_dwconv` and the BatchNorm after it.

    Args:
        x: (B, H, W, C), input of `gelu_dwconv`.
        scale: (C).
        offset: (C).
        conv_out: (B, H, W, C), its output.
        grad_pre_act: (B, H, W, C), gradient of BatchNorm's output.
        bn_grad_coeffs: (3, C), see `bn_backward_`.
        conv_weight: (9, C).

    Returns:
        grad: (B, H, W, C), gradient of x scale + offset.
        grad_conv_weight: (C, 9), at least float32, gradients of the nine taps.
        sums: (2, C) in float64, sums over tokens of grad and grad x.
    """
    C = len(scale)
    a, b, c = bn_grad_coeffs
    pre_act = torch.addcmul(offset, x, scale)
    grad = torch.addcmul(torch.addcmul(c, conv_out, b), grad_pre_act, a).permute(0, 3, 1, 2)
    grad, grad_weight, _ = aten.convolution_backward(
        grad.to(pre_act.dtype), F.gelu(pre_act).permute(0, 3, 1, 2),
        _filters(conv_weight.to(pre_act.dtype)), None, [1, 1], [1, 1], [1, 1], False, [0, 0], C,
        [True, True, False],
    )  # fmt: skip
    out = aten.gelu_backward(grad.permute(0, 2, 3, 1), pre_act)
    return out.to(x.dtype), grad_weight.reshape(C, 9), sums_over_tokens(out, x)


def _dwconv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(x.permute(0, 3, 1, 2), _filters(weight), bias, padding=1, groups=len(bias))
    return x.permute(0, 2, 3, 1)


def _filters(conv_weight: torch.Tensor) -> torch.Tensor:
    """(9, C) -> (C, 1, 3, 3)."""
    return conv_weight.t().reshape(-1, 1, 3, 3)
