"""C kernels of the fused operators on CPUs, for maps in float32 and bfloat16.

`fused_ops` registers each function here that has the name of an operator under PyTorch's CPU key.
Tensors are contiguous, and their sizes are checked before. Maps in float16 are converted.
Parameters, arithmetic and statistics of a kernel are float32.
"""

# ruff: noqa: D103 (kernels: see the operators in `fused_ops/`)
import ctypes
import functools
import inspect
import logging
from collections.abc import Callable

import torch

from ...layers.window import padding
from ..bn_arithmetic import fold, gradients
from ..tensors import tokens_and_channels, without_overlap
from . import build
from .build import Unavailable

DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16))


# Compiler arguments for the library of each type; float16 is converted to float32.
_DEFINES = {torch.bfloat16: ('-DBFLOAT16',)}
# Kernels that multiply in bfloat16 by AMX, and the only type of maps that each takes.
_BY_TILES = {
    'norm_attention': torch.bfloat16,
    'finish_block': torch.bfloat16,
    'conv3x3': torch.float32,
}
_MAPS = frozenset(
    ('x', 'grad', 'residual', 'conv_out', 'grad_pre_act', 'qkv', 'map_1', 'map_2', 'map_3')
)


def available(name: str | None = None, dtype: torch.dtype | None = None) -> bool:
    """Return whether this machine has the kernels; the first call may build them (seconds).

    Args:
        name: operator; all kernels of a type are built together, but some need AMX.
        dtype: type of the maps, one of `DTYPES`; float32 by default.
    """
    if name in _BY_TILES:
        library = _library(torch.bfloat16) if dtype is _BY_TILES[name] else None
        return library is not None and bool(library.has_tiles())
    return _library(dtype) is not None


def reason(dtype: torch.dtype | None = None) -> str | None:
    """Return why there are no kernels for a type, or None if there are."""
    _library(dtype)
    return _reasons.get(_defines(dtype))


_CTYPES = {int: ctypes.c_int64, float: ctypes.c_double}
_reasons: dict[tuple[str, ...], str] = {}


def _defines(dtype: torch.dtype | None) -> tuple[str, ...]:
    return _DEFINES.get(dtype, ())


def _library(dtype: torch.dtype | None = None) -> ctypes.CDLL | None:
    return _load(_defines(dtype))


@functools.cache
def _load(defines: tuple[str, ...]) -> ctypes.CDLL | None:
    logger = logging.getLogger(__name__)
    try:
        library, message = build.load(*defines)
    except Unavailable as error:
        if str(error) not in _reasons.values():  # once for all types
            logger.warning('no CPU kernels of our own, PyTorch does their work: %s', error)
        _reasons[defines] = str(error)
        return None
    if message:
        logger.warning(message)
    return library


def _call(name: str, tensors: tuple, *numbers: int | float) -> None:
    """Call a kernel of the library for the type of the first tensor, a map."""
    dtype = torch.bfloat16 if name in _BY_TILES else tensors[0].dtype
    function = getattr(_library(dtype), name)
    if function.argtypes is None:
        types = [_CTYPES[type(number)] for number in numbers]
        function.argtypes = [ctypes.c_void_p] * len(tensors) + types + [ctypes.c_int]
    pointers = [None if x is None else x.data_ptr() for x in tensors]
    if function(*pointers, *numbers, torch.get_num_threads()):
        raise MemoryError(f'{name}: out of memory for its buffers')


def _with_float32_parameters(*maps: int) -> Callable:
    """Decorate a kernel to convert parameters to float32, and maps in float16 to float32 and back.

    Args:
        maps: positions of the results that have the type of the first argument.
    """

    def decorate(kernel: Callable) -> Callable:
        names = [*inspect.signature(kernel).parameters]

        @functools.wraps(kernel)
        def converting(x: torch.Tensor, *args):
            if x.dtype is torch.float32:
                return kernel(x, *args)
            is_half = x.dtype is torch.float16
            args = [
                y.float() if isinstance(y, torch.Tensor) and (is_half or name not in _MAPS) else y
                for name, y in zip(names[1:], args, strict=False)
            ]
            if not is_half:
                return kernel(x, *args)
            results = kernel(x.float(), *args)
            if isinstance(results, torch.Tensor):
                return results.to(x.dtype) if maps else results
            return tuple(y.to(x.dtype) if i in maps else y for i, y in enumerate(results))

        return converting

    return decorate


def _float32(x: torch.Tensor, *shape: int) -> torch.Tensor:
    return x.new_empty(shape, dtype=torch.float32)


def _kernel_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which the kernels compute maps of a type."""
    return torch.float32 if dtype is torch.float16 else dtype


def _count(x: torch.Tensor) -> int:
    return x.numel() // x.shape[-1]


@_with_float32_parameters(0)
def bn_gelu(x, scale=None, offset=None, residual=None):
    out = torch.empty_like(x)
    _call('bn_gelu', (x, scale, offset, residual, out), *tokens_and_channels(x))
    return out


def bn_gelu_backward(x, grad, norm, of_batch, with_act=False):
    grad_pre_act, act, sums = _bn_gelu_backward(x, grad, norm, with_act)
    return grad_pre_act, act, sums, gradients(sums, norm, of_batch and _count(x))


@_with_float32_parameters(0, 1)
def _bn_gelu_backward(x, grad, norm, with_act):
    grad_pre_act = torch.empty_like(x)
    act = torch.empty_like(x) if with_act else None
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    tensors = x, grad, *norm[:2], grad_pre_act, act, sums
    _call('bn_gelu_backward', tensors, *tokens_and_channels(x))
    return grad_pre_act, x.new_empty(0) if act is None else act, sums


def bn_backward_(grad, x, bn_grad_coeffs):
    if grad.dtype is torch.float16:
        return grad.copy_(bn_backward_(grad.float(), x.float(), bn_grad_coeffs))
    x, coeffs = (without_overlap(y, grad) for y in (x, bn_grad_coeffs.float()))
    _call('bn_backward', (grad, x, *coeffs), *tokens_and_channels(x))
    return grad


def bn_statistics(x, *norm):
    return fold(*_moments(x), *norm, _count(x))


@_with_float32_parameters()
def _moments(x):
    out = _float32(x, 2, x.shape[-1])
    _call('moments', (x, out), *tokens_and_channels(x))
    return out


@_with_float32_parameters(0)
def layer_norm(x, gamma, beta, eps):
    out, mean_and_rstd = torch.empty_like(x), _float32(x, 2, *x.shape[:-1])
    _call('layer_norm', (x, gamma, beta, out, mean_and_rstd), eps, *tokens_and_channels(x))
    return out, mean_and_rstd


@_with_float32_parameters(0)
def layer_norm_backward(x, mean_and_rstd, gamma, grad, residual):
    out = torch.empty_like(x)
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    tensors = x, mean_and_rstd, gamma, grad, residual, out, sums
    _call('layer_norm_backward', tensors, *tokens_and_channels(x))
    return out, sums.float()


def norm_stream(stream, gamma, beta, eps, dtype):
    return _add_layer_norm(stream, None, gamma, beta, eps, dtype)[1]


def add_norm_stream(stream, branch, gamma, beta, eps):
    return _add_layer_norm(stream, branch, gamma, beta, eps, branch.dtype)


def _add_layer_norm(stream, branch, gamma, beta, eps, dtype):
    out = torch.empty_like(stream, dtype=_kernel_dtype(dtype))
    total = None
    if branch is not None:
        branch, total = branch.to(out.dtype), torch.empty_like(stream)
    tensors = out, branch, stream, gamma.float(), beta.float(), total
    _call('add_layer_norm', tensors, eps, *tokens_and_channels(stream))
    return total, out.to(dtype)


def add_gelu_stream(stream, branch):
    branch, total = branch.to(_kernel_dtype(branch.dtype)), torch.empty_like(stream)
    _call('add_gelu', (branch, stream, total), stream.numel())
    return total


def norm_attention(
    stream, gamma, beta, eps, qkv_weight, qkv_bias, rel_pos_bias, num_heads, window, dtype
):
    out = torch.empty_like(stream, dtype=dtype)
    rel_pos_bias = None if rel_pos_bias is None else rel_pos_bias.float()
    parameters = qkv_weight.to(dtype), qkv_bias.float(), rel_pos_bias
    tensors = *parameters, stream, gamma.float(), beta.float(), out
    _call('norm_attention', tensors, eps, *_window_sizes(out, num_heads, window))
    return out


def finish_block(stream, attention, proj_weight, proj_bias, gamma, beta, eps, *ffn):
    fc1_weight, fc1_bias, conv_weight, conv_bias, fc2_weight, fc2_bias = ffn
    proj_weight, fc1_weight, fc2_weight = (
        x.to(attention.dtype) for x in (proj_weight, fc1_weight, fc2_weight)
    )
    proj_bias, gamma, beta, fc1_bias, conv_weight, conv_bias, fc2_bias = (
        x.float() for x in (proj_bias, gamma, beta, fc1_bias, conv_weight, conv_bias, fc2_bias)
    )
    out = torch.empty_like(stream)
    tensors = (
        attention, stream, proj_weight, proj_bias, gamma, beta, fc1_weight, fc1_bias, conv_weight,
        conv_bias, fc2_weight, fc2_bias, out,
    )  # fmt: skip
    _call('finish_block', tensors, eps, *stream.shape, len(fc1_bias))
    return out


def conv3x3(x, weight, bias, stride, relu):
    B, H, W, C = x.shape
    out = x.new_empty(B, -(-H // stride), -(-W // stride), len(bias))
    _call('conv3x3', (x, weight, bias.float(), out), B, H, W, C, len(bias), stride, int(relu))
    return out


def gelu_dwconv(x, scale, offset, conv_weight, conv_bias, *norm):
    out, moments = _gelu_dwconv(x, scale, offset, conv_weight, conv_bias)
    return out, fold(*moments, *norm, _count(x))


@_with_float32_parameters(0)
def _gelu_dwconv(x, scale, offset, conv_weight, conv_bias):
    out, moments = torch.empty_like(x), _float32(x, 2, x.shape[-1])
    _call('gelu_dwconv', (x, scale, offset, conv_weight, conv_bias, out, moments), *x.shape)
    return out, moments


@_with_float32_parameters(0)
def gelu_dwconv_gelu(x, conv_weight, conv_bias):
    out = torch.empty_like(x)
    _call('gelu_dwconv', (x, None, None, conv_weight, conv_bias, out, None), *x.shape)
    return out


def gelu_dwconv_backward(x, norm, *args):
    *tensors, of_batch = args
    out, grad_conv_weight, sums = _gelu_dwconv_backward(x, norm, *tensors)
    return out, grad_conv_weight, sums, gradients(sums, norm, of_batch and _count(x))


@_with_float32_parameters(0)
def _gelu_dwconv_backward(x, norm, conv_out, grad_pre_act, bn_grad_coeffs, conv_weight):
    out = torch.empty_like(x)
    sums = x.new_empty(11, x.shape[-1], dtype=torch.float64)
    tensors = x, *norm[:2], conv_out, grad_pre_act, bn_grad_coeffs, conv_weight, out, sums
    _call('gelu_dwconv_backward', tensors, *x.shape)
    return out, sums[:9].t().float().contiguous(), sums[9:]


@_with_float32_parameters(0)
def add_upsampled(x, map_1, map_2, map_3, relu):
    out, maps = torch.empty_like(x), (map_1, map_2, map_3)
    sizes = [n for y in maps for n in ((0, 0) if y is None else y.shape[1:3])]
    _call('add_upsampled', (x, *maps, out), *x.shape, *sizes, int(relu))
    return out


@_with_float32_parameters(0)
def window_attention(qkv, qkv_bias, rel_pos_bias, num_heads, window):
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    sizes = _window_sizes(out, num_heads, window)
    # A padded token's row has the type of the map's.
    _call('window_attention', (qkv, qkv_bias.to(qkv.dtype), rel_pos_bias, out), *sizes)
    return out


@_with_float32_parameters(0)
def window_attention_backward(qkv, qkv_bias, rel_pos_bias, grad, num_heads, window):
    grads = [None if x is None else torch.empty_like(x) for x in (qkv, qkv_bias, rel_pos_bias)]
    sizes = _window_sizes(grad, num_heads, window)
    inputs = qkv, qkv_bias.to(qkv.dtype), rel_pos_bias, grad
    _call('window_attention_backward', (*inputs, *grads), *sizes)
    return tuple(grads)


def _window_sizes(x: torch.Tensor, num_heads: int, window: list[int]) -> tuple[int, ...]:
    B, H, W, C = x.shape
    pad_top_left = [padding(size, k)[0] for size, k in zip((H, W), window, strict=True)]
    return (B, H, W, num_heads, C // num_heads, *window, *pad_top_left)
