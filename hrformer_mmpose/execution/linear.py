"""Convolution and linear layer fused with the activation or residual after them, for inference.

On CPUs oneDNN applies an activation, or adds a residual, before it writes its result, which saves a
pass over the map, and accepts weights in its own layout, which saves reordering them in each call.
PyTorch has these operators for its compiler. Without them the layers here are PyTorch's.

Shapes: B batch, C and D channels in and out, H and W of a map, maps channels last.
"""

import torch
import torch.nn.functional as F
from torch import nn

from . import fused_ops, policy

ACTIVATIONS = {'none': lambda x: x, 'relu': F.relu, 'gelu': F.gelu}


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute x W^T + b + residual without gradients.

    Args:
        x: (..., C).
        weight: (D, C).
        bias: (D).
        residual: (..., D).

    Returns:
        (..., D).
    """
    if not policy.use_onednn_linear(x, weight):
        x = F.linear(x, weight, bias)
        return x if residual is None else x.add_(residual)
    return _onednn_linear(x, weight, bias, residual)


def _onednn_linear(x, weight, bias, residual) -> torch.Tensor:
    bias = None if bias is None else bias.contiguous()  # oneDNN ignores its stride
    if residual is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, 'add')
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], 'none')


def cast(dtype: torch.dtype, *parameters: torch.Tensor) -> list[torch.Tensor]:
    """Convert parameters by one call: on a GPU one kernel instead of one for each."""
    if all(parameter.dtype is dtype for parameter in parameters):
        return [*parameters]
    converted = [torch.empty_like(parameter, dtype=dtype) for parameter in parameters]
    torch._foreach_copy_(converted, parameters)
    return converted


def bias_grad(grad: torch.Tensor) -> torch.Tensor:
    """Sum (..., C) over tokens, at least in float32."""
    grad = grad.flatten(0, -2)
    if grad.device.type == 'cpu' and grad.dtype is torch.float32:
        return (grad.new_ones(1, len(grad)) @ grad)[0]  # several times as fast as `sum`
    return grad.sum(0, dtype=grad.dtype if grad.dtype is torch.float64 else torch.float32)


class _Weighted(nn.Module):
    """Layer whose weight and bias are derived from others and therefore not in its state dict."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        super().__init__()
        self.register_buffer('weight', weight.detach(), persistent=False)
        self.register_buffer('bias', bias.detach().contiguous(), persistent=False)


class FusedLinear(_Weighted):
    """Linear layer fused with a residual connection.

    Args:
        weight: (D, C).
        bias: (D).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        super().__init__(weight, bias)
        self._packed: torch.Tensor | None = None  # weight in oneDNN's layout

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Compute x W^T + b + residual: (..., C) -> (..., D)."""
        if not policy.use_onednn_linear(x, self.weight, packed=True):
            x = F.linear(x, self.weight, self.bias.to(self.weight.dtype))
            return x if residual is None else x + residual
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        return _onednn_linear(x, self._packed, self.bias, residual)

    def convert_weight(self, dtype: torch.dtype) -> None:
        """Convert the weight; the bias, which oneDNN adds to float32 sums, stays as it is."""
        self._packed, self.weight = None, self.weight.to(dtype)

    def _apply(self, *args, **kwargs) -> 'nn.Module':
        self._packed = None  # stale after a move
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_packed': None}  # not copied or pickled


class FusedConv(_Weighted):
    """Convolution with padding k // 2, fused with a residual connection and an activation.

    Its weight is not reordered for oneDNN beforehand: some reordered shapes run fifty times as slow
    (312 to 624 channels, 3x3, stride 2: 57 ms instead of 1.3).

    Args:
        weight: (D, C / groups, k, k).
        bias: (D).
        stride: stride along both axes.
        groups: groups of channels.
        act: 'none', 'relu' or 'gelu'.

    Attributes:
        with_mixed_precision: whether a product of two numbers may be computed as three of
            bfloat16, to 2^-16 of it. False by default.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, stride: int, groups: int, act: str = 'none'
    ):
        super().__init__(weight.contiguous(memory_format=torch.channels_last), bias)
        self.stride, self.padding = [stride] * 2, [weight.shape[-1] // 2] * 2
        self.groups, self.act = groups, act
        self.with_mixed_precision = False

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Compute act(conv(x) + residual); with a residual the activation is 'none' or 'relu'.

        Args:
            x: (B, C, H, W).
            residual: (B, D, H / stride, W / stride), or None for 0.

        Returns:
            (B, D, H / stride, W / stride).
        """
        if (
            self.with_mixed_precision
            and residual is None
            and self.act != 'gelu'
            and policy.use_conv_kernel(x, self.weight, self.groups)
        ):
            x, weight = x.permute(0, 2, 3, 1), self.weight.permute(0, 2, 3, 1).flatten(1, 2)
            out = fused_ops.conv3x3(x, weight, self.bias, self.stride[0], self.act == 'relu')
            return out.permute(0, 3, 1, 2)
        if not policy.use_onednn(x):
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
            return ACTIVATIONS[self.act](x if residual is None else x + residual)
        settings = self.padding, self.stride, [1, 1], self.groups
        if residual is not None:
            act = None if self.act == 'none' else self.act
            return torch.ops.mkldnn._convolution_pointwise.binary(
                x, residual, self.weight, self.bias, *settings, 'add', 1.0, act, [], None
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *settings, self.act, [], 'none'
        )


def fold_batch_norm(
    conv: nn.Conv2d, norm: nn.Module | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold BatchNorm into the preceding convolution.

    Args:
        conv: the convolution, D channels out.
        norm: BatchNorm, or None to copy the convolution's parameters.

    Returns:
        weight: (D, C / groups, k, k).
        bias: (D).
    """
    weight, bias = conv.weight.detach(), conv.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    if norm is None:
        return weight.clone(), bias.clone()
    scale = torch.rsqrt(norm.running_var + norm.eps)
    offset = -norm.running_mean * scale
    if norm.affine:
        scale = scale * norm.weight.detach()
        offset = offset * norm.weight.detach() + norm.bias.detach()
    return weight * scale[:, None, None, None], bias * scale + offset


def fuse_conv(conv: nn.Conv2d, norm: nn.Module | None = None, act: str = 'none') -> FusedConv:
    """Fuse a convolution with the BatchNorm and activation after it."""
    return FusedConv(*fold_batch_norm(conv, norm), conv.stride[0], conv.groups, act)
