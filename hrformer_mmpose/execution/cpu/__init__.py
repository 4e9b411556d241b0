"""C kernels of the fused operators on CPUs, in float32; other types are converted.

`fused_ops` registers each function here that has the name of an operator under PyTorch's CPU key.
Tensors are contiguous, and their sizes are checked before.
"""

# ruff: noqa: D103 (kernels: see the operators in `fused_ops/`)
import ctypes
import functools
import logging
from collections.abc import Callable

import torch

from ...layers.window import padding
from ..bn_arithmetic import fold, gradients
from . import build
from .build import Unavailable

DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16))


def available(name: str | None = None) -> bool:
    """Return whether this machine has the kernels; the first call may build them (seconds).

    Args:
        name: operator; all kernels are built together.
    """
    return _library() is not None


def reason() -> str | None:
    """Return why there are no kernels, or None if there are."""
    _library()
    return _state['reason']


_CTYPES = {int: ctypes.c_int64, float: ctypes.c_double}
_state: dict[str, str | None] = {'reason': None}


@functools.cache
def _library() -> ctypes.CDLL | None:
    logger = logging.getLogger(__name__)
    try:
        library, message = build.load()
    except Unavailable as error:
        _state['reason'] = str(error)
        logger.warning('no CPU kernels of our own, PyTorch does their work: %s', error)
        return None
    if message:
        logger.warning(message)
    return library


def _call(name: str, tensors: tuple, *numbers: int | float) -> None:
    function = getattr(_library(), name)
    if function.argtypes is None:
        types = [_CTYPES[type(number)] for number in numbers]
        function.argtypes = [ctypes.c_void_p] * len(tensors) + types + [ctypes.c_int]
    pointers = [None if x is None else x.data_ptr() for x in tensors]
    if function(*pointers, *numbers, torch.get_num_threads()):
        raise MemoryError(f'{name}: out of memory for its buffers')


def _in_float32(*activations: int) -> Callable:
    """Decorate a kernel to convert float16 and bfloat16 arguments, and its results back.

    Args:
        activations: positions of the results that have the type of the first argument.
    """

    def decorate(kernel: Callable) -> Callable:
        @functools.wraps(kernel)
        def converting(x: torch.Tensor, *args):
            if x.dtype is torch.float32:
                return kernel(x, *args)
            args = [y.float() if isinstance(y, torch.Tensor) else y for y in args]
            results = kernel(x.float(), *args)
            if isinstance(results, torch.Tensor):
                return results.to(x.dtype) if activations else results
            return tuple(y.to(x.dtype) if i in activations else y for i, y in enumerate(results))

        return converting

    return decorate


def _count(x: torch.Tensor) -> int:
    return x.numel() // x.shape[-1]


def _tokens_and_channels(x: torch.Tensor) -> tuple[int, int]:
    return _count(x), x.shape[-1]


@_in_float32(0)
def bn_gelu(x, scale=None, offset=None, residual=None):
    out = torch.empty_like(x)
    _call('bn_gelu', (x, scale, offset, residual, out), *_tokens_and_channels(x))
    return out


def bn_gelu_backward(x, grad, norm, of_batch, with_act=False):
    grad_pre_act, act, sums = _bn_gelu_backward(x, grad, norm, with_act)
    return grad_pre_act, act, sums, gradients(sums, norm, of_batch and _count(x))


@_in_float32(0, 1)
def _bn_gelu_backward(x, grad, norm, with_act):
    grad_pre_act = torch.empty_like(x)
    act = torch.empty_like(x) if with_act else None
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    tensors = x, grad, *norm[:2], grad_pre_act, act, sums
    _call('bn_gelu_backward', tensors, *_tokens_and_channels(x))
    return grad_pre_act, x.new_empty(0) if act is None else act, sums


def bn_backward_(grad, x, bn_grad_coeffs):
    if grad.dtype is not torch.float32:
        return grad.copy_(bn_backward_(grad.float(), x.float(), bn_grad_coeffs.float()))
    x, coeffs = (_without_overlap(y, grad) for y in (x, bn_grad_coeffs))
    _call('bn_backward', (grad, x, *coeffs), *_tokens_and_channels(x))
    return grad


def _without_overlap(x: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Copy a tensor if it shares memory with `written`."""
    start, other = x.data_ptr(), written.data_ptr()
    overlaps = start < other + written.nbytes and other < start + x.nbytes
    return x.clone() if overlaps else x


def bn_statistics(x, *norm):
    return fold(*_moments(x), *norm, _count(x))


@_in_float32()
def _moments(x):
    out = x.new_empty(2, x.shape[-1])
    _call('moments', (x, out), *_tokens_and_channels(x))
    return out


@_in_float32(0)
def layer_norm(x, gamma, beta, eps):
    out, mean_and_rstd = torch.empty_like(x), x.new_empty(2, *x.shape[:-1])
    _call('layer_norm', (x, gamma, beta, out, mean_and_rstd), eps, *_tokens_and_channels(x))
    return out, mean_and_rstd


@_in_float32(0)
def layer_norm_backward(x, mean_and_rstd, gamma, grad, residual):
    out = torch.empty_like(x)
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    tensors = x, mean_and_rstd, gamma, grad, residual, out, sums
    _call('layer_norm_backward', tensors, *_tokens_and_channels(x))
    return out, sums.float()


def gelu_dwconv(x, scale, offset, conv_weight, conv_bias, *norm):
    out, moments = _gelu_dwconv(x, scale, offset, conv_weight, conv_bias)
    return out, fold(*moments, *norm, _count(x))


@_in_float32(0)
def _gelu_dwconv(x, scale, offset, conv_weight, conv_bias):
    out, moments = torch.empty_like(x), x.new_empty(2, x.shape[-1])
    _call('gelu_dwconv', (x, scale, offset, conv_weight, conv_bias, out, moments), *x.shape)
    return out, moments


@_in_float32(0)
def gelu_dwconv_gelu(x, conv_weight, conv_bias):
    out = torch.empty_like(x)
    _call('gelu_dwconv', (x, None, None, conv_weight, conv_bias, out, None), *x.shape)
    return out


def gelu_dwconv_backward(x, norm, *args):
    *tensors, of_batch = args
    out, grad_conv_weight, sums = _gelu_dwconv_backward(x, norm, *tensors)
    return out, grad_conv_weight, sums, gradients(sums, norm, of_batch and _count(x))


@_in_float32(0)
def _gelu_dwconv_backward(x, norm, conv_out, grad_pre_act, bn_grad_coeffs, conv_weight):
    out = torch.empty_like(x)
    sums = x.new_empty(11, x.shape[-1], dtype=torch.float64)
    tensors = x, *norm[:2], conv_out, grad_pre_act, bn_grad_coeffs, conv_weight, out, sums
    _call('gelu_dwconv_backward', tensors, *x.shape)
    return out, sums[:9].t().float().contiguous(), sums[9:]


@_in_float32(0)
def window_attention(qkv, qkv_bias, rel_pos_bias, num_heads, window):
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    sizes = _window_sizes(out, num_heads, window)
    _call('window_attention', (qkv, qkv_bias, rel_pos_bias, out), *sizes)
    return out


@_in_float32(0)
def window_attention_backward(qkv, qkv_bias, rel_pos_bias, grad, num_heads, window):
    inputs = qkv, qkv_bias, rel_pos_bias
    grads = [None if x is None else torch.empty_like(x) for x in inputs]
    sizes = _window_sizes(grad, num_heads, window)
    _call('window_attention_backward', (*inputs, grad, *grads), *sizes)
    return tuple(grads)


def _window_sizes(x: torch.Tensor, num_heads: int, window: list[int]) -> tuple[int, ...]:
    B, H, W, C = x.shape
    pad_top_left = [padding(size, k)[0] for size, k in zip((H, W), window, strict=True)]
    return (B, H, W, num_heads, C // num_heads, *window, *pad_top_left)
