"""CPU kernels for what lies between matrix products (written in C), as PyTorch operators.

Each operator, `torch.ops.hrformer_mmpose.NAME`, does in one pass over its maps what
`passes.NAME_plain` does in several; that module decides which of the two is called. They take
float32 on a CPU, know no gradients, and are there where `available()` says so.
"""

import ctypes
import functools
import logging

import torch

from . import build
from .build import Unavailable

_SCHEMAS = """
norm_gelu(Tensor x, Tensor? scale, Tensor? offset, Tensor? residual) -> Tensor
norm_gelu_backward(Tensor x, Tensor grad, Tensor scale, Tensor offset, bool with_act) -> (Tensor, Tensor, Tensor)
scale_add_(Tensor(a!) slope, Tensor x, Tensor abc) -> Tensor(a!)
moments(Tensor x) -> Tensor
layer_norm(Tensor x, Tensor gamma, Tensor beta, float eps) -> (Tensor, Tensor)
layer_norm_backward(Tensor x, Tensor statistics, Tensor gamma, Tensor grad, Tensor residual) -> (Tensor, Tensor)
gelu_conv(Tensor x, Tensor scale, Tensor offset, Tensor kernel, Tensor shift) -> (Tensor, Tensor)
gelu_conv_gelu(Tensor x, Tensor kernel, Tensor shift) -> Tensor
gelu_conv_backward(Tensor x, Tensor scale, Tensor offset, Tensor z, Tensor slope, Tensor abc, Tensor kernel) -> (Tensor, Tensor)
window_attention(Tensor qkv, Tensor shift, Tensor? bias, int heads, int[2] window, int[2] before) -> Tensor
window_attention_backward(Tensor qkv, Tensor shift, Tensor? bias, Tensor grad, int heads, int[2] window, int[2] before) -> (Tensor, Tensor, Tensor)
"""  # noqa: E501
_library = torch.library.Library('hrformer_mmpose', 'DEF')


def available() -> bool:
    """Whether this machine has the kernels; the first call may build them, which takes seconds."""
    return _kernels() is not None


def takes(*tensors: torch.Tensor | None) -> bool:
    """Whether the kernels can be called for these tensors, here and now."""
    return (
        all(x is None or (x.dtype is torch.float32 and x.device.type == 'cpu') for x in tensors)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and available()
    )


def reason() -> str | None:
    """Why there are no kernels; None where there are."""
    _kernels()
    return _state['reason']


_NUMBERS = {int: ctypes.c_int64, float: ctypes.c_double}
_state: dict[str, str | None] = {'reason': None}


@functools.cache
def _kernels() -> ctypes.CDLL | None:
    logger = logging.getLogger(__name__)
    try:
        kernels, news = build.load()
    except Unavailable as error:
        _state['reason'] = str(error)
        logger.warning('no CPU kernels of our own, PyTorch does their work: %s', error)
        return None
    if news:
        logger.warning(news)
    return kernels


def _call(name: str, tensors: tuple, *numbers: int | float) -> None:
    function = getattr(_kernels(), name)
    if function.argtypes is None:
        sizes = [_NUMBERS[type(number)] for number in numbers]
        function.argtypes = [ctypes.c_void_p] * len(tensors) + sizes + [ctypes.c_int]
    pointers = [None if x is None else x.data_ptr() for x in tensors]
    if function(*pointers, *numbers, torch.get_num_threads()):
        raise MemoryError(f'{name}: no memory for its rows')


def _rows(x: torch.Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


def _norm_gelu(x, scale, offset, residual):
    x = x.contiguous()
    residual = None if residual is None else residual.contiguous()
    out = torch.empty_like(x)
    _call('norm_gelu', (x, scale, offset, residual, out), *_rows(x))
    return out


def _norm_gelu_backward(x, grad, scale, offset, with_act):
    x, grad = x.contiguous(), grad.contiguous()
    slope = torch.empty_like(x)
    act = torch.empty_like(x) if with_act else None
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    _call('norm_gelu_backward', (x, grad, scale, offset, slope, act, sums), *_rows(x))
    return slope, x.new_empty(0) if act is None else act, sums


def _scale_add_(slope, x, abc):
    _call('scale_add', (slope, x.contiguous(), *abc), *_rows(x))
    return slope


def _moments(x):
    out = x.new_empty(2, x.shape[-1])
    _call('moments', (x.contiguous(), out), *_rows(x))
    return out


def _layer_norm(x, gamma, beta, eps):
    out, statistics = torch.empty_like(x), x.new_empty(2, *x.shape[:-1])
    _call('layer_norm', (x, gamma, beta, out, statistics), eps, *_rows(x))
    return out, statistics


def _layer_norm_backward(x, statistics, gamma, grad, residual):
    out = torch.empty_like(x)
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    tensors = (x, statistics, gamma, grad.contiguous(), residual.contiguous(), out, sums)
    _call('layer_norm_backward', tensors, *_rows(x))
    return out, sums


def _gelu_conv(x, scale, offset, kernel, shift):
    x = x.contiguous()
    out, statistics = torch.empty_like(x), x.new_empty(2, x.shape[-1])
    _call('gelu_conv', (x, scale, offset, kernel, shift, out, statistics), *x.shape)
    return out, statistics


def _gelu_conv_gelu(x, kernel, shift):
    x = x.contiguous()
    out = torch.empty_like(x)
    _call('gelu_conv', (x, None, None, kernel, shift, out, None), *x.shape)
    return out


def _gelu_conv_backward(x, scale, offset, z, slope, abc, kernel):
    out = torch.empty_like(x)
    sums = x.new_empty(11, x.shape[-1], dtype=torch.float64)
    _call('gelu_conv_backward', (x, scale, offset, z, slope, abc, kernel, out, sums), *x.shape)
    return out, sums


def _window_attention(qkv, shift, bias, heads, window, before):
    B, H, W, C = *qkv.shape[:3], qkv.shape[3] // 3
    out = qkv.new_empty(B, H, W, C)
    sizes = (B, H, W, heads, C // heads, *window, *before)
    _call('window_attention', (qkv, shift, bias, out), *sizes)
    return out


def _window_attention_backward(qkv, shift, bias, grad, heads, window, before):
    B, H, W, C = grad.shape
    grad = grad.contiguous()
    grads = torch.empty_like(qkv), torch.empty_like(shift)
    grad_bias = None if bias is None else torch.empty_like(bias)
    sizes = (B, H, W, heads, C // heads, *window, *before)
    _call('window_attention_backward', (qkv, shift, bias, grad, *grads, grad_bias), *sizes)
    return *grads, qkv.new_empty(0) if grad_bias is None else grad_bias


for _schema in _SCHEMAS.strip().splitlines():
    _library.define(_schema)
    _name = _schema.partition('(')[0]
    _library.impl(_name, globals()[f'_{_name}'], 'CPU')
