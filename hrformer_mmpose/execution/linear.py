"""Convolution and linear layer with what follows them in one pass, for inference.

On CPUs oneDNN applies an activation, or adds a residual, to its result before writing it, which
saves a pass over the map; and it keeps weights in a layout of its own, which saves bringing them
there at every call. PyTorch has these kernels for its own compiler; they are taken where they are.
Elsewhere these layers are PyTorch's.

Shapes: B batch, C and D channels in and out, H and W of a map, maps channels last.
"""

import torch
import torch.nn.functional as F
from torch import nn

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
NARROW = 100  # channels; see `linear`
ACTIVATIONS = {'none': lambda x: x, 'relu': F.relu, 'gelu': F.gelu}


def onednn_takes(x: torch.Tensor) -> bool:
    """Whether oneDNN's fused kernels are there for `x` and may be called.

    They know no gradients; a graph that is traced, exported or compiled gets fusions of its own.
    """
    return (
        x.dtype is torch.float32
        and x.device.type == 'cpu'
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled('cpu')
        and torch.backends.mkldnn.enabled
        and HAS_ONEDNN
    )


def linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """x W^T + b + residual without gradients: (..., C) -> (..., D).

    Narrow results, and widths that are not whole vectors (HRFormer-B's 78, 156, 234, 468), take
    oneDNN down to half the time of `F.linear`. On others it is the slower: it brings the weight
    into its own layout first.
    """
    width = len(weight)
    if (width > NARROW and width % 8 == 0) or not onednn_takes(x):
        x = F.linear(x, weight, bias)
        return x if residual is None else x.add_(residual)
    return _onednn_linear(x, weight, bias, residual)


def _onednn_linear(x, weight, bias, residual) -> torch.Tensor:
    bias = None if bias is None else bias.contiguous()  # oneDNN ignores its stride
    if residual is not None:
        return torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, 'add')
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], 'none')


class _Weighted(nn.Module):
    """Weight and bias that are derived from others, so that a state dict leaves them out."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        super().__init__()
        self.register_buffer('weight', weight.detach(), persistent=False)
        self.register_buffer('bias', bias.detach().contiguous(), persistent=False)


class FusedLinear(_Weighted):
    """Linear layer, alone or summed with another map.

    Args:
        weight: (D, C). bias: (D,).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        super().__init__(weight, bias)
        self._packed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """(..., C) -> (..., D): x W^T + b + residual."""
        if not onednn_takes(x):
            x = F.linear(x, self.weight, self.bias)
            return x if residual is None else x + residual
        if self._packed is None:  # in oneDNN's layout
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight)
        return _onednn_linear(x, self._packed, self.bias, residual)

    def _apply(self, *args, **kwargs) -> 'nn.Module':
        self._packed = None  # of the weight before it moved
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_packed': None}  # copies and files take the plain weight


class FusedConv(_Weighted):
    """Convolution, padded by half its kernel, then an activation, or a sum and ReLU.

    Its weight is not brought into oneDNN's layout beforehand: of what PyTorch prepares there, some
    shapes take kernels fifty times as slow (312 to 624 channels, 3x3, stride 2).

    Args:
        weight: (D, C / groups, k, k). bias: (D,). stride, groups: of the convolution.
        act: 'none', 'relu' or 'gelu'.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, stride: int, groups: int, act: str = 'none'
    ):
        super().__init__(weight.contiguous(memory_format=torch.channels_last), bias)
        self.stride, self.padding = [stride] * 2, [weight.shape[-1] // 2] * 2
        self.groups, self.act = groups, act

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C, H, W) -> (B, D, H / stride, W / stride): act(conv), or relu(conv + residual)."""
        if not onednn_takes(x):
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
            return ACTIVATIONS[self.act](x) if residual is None else F.relu(x + residual)
        shape = self.padding, self.stride, [1, 1], self.groups
        if residual is not None:
            return torch.ops.mkldnn._convolution_pointwise.binary(
                x, residual, self.weight, self.bias, *shape, 'add', 1.0, 'relu', [], None
            )
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *shape, self.act, [], 'none'
        )
