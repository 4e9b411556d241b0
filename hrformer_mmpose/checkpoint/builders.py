"""Builders for the names in a pickle: plain records without behaviour.

Each takes the unpickler, which counts what is built, and the arguments that the file gives.
"""

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from . import arrays

ENTRY = 200  # bytes that an entry of a dict takes


class History:
    """Stored state of MMEngine's `HistoryBuffer`: `_log_history`, `_count_history`, ..."""


class Settings(dict):
    """Stored state of a settings object (yacs' CfgNode, argparse's Namespace)."""


class Name(NamedTuple):
    """Name in the file, and the function that builds the result of calling it."""

    name: str
    build: Callable[..., Any]


_SCALARS = (str, bytes, bool, int, float, type(None), torch.dtype)


def checked_key(key: Any) -> Any:
    """Refuse keys that are slow to hash: nested tuples, and many that collide."""
    for part in key if type(key) is tuple and len(key) <= 3 else (key,):
        if type(part) not in _SCALARS or (type(part) is int and part.bit_length() > 64):
            raise pickle.UnpicklingError(f'a {type(key).__name__} as key')
    return key


def nothing(*_: Any) -> None:
    """Replace `getattr`, which a HistoryBuffer uses to refer to its methods."""


def _first(_: Any, value: Any, *__: Any) -> Any:
    """Read a parameter as its tensor."""
    return value


def _from_type(reader: Any, function: Name, _: Any, arguments: tuple, *__: Any) -> Any:
    """Read a tensor without its attributes."""
    return function.build(reader, *arguments)


def _encode(reader: Any, text: str, encoding: str = 'latin1') -> bytes:
    """Replace `_codecs.encode`, which Python 3 uses to pickle bytes in protocol 2."""
    if type(text) is not str or encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError('bytes of another codec than latin1')
    reader.spend(len(text))
    return text.encode('latin1')


def _collection(make: Callable[[Any], Any], *kinds: type) -> Callable[..., Any]:
    def build(reader: Any, items: Any = None) -> Any:
        if items is None:
            return make(())
        if type(items) not in kinds:
            raise pickle.UnpicklingError(f'a collection of {type(items).__name__}')
        reader.spend(ENTRY * len(items))
        return make(items)

    return build


def _ordered(items: Any) -> OrderedDict:
    return OrderedDict((checked_key(key), value) for key, value in items)


def _set(items: Any) -> set:
    return {checked_key(item) for item in items}


_BUILDERS: dict[str, Callable[..., Any]] = {
    'mmengine.logging.history_buffer.HistoryBuffer': lambda _: History(),
    'yacs.config.CfgNode': lambda _: Settings(),
    'argparse.Namespace': lambda _: Settings(),
    'builtins.getattr': nothing,
    'builtins.set': _collection(_set, list),
    'builtins.bytearray': lambda reader, *text: bytearray(_encode(reader, *text) if text else b''),
    'builtins.complex': lambda _, real, imag: complex(float(real), float(imag)),
    'collections.OrderedDict': _collection(_ordered, list),
    'collections.Counter': _collection(Counter, dict),  # milestones of a schedule
    '_codecs.encode': _encode,
    'torch.Size': _collection(torch.Size, tuple),
    'torch.device': lambda _, *arguments: torch.device(*arguments),
    'torch.Tensor': _first,
    'torch.nn.parameter.Parameter': _first,
    'torch._utils._rebuild_parameter': _first,
    'torch._utils._rebuild_parameter_with_state': _first,
    'torch._tensor._rebuild_from_type_v2': _from_type,
    **arrays.BUILDERS,
}
NAMES: dict[str, Any] = {name: Name(name, build) for name, build in _BUILDERS.items()}
