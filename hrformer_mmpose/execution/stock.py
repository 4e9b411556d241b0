"""Stock modules: the layers whose weights a fast path may read without calling the module.

A fast path gives the plain path's results for stock modules only: hooks, parametrizations, adapters
and replaced or subclassed layers act on the call of a module.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
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
    layers.SyncBatchNorm,
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
_TENSORS = frozenset((torch.Tensor, nn.Parameter, type(None)))


def stock(cls: _Class) -> _Class:
    """Register a class, not its subclasses, whose instances fast paths may bypass.

    Conditions on the instances of a stock base class hold for its own.
    """
    _FORWARDS[cls] = cls.forward
    if check := next((_CHECKS[base] for base in cls.__mro__ if base in _CHECKS), None):
        _CHECKS[cls] = check
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


def is_stock_tree(module: nn.Module, dtype: torch.dtype) -> bool:
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
        if child is not None and not is_stock_tree(child, dtype):
            return False
    return True


def _has_stock_statistics(norm: _BatchNorm, dtype: torch.dtype) -> bool:
    mean = norm.running_mean
    return mean is None or mean.dtype is dtype


def has_global_hooks() -> bool:
    """Return whether hooks are registered for all modules."""
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
