"""Decide which path a layer takes: plain, recompute (training), inference, export, or a kernel.

The fast paths read a block's weights and do not call the modules that hold them. This gives the
plain path's results for stock modules only: hooks, parametrizations, adapters and replaced or
subclassed layers act on the call of a module. A module that is not known to be stock takes the
plain path.

Three kinds of decisions:

- `obstacle`, `may_fuse`: may a module be converted for inference or export?
- `may_recompute_attention`, `may_recompute_ffn`: may a training step recompute activations?
- `allows_kernels`, `use_fused_ops`, `use_onednn`, ...: is a kernel available and the faster one?
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module
from torch.nn.modules.batchnorm import _BatchNorm

from .. import layers

_Class = TypeVar('_Class', bound=type[nn.Module])

_STOCK = (
    layers.BasicBlock,
    layers.Bottleneck,
    layers.CrossFFN,
    layers.DropPath,
    layers.LocalWindowSelfAttention,
    layers.MultiScaleFusion,
    layers.WindowMSA,
    nn.BatchNorm2d,
    nn.Conv2d,
    nn.GELU,
    nn.LayerNorm,
    nn.Linear,
    nn.ModuleList,
    nn.ReLU,
    nn.Sequential,
    nn.SyncBatchNorm,
)
# `forward` of each stock class at import: detects later patches.
_FORWARDS: dict[type[nn.Module], Callable] = {cls: cls.forward for cls in _STOCK}
# Conditions on an instance of a stock class.
_CHECKS: dict[type[nn.Module], Callable[[nn.Module], bool]] = {
    nn.Conv2d: lambda conv: (
        (conv.kernel_size, conv.padding) in (((1, 1), (0, 0)), ((3, 3), (1, 1)))
        and conv.padding_mode == 'zeros'
        and conv.dilation == (1, 1)
        and conv.stride in ((1, 1), (2, 2))
    ),
    layers.CrossFFN: lambda ffn: _has_stock_convolutions(ffn),
    nn.GELU: lambda gelu: gelu.approximate == 'none',
    nn.LayerNorm: lambda norm: len(norm.normalized_shape) == 1,
    nn.Linear: lambda linear: linear.bias is not None,
}
# Instance attributes that change the result of calling a module.
_OVERRIDES = (
    '_forward_hooks',
    '_forward_pre_hooks',
    '_backward_hooks',
    '_backward_pre_hooks',
    '_compiled_call_impl',
    'forward',
)
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
_NARROW = 100  # channels, see `use_onednn_linear`
_MANY_TOKENS = 512  # per image, see `multiply_by_image`
_TENSORS = frozenset((torch.Tensor, nn.Parameter, type(None)))


def stock(cls: _Class) -> _Class:
    """Register a class, not its subclasses, whose instances fast paths may bypass."""
    _FORWARDS[cls] = cls.forward
    return cls


def obstacle(module: nn.Module) -> str | None:
    """Return the reason why a module itself cannot be bypassed, or None.

    Its submodules are not examined.
    """
    cls, state = type(module), module.__dict__
    if _FORWARDS.get(cls) is not cls.forward:
        return f'{cls.__name__} is not a stock layer'
    if any(map(state.get, _OVERRIDES)):
        return f'{cls.__name__} has hooks or its own forward'
    if not _TENSORS.issuperset(map(type, state['_parameters'].values())):
        return f'{cls.__name__} holds a tensor subclass'
    check = _CHECKS.get(cls)
    if check is not None and not check(module):
        return f'{cls.__name__} has other settings'
    return None


def obstacles_to_fusing(module: nn.Module) -> dict[str, str]:
    """Return the reasons why a module or its submodules cannot be converted, by module name."""
    if _has_global_hooks():
        return {'': 'hooks are registered for all modules'}
    reasons = {}
    for name, child in module.named_modules():
        reason = obstacle(child)
        if reason is None and isinstance(child, _BatchNorm) and child.running_mean is None:
            reason = f'{type(child).__name__} has no running statistics'
        if reason is not None:
            reasons[name] = reason
    return reasons


def may_fuse(module: nn.Module) -> bool:
    """Return whether a module and all its submodules may be converted for inference or export."""
    return not obstacles_to_fusing(module)


def may_recompute_attention(block: nn.Module, x: torch.Tensor) -> bool:
    """Return whether `recompute.attention` may replace the attention branch of a block.

    Args:
        block: `execution.block.HRFormerBlock`.
        x: (B, H, W, C), input of the branch.
    """
    # On other devices PyTorch's fused attention computes the bias's gradient.
    return (
        x.device.type == 'cpu'
        and _may_recompute(block, x, block.norm1, block.attn, block.drop_path)
        and not block.attn.is_masked(x.shape[1:3])
    )


def may_recompute_ffn(block: nn.Module, x: torch.Tensor) -> bool:
    """Return whether `recompute.ffn` may replace the FFN branch of a block.

    Args:
        block: `execution.block.HRFormerBlock`.
        x: (B, H, W, C), input of the branch.
    """
    # A single value per channel is an error, which BatchNorm itself raises.
    return x.numel() > x.shape[-1] and _may_recompute(
        block, x, block.norm2, block.ffn, block.drop_path
    )


def _may_recompute(block: nn.Module, x: torch.Tensor, *modules: nn.Module) -> bool:
    return (
        block.with_recompute
        and torch.is_grad_enabled()
        and type(x) in _TENSORS
        and x.dtype in (torch.float32, torch.float64)
        and _is_eager(x.device.type)
        and torch._C._functorch.peek_interpreter_stack() is None
        and not _has_global_hooks()
        and all(_is_stock_tree(module, x.dtype) for module in modules)
    )


def allows_kernels(device: str) -> bool:
    """Return whether operators without derivatives may be called now.

    Args:
        device: type of the device: 'cpu', 'cuda', ...
    """
    return not torch.is_grad_enabled() and _is_eager(device)


def use_fused_ops(x: torch.Tensor) -> bool:
    """Return whether inference takes the fused LayerNorm and window attention for `x`.

    Other devices have fused kernels of PyTorch for both.
    """
    return x.dtype is torch.float32 and x.device.type == 'cpu' and allows_kernels('cpu')


def use_onednn(x: torch.Tensor) -> bool:
    """Return whether oneDNN's fused convolutions and linear layers are available for `x`."""
    return use_fused_ops(x) and torch.backends.mkldnn.enabled and HAS_ONEDNN


def use_onednn_linear(x: torch.Tensor, width: int) -> bool:
    """Return whether oneDNN is faster than `F.linear` for a weight that is not reordered.

    Measured for batch 8 on one core of a Xeon with AVX-512, oneDNN's time over `F.linear`'s (C -> D
    channels): 32 -> 32 0.90, 78 -> 78 0.74, 78 -> 234 0.70, 156 -> 468 0.98; but 156 -> 624 1.04,
    128 -> 384 1.11, 312 -> 1248 1.12, where reordering the weight costs more than it saves. On
    that machine 32 -> 128 (0.59) and 64 -> 256 (0.61) would gain, too, but take `F.linear`.

    Args:
        x: (..., C).
        width: D, channels of the result.
    """
    return (width <= _NARROW or width % 8 != 0) and use_onednn(x)


def multiply_by_image(x: torch.Tensor) -> bool:
    """Return whether a weight's gradient is the sum of one product per image.

    Measured for batch 8 on one core of a Xeon with AVX-512, time over that of one product for the
    batch (tokens per image, C -> D channels): 3072 tokens, 78 -> 312 0.62; 768, 64 -> 256 0.82;
    768, 156 -> 624 1.16; 192, 312 -> 1248 1.11; 48, 624 -> 2496 5.7. With `use_onednn_linear` it
    brought HRFormer-B's training step from 1.54 to 1.64 times MMPose's speed (docs/speed.md).

    Args:
        x: (B, H, W, C).
    """
    return x.device.type == 'cpu' and x.shape[1] * x.shape[2] >= _MANY_TOKENS


def _is_eager(device: str) -> bool:
    """Return whether no compiler, tracer, autocast or forward-mode gradient is active."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device))
        or forward_ad._current_level >= 0
    )


def _is_stock_tree(module: nn.Module, dtype: torch.dtype) -> bool:
    """Return whether a module and its submodules are stock and have all parameters, in `dtype`."""
    # Called for each block in each step: plain loops over dictionaries take 1 us per module.
    state = module.__dict__
    if obstacle(module) is not None:
        return False
    for parameter in state['_parameters'].values():
        if parameter is None or parameter.dtype is not dtype:
            return False
    if isinstance(module, _BatchNorm) and not _has_stock_statistics(module, dtype):
        return False
    for child in state['_modules'].values():
        if child is not None and not _is_stock_tree(child, dtype):
            return False
    return True


def _has_stock_statistics(norm: _BatchNorm, dtype: torch.dtype) -> bool:
    mean = norm.running_mean
    return type(norm) is nn.BatchNorm2d and (mean is None or mean.dtype is dtype)


def _has_global_hooks() -> bool:
    return bool(
        torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_backward_hooks
        or torch_module._global_backward_pre_hooks
    )


def _has_stock_convolutions(ffn: nn.Module) -> bool:
    """Return whether the convolutions of a `CrossFFN` have its constructor's settings."""
    fc1, conv, fc2, norm2 = map(ffn._modules.get, ('fc1', 'dw3x3', 'fc2', 'norm2'))
    return (
        _conv_settings(fc1) == _conv_settings(fc2) == ((1, 1), (1, 1), 1)
        and (conv is None) == (norm2 is None)
        and (conv is None or _conv_settings(conv) == ((3, 3), (1, 1), fc1.out_channels))
    )


def _conv_settings(conv: nn.Module) -> tuple:
    settings = vars(conv).get
    return settings('kernel_size'), settings('stride'), settings('groups')
