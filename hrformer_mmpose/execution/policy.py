"""Decide whether a fast path may be taken instead of the plain one.

The fast paths (`recompute` in training, `fused` at inference) read a block's weights and do not
call the modules that hold them. This gives the plain path's results for stock modules only: hooks,
parametrizations, adapters and replaced or subclassed layers act on the call of a module. Whatever
is not known to be stock takes the plain path.
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
# `forward` of each stock class at the time of import: patching it later is detected.
_FORWARDS: dict[type[nn.Module], Callable] = {cls: cls.forward for cls in _STOCK}
# What must hold for an instance of a stock class.
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
_TENSORS = frozenset((torch.Tensor, nn.Parameter, type(None)))


def stock(cls: _Class) -> _Class:
    """Register a class (not its subclasses) whose instances fast paths may bypass."""
    _FORWARDS[cls] = cls.forward
    return cls


def obstacle(module: nn.Module) -> str | None:
    """Reason why a module, its submodules aside, cannot be bypassed; None if it can."""
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
    """Reasons by name why a module and its submodules cannot be bypassed at inference."""
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
    """Whether an inference version may replace a module and all its submodules."""
    return not obstacles_to_fusing(module)


def may_recompute_attention(block: nn.Module, x: torch.Tensor) -> bool:
    """Whether `recompute.attention` may replace the attention branch of an `HRFormerBlock`.

    Args:
        x: (B, H, W, C), the block's input.
    """
    # Other devices have fused kernels that give the gradient of the position bias.
    return (
        x.device.type == 'cpu'
        and _may_recompute(block, x, block.norm1, block.attn, block.drop_path)
        and not block.attn.is_masked(x.shape[1:3])
    )


def may_recompute_ffn(block: nn.Module, x: torch.Tensor) -> bool:
    """Whether `recompute.ffn` may replace the FFN branch of an `HRFormerBlock`.

    Args:
        x: (B, H, W, C), the block's input.
    """
    # One value a channel is an error of BatchNorm, which is to raise it.
    return x.numel() > x.shape[-1] and _may_recompute(
        block, x, block.norm2, block.ffn, block.drop_path
    )


def _may_recompute(block: nn.Module, x: torch.Tensor, *modules: nn.Module) -> bool:
    return (
        block.with_recompute
        and torch.is_grad_enabled()
        and type(x) in _TENSORS
        and x.dtype in (torch.float32, torch.float64)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled(x.device.type)
        and torch._C._functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
        and not _has_global_hooks()
        and all(_is_stock_tree(module, x.dtype) for module in modules)
    )


def _is_stock_tree(module: nn.Module, dtype: torch.dtype) -> bool:
    """Whether a module and its submodules are stock, with all parameters, in one dtype."""
    # Called for each block at each step: plain loops over dictionaries, a microsecond a module.
    state = module.__dict__
    if obstacle(module) is not None:
        return False
    for parameter in state['_parameters'].values():
        if parameter is None or parameter.dtype is not dtype:
            return False
    if isinstance(module, _BatchNorm) and not _can_recompute(module, dtype):
        return False
    for child in state['_modules'].values():
        if child is not None and not _is_stock_tree(child, dtype):
            return False
    return True


def _can_recompute(norm: _BatchNorm, dtype: torch.dtype) -> bool:
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
    """Whether kernels, strides and groups of a `CrossFFN` are those that `__init__` sets."""
    fc1, conv, fc2, norm2 = map(ffn._modules.get, ('fc1', 'dw3x3', 'fc2', 'norm2'))
    return (
        _conv_settings(fc1) == _conv_settings(fc2) == ((1, 1), (1, 1), 1)
        and (conv is None) == (norm2 is None)
        and (conv is None or _conv_settings(conv) == ((3, 3), (1, 1), fc1.out_channels))
    )


def _conv_settings(conv: nn.Module) -> tuple:
    settings = vars(conv).get
    return settings('kernel_size'), settings('stride'), settings('groups')
