"""Errors with a message of one line that states what is wrong and what to do.

The commands print this line without a traceback (see `cli/terminal.py`).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRACEBACK = 'HRFORMER_TRACEBACK'  # environment variable: print tracebacks


class UserError(Exception):
    """Invalid input from the user; `str(error)` is the line to print."""


class ConfigError(UserError, ValueError):
    """Invalid value in a config or as an argument."""


class UnknownArgumentError(UserError, TypeError):
    """Argument that does not exist."""


class DataError(UserError, ValueError):
    """Missing or corrupt data root, annotation file or image."""


class WeightsError(UserError, OSError):
    """Weights that cannot be fetched, read or loaded."""


class DivergenceError(UserError, FloatingPointError):
    """Loss or weights that are no longer finite."""


class DeviceError(UserError, RuntimeError):
    """Device without enough memory or without kernels; tensors on different devices."""


# Messages of PyTorch, its libraries, NumPy and this package's C kernels.
_NO_MEMORY = (
    'out of memory|allocate memory|not enough memory|Unable to allocate|STATUS_ALLOC_FAILED'
)
_NO_KERNELS = 'no kernel image is available'
_TWO_DEVICES = (
    'all tensors to be on the same device'  # operators
    r'|Input type \(torch\.(?!cuda)\w+\) and \w+ type \(torch\.cuda'  # convolutions
    r'|Input type \(torch\.cuda\.\w+\) and \w+ type \(torch\.(?!cuda)'
    r'| is on \S+, not on '  # this package's operators
)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class name if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def device_problem(error: BaseException, advice: str) -> str | None:
    """Return the line for an error that PyTorch raises about devices; None for any other.

    Args:
        error: the error.
        advice: what to do if memory is short.
    """
    text = str(error)
    if isinstance(error, MemoryError) or re.search(_NO_MEMORY, text):
        return f'out of memory: {advice}'
    if _NO_KERNELS in text:
        return (
            'this build of PyTorch has no kernels for this GPU: `hrformer doctor` names one that '
            'has, or use the CPU'
        )
    if re.search(_TWO_DEVICES, text):
        return (
            f'tensors are on different devices ({text.splitlines()[0].strip(".")}): move the whole '
            'model, and nothing but the model, by model.to(device)'
        )
    return None


@contextmanager
def device_errors(advice: Callable[[], str]) -> Iterator[None]:
    """Raise a `DeviceError` for errors about devices, see `device_problem`."""
    try:
        yield
    except (RuntimeError, MemoryError, ConfigError) as error:
        # The config may have been blamed for it already.
        cause = error.__cause__ if isinstance(error, ConfigError) else error
        is_device_error = isinstance(cause, RuntimeError | MemoryError)
        line = device_problem(cause, advice()) if is_device_error else None
        if line is None or isinstance(cause, UserError):
            raise
        raise DeviceError(line) from cause


def smaller_batch(name: str, size: int, unit: str = 'images') -> str:
    """Advise on a batch that does not fit into memory.

    Args:
        name: of the setting.
        size: its value.
        unit: of which a batch is made.
    """
    if size > 1:
        return f'a batch of {size} {unit} does not fit, halve {name}: {size // 2}'
    return f'not even {name}=1 fits: take a smaller network, or half precision'
