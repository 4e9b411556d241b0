"""Operators for what lies between matrix products, with CPU kernels in C.

Each operator, `torch.ops.hrformer_mmpose.NAME`, is registered with PyTorch in two forms: its plain
one (`operator` decorates it in `passes.py`) for every device, and, for CPUs, one in C which goes
over its maps once. The latter takes float32 and is there where `available()` says so; other types,
and machines without kernels, get the plain form. No operator knows gradients.
"""

import ctypes
import functools
import logging
from collections.abc import Callable

import torch
from torch.autograd import forward_ad

from ...layers.window import padding
from . import build
from .build import Unavailable
from .check import Check

_library = torch.library.Library('hrformer_mmpose', 'DEF')


def available() -> bool:
    """Whether this machine has the kernels; the first call may build them, which takes seconds."""
    return _kernels() is not None


def takes(*args) -> bool:
    """Whether the kernels can be called for the tensors among these arguments, here and now."""
    return (
        not torch.is_grad_enabled()
        and all(x.dtype is torch.float32 and x.is_cpu for x in args if isinstance(x, torch.Tensor))
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and forward_ad._current_level < 0  # forward-mode gradients
        and available()
    )


def reason() -> str | None:
    """Why there are no kernels; None where there are."""
    _kernels()
    return _state['reason']


def operator(schema: str, **shapes: str) -> Callable:
    """Make an operator of a function that computes it with PyTorch's operators.

    The function that results calls the kernel where `takes` says so. Elsewhere it is the plain one,
    which PyTorch can differentiate, trace and compile.

    Args:
        schema: arguments and results, as PyTorch writes them. shapes: of its tensors, see `Check`.
    """

    def register(plain: Callable) -> Callable:
        name = plain.__name__
        _library.define(f'{name}{schema}')
        overload = getattr(torch.ops.hrformer_mmpose, name).default
        check, changes = Check(overload._schema, shapes), overload._schema.is_mutable

        def differentiable(keys, *args):
            check.gradients(args)
            return overload.redispatch(keys & torch._C._after_autograd_keyset, *args)

        def run(in_c: Callable | None, *args):
            is_float32 = check(args)
            if changes and not args[0].is_inference():
                torch.autograd.graph.increment_version(args[0])
            if in_c and is_float32 and available() and (args[0].is_contiguous() or not changes):
                return in_c(*(x.contiguous() if isinstance(x, torch.Tensor) else x for x in args))
            return plain(*args)

        _library.impl(name, differentiable, 'Autograd', with_keyset=True)
        _library.impl(name, functools.partial(run, None), 'CompositeExplicitAutograd')
        _library.impl(name, functools.partial(run, globals()[f'_{name}']), 'CPU')

        @functools.wraps(plain)
        def function(*args, **kwargs):
            if takes(*args, *kwargs.values()):
                with torch._C._AutoDispatchBelowAutograd():  # no gradients: past `differentiable`
                    return overload(*args, **kwargs)
            return plain(*args, **kwargs)

        return function

    return register


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


# The forms in C. Tensors are float32, contiguous, and of the sizes that `passes.py` declares.


def _norm_gelu(x, scale=None, offset=None, residual=None):
    out = torch.empty_like(x)
    _call('norm_gelu', (x, scale, offset, residual, out), *_rows(x))
    return out


def _norm_gelu_backward(x, grad, scale, offset, with_act=False):
    slope = torch.empty_like(x)
    act = torch.empty_like(x) if with_act else None
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    _call('norm_gelu_backward', (x, grad, scale, offset, slope, act, sums), *_rows(x))
    return slope, x.new_empty(0) if act is None else act, sums


def _scale_add_(slope, x, abc):
    x, abc = (_apart(y, slope) for y in (x, abc))
    _call('scale_add', (slope, x, *abc), *_rows(x))
    return slope


def _apart(x: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """A tensor, or a copy if `changed` shares memory with it."""
    start, other = x.data_ptr(), changed.data_ptr()
    shared = start < other + changed.nbytes and other < start + x.nbytes
    return x.clone() if shared else x


def _moments(x):
    out = x.new_empty(2, x.shape[-1])
    _call('moments', (x, out), *_rows(x))
    return out


def _layer_norm(x, gamma, beta, eps):
    out, statistics = torch.empty_like(x), x.new_empty(2, *x.shape[:-1])
    _call('layer_norm', (x, gamma, beta, out, statistics), eps, *_rows(x))
    return out, statistics


def _layer_norm_backward(x, statistics, gamma, grad, residual):
    out = torch.empty_like(x)
    sums = x.new_empty(2, x.shape[-1], dtype=torch.float64)
    _call('layer_norm_backward', (x, statistics, gamma, grad, residual, out, sums), *_rows(x))
    return out, sums


def _gelu_conv(x, scale, offset, kernel, shift):
    out, statistics = torch.empty_like(x), x.new_empty(2, x.shape[-1])
    _call('gelu_conv', (x, scale, offset, kernel, shift, out, statistics), *x.shape)
    return out, statistics


def _gelu_conv_gelu(x, kernel, shift):
    out = torch.empty_like(x)
    _call('gelu_conv', (x, None, None, kernel, shift, out, None), *x.shape)
    return out


def _gelu_conv_backward(x, scale, offset, z, slope, abc, kernel):
    out = torch.empty_like(x)
    sums = x.new_empty(11, x.shape[-1], dtype=torch.float64)
    _call('gelu_conv_backward', (x, scale, offset, z, slope, abc, kernel, out, sums), *x.shape)
    return out, sums


def _window_attention(qkv, shift, bias, heads, window):
    out = qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)
    _call('window_attention', (qkv, shift, bias, out), *_window_sizes(out, heads, window))
    return out


def _window_attention_backward(qkv, shift, bias, grad, heads, window):
    grads = [None if x is None else torch.empty_like(x) for x in (qkv, shift, bias)]
    sizes = _window_sizes(grad, heads, window)
    _call('window_attention_backward', (qkv, shift, bias, grad, *grads), *sizes)
    return tuple(grads)


def _window_sizes(x: torch.Tensor, heads: int, window: list[int]) -> tuple[int, ...]:
    B, H, W, C = x.shape
    before = [padding(size, k)[0] for size, k in zip((H, W), window, strict=True)]
    return (B, H, W, heads, C // heads, *window, *before)
