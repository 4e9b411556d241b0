"""Tensors and NumPy arrays of a pickle, each checked against the size of its data."""

import math
import pickle
import re
from typing import Any, NamedTuple

import numpy as np
import torch


class UnsupportedError(pickle.UnpicklingError):
    """A tensor of a kind that is not used for weights (sparse, quantised, meta, ...)."""


class Storage(NamedTuple):
    """Bytes of a tensor and their type."""

    data: torch.UntypedStorage
    dtype: torch.dtype


class StorageType(NamedTuple):
    """A storage class in the file."""

    dtype: torch.dtype


_STORAGES = {
    'Double': torch.float64,
    'Float': torch.float32,
    'Half': torch.float16,
    'BFloat16': torch.bfloat16,
    'Long': torch.int64,
    'Int': torch.int32,
    'Short': torch.int16,
    'Char': torch.int8,
    'Byte': torch.uint8,
    'Untyped': torch.uint8,
    'Bool': torch.bool,
    'ComplexFloat': torch.complex64,
    'ComplexDouble': torch.complex128,
}
_UNSUPPORTED = (
    (r'torch\._utils\._rebuild_sparse\w*|torch\.serialization\._get_layout', 'a sparse tensor'),
    (r'torch\._utils\._rebuild_qtensor|torch\.(storage\.)?QU?Int\w+Storage', 'a quantised tensor'),
    (r'torch\.(qu?int\d\w*|per_(tensor|channel)_\w+)', 'a quantised tensor'),
    (r'torch\._utils\._rebuild_meta\w*', 'a tensor without data (device meta)'),
    (r'torch\._utils\._rebuild_nested\w*', 'a nested tensor'),
    (r'torch\._utils\._rebuild_wrapper\w*', 'a tensor subclass'),
)


def dtype_named(name: str) -> torch.dtype | StorageType | None:
    """Return the dtype or storage class of a name in the file; None for other names.

    Raises:
        UnsupportedError: it is one of tensors that weights never are.
    """
    for pattern, what in _UNSUPPORTED:
        if re.fullmatch(pattern, name):
            raise UnsupportedError(what)
    if match := re.fullmatch(r'torch\.(?:storage\.)?(\w+)Storage', name):
        dtype = _STORAGES.get(match[1])
        return dtype and StorageType(dtype)
    dtype = getattr(torch, name.removeprefix('torch.'), None) if name[:6] == 'torch.' else None
    return dtype if isinstance(dtype, torch.dtype) else None


def _tensor(
    reader: Any,
    storage: Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *_: Any,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Build a view of a storage within its bounds."""
    dtype = dtype or storage.dtype
    numbers = (offset, *size, *stride)
    if any(type(n) is not int or n < 0 for n in numbers) or len(size) != len(stride):
        raise pickle.UnpicklingError('sizes or strides of a tensor')
    count, held = math.prod(size), storage.data.nbytes() // dtype.itemsize
    reach = 1 + offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if max(numbers) >= 2**48 or count > held or (count and reach > held):
        raise pickle.UnpicklingError(f'a tensor of {count:,} numbers, with {held:,} in the file')
    reader.spend(count * dtype.itemsize)
    if storage.data.device.type == 'meta':
        return torch.empty_strided(size, stride, dtype=dtype, device='meta')
    return torch.empty(0, dtype=dtype).set_(storage.data, offset, size, stride)


def _tensor_of_type(
    reader: Any,
    storage: Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    hooks: Any,
    dtype: torch.dtype,
    *_: Any,
) -> torch.Tensor:
    return _tensor(reader, storage, offset, size, stride, dtype=dtype)


class NumpyType:
    """NumPy dtype as described in the file, built when an array needs it."""

    _PATTERN = re.compile(r'[<>|=]?(b1|[iu][1248]|f[248]|[US][1-9]\d{0,5})')

    def __init__(self, text: Any):
        if type(text) is not str or not self._PATTERN.fullmatch(text):
            raise pickle.UnpicklingError('a NumPy type that is no number or text')
        self.text = text

    def set_state(self, state: Any) -> None:
        """Set the byte order; the rest of the state describes records, which are refused."""
        if type(state) is not tuple or state[1] not in ('<', '>', '|', '=') or any(state[2:5]):
            raise pickle.UnpicklingError('a NumPy type of several fields')
        self.text = state[1] + self.text.lstrip('<>|=')

    def __call__(self) -> np.dtype:
        """Build the dtype."""
        return np.dtype(self.text)


def _numpy_type(_: Any, text: Any, *__: Any) -> NumpyType:
    return NumpyType(text)


def _scalar(reader: Any, dtype: NumpyType, data: Any) -> np.generic:
    return np.ndarray((), dtype(), _content(reader, (), dtype, data))[()]


def _empty(*_: Any) -> np.ndarray:
    """Build an empty array; `set_state` fills it."""
    return np.empty(0, np.int8)


def _from_buffer(reader: Any, data: Any, dtype: NumpyType, shape: tuple, order: str) -> np.ndarray:
    """Build an array of pickle protocol 5."""
    order = 'F' if order == 'F' else 'C'
    return np.ndarray(shape, dtype(), _content(reader, shape, dtype, data), order=order).copy(order)


def set_state(reader: Any, array: np.ndarray, state: Any) -> None:
    """Set shape, dtype and content of an array."""
    _, shape, dtype, is_fortran, data = state
    content = _content(reader, shape, dtype, data)
    array.__setstate__((1, shape, dtype(), is_fortran is True, content))


def _content(reader: Any, shape: Any, dtype: Any, data: Any) -> bytes:
    """Return the bytes of an array; refuse any other size."""
    if type(data) is str:  # of Python 2
        data = data.encode('latin1')
    elif type(data) is bytearray:  # of protocol 5
        data = bytes(data)
    if not isinstance(dtype, NumpyType) or type(data) is not bytes:
        raise pickle.UnpicklingError('an array of objects')
    if type(shape) is not tuple or any(type(n) is not int or not 0 <= n < 2**48 for n in shape):
        raise pickle.UnpicklingError('the shape of an array')
    if math.prod(shape) * dtype().itemsize != len(data):
        raise pickle.UnpicklingError(f'an array of another size than its {len(data):,} bytes')
    reader.spend(len(data))
    return data


BUILDERS = {
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_type,
    'numpy.ndarray': _empty,
    'numpy.dtype': _numpy_type,
    # NumPy 1 and 2 write different module names.
    'numpy.core.multiarray._reconstruct': _empty,
    'numpy._core.multiarray._reconstruct': _empty,
    'numpy.core.numeric._frombuffer': _from_buffer,
    'numpy._core.numeric._frombuffer': _from_buffer,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
}
