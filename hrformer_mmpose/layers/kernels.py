"""Convolution and linear layers with what follows them in one pass, for inference.

On CPUs oneDNN applies an activation (or adds a residual) to its result before writing it, which
saves a pass over the map. PyTorch has these kernels for its own compiler; they are taken where they
exist. Elsewhere `conv` and `linear` are PyTorch's.

Shapes: T tokens, C and D channels in and out; maps are (B, C, H, W), channels last.
"""

import torch
import torch.nn.functional as F

ACTIVATIONS = {None: lambda x: x, 'relu': F.relu, 'gelu': F.gelu}
_ONEDNN_NAMES = {None: 'none', 'relu': 'relu', 'gelu': 'gelu'}


def onednn_takes(x: torch.Tensor) -> bool:
    """Whether oneDNN's fused kernels are there for `x` and may be called.

    They know no gradients, and a graph that is exported or compiled gets its own fusions.
    """
    return (
        x.device.type == 'cpu'
        and x.dtype is torch.float32
        and not torch.is_grad_enabled()
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled('cpu')
        and hasattr(torch.ops.mkldnn, '_linear_pointwise')
    )


def linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, act: str | None = None
) -> torch.Tensor:
    """act(x W^T + b): (..., C) -> (..., D)."""
    if onednn_takes(x):
        name = _ONEDNN_NAMES[act]
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], 'none')
    return ACTIVATIONS[act](F.linear(x, weight, bias))


def linear_add(
    x: torch.Tensor, other: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """x W^T + b + other."""
    if onednn_takes(x):
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, 'add')
    return F.linear(x, weight, bias) + other  # which under autocast has a larger type


def conv(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: int = 1,
    groups: int = 1,
    act: str | None = None,
) -> torch.Tensor:
    """act(convolution), padded by half the kernel: (B, C, H, W) -> (B, D, H / s, W / s)."""
    padding = weight.shape[-1] // 2
    if onednn_takes(x):
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, [padding] * 2, [stride] * 2, [1, 1], groups, _ONEDNN_NAMES[act], [],
            'none',
        )  # fmt: skip
    return ACTIVATIONS[act](F.conv2d(x, weight, bias, stride, padding, groups=groups))


def conv_add_relu(
    x: torch.Tensor, other: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """relu(convolution + other), of stride 1."""
    padding = weight.shape[-1] // 2
    if onednn_takes(x):
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, weight, bias, [padding] * 2, [1, 1], [1, 1], 1, 'add', 1.0, 'relu', [], None
        )
    return F.relu(F.conv2d(x, weight, bias, padding=padding) + other)
