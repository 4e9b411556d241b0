"""Triton kernels of the fused operators, for float32, float16 and bfloat16 on CUDA devices.

`fused_ops` registers each function here that has the name of an operator under PyTorch's CUDA key.
Tensors are contiguous, and their sizes are checked before. Maps have one type; parameters have that
or float32. Arithmetic, statistics and sums are float32.

Triton comes with PyTorch's CUDA builds on Linux. It takes a second to import: this happens when the
first kernel is wanted.
"""

# ruff: noqa: D103 (kernels: see the operators in `fused_ops/`)

import functools
import importlib
import logging
from collections.abc import Callable

import torch

from ...errors import first_line

DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16))
_FILES = {
    'bn_gelu': 'pointwise',
    'bn_gelu_backward': 'pointwise',
    'bn_backward_': 'pointwise',
    'bn_statistics': 'pointwise',
    'bn_from_moments': 'batch_norm',
    'bn_total_grads': 'batch_norm',
    'layer_norm': 'norms',
    'layer_norm_backward': 'norms',
    'gelu_dwconv': 'convolution',
    'gelu_dwconv_gelu': 'convolution',
    'gelu_dwconv_backward': 'convolution_backward',
    'window_attention': 'attention',
    'window_attention_backward': 'attention_backward',
}
_HAS_OUT_DTYPE = hasattr(torch.ops.aten.mm, 'dtype')  # since PyTorch 2.8
_ATTENTION = frozenset(('window_attention', 'window_attention_backward'))
_state: dict[str, str | None] = {'reason': None}


def kernels(capability: tuple[int, int]) -> frozenset[str]:
    """Return the operators whose kernels are chosen for a compute capability.

    Before 8.0 Triton computes products without tensor cores, and PyTorch's own attention is the
    better one. Triton does not support GPUs before 7.0.

    Args:
        capability: (major, minor).
    """
    if capability < (7, 0):
        return frozenset()
    chosen = frozenset((*_FILES, 'weight_grad'))
    return chosen - _ATTENTION if capability < (8, 0) else chosen


def available(name: str, dtype: torch.dtype | None = None) -> bool:
    """Return whether the kernel of an operator can run, and is chosen, on the current device.

    The first call on a device compiles a small kernel (seconds).

    Args:
        name: name of the operator.
        dtype: type of the maps; each of `DTYPES` has all kernels.
    """
    return _has_device() and name in _chosen(torch.cuda.current_device())


def reason() -> str | None:
    """Return why there are no kernels, or None if there are."""
    if not _has_device():
        return 'no CUDA device'
    _chosen(torch.cuda.current_device())
    return _state['reason']


@functools.cache
def _has_device() -> bool:
    return torch.cuda.is_available()


@functools.cache
def _chosen(device: int) -> frozenset[str]:
    capability = torch.cuda.get_device_capability(device)
    try:
        _kernels_of('probe').probe(device)
    except Exception as error:
        # Triton raises errors of its own, of its C compiler and of PyTorch.
        _state['reason'] = _one_line(error)
        _warn_once(_state['reason'])
        return frozenset()
    return kernels(capability)


def _one_line(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f'Triton is missing ({error})'
    return f'Triton cannot compile ({type(error).__name__}: {first_line(error)})'


@functools.cache
def _warn_once(reason: str) -> None:
    logger = logging.getLogger(__name__)
    logger.warning('no CUDA kernels of our own, PyTorch does their work: %s', reason)


def _kernels_of(file: str):
    return importlib.import_module(f'.{file}', __name__)


def _launcher(name: str) -> Callable:
    def launch(*args, **kwargs):
        return getattr(_kernels_of(_FILES[name]), name)(*args, **kwargs)

    launch.__name__ = name
    return launch


for _name in _FILES:
    globals()[_name] = _launcher(_name)


def weight_grad(grad, x):
    grad, x = grad.flatten(0, -2).t(), x.flatten(0, -2)
    if grad.dtype is not torch.float32 and _HAS_OUT_DTYPE:
        return torch.mm(grad, x, out_dtype=torch.float32)  # saves a kernel that converts
    return (grad @ x).float()
