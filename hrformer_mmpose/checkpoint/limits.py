"""Limits of the values that a pickle may hold."""

import itertools
import pickle
from typing import Any

from .builders import History

MAX_OPCODES = 3_000_000  # training states of the largest networks here have 300,000
MAX_DEPTH = 64  # of lists and dicts in each other; later code walks them by recursion
SLACK = 2**20  # bytes that any file may use, however small it is
SHARING = 16  # times that a file may use its bytes or values: tied weights, views


def bounded(value: Any) -> Any:
    """Refuse integers of arbitrary length; a million digits take minutes to print."""
    if type(value) is int and value.bit_length() > 256:
        raise pickle.UnpicklingError(f'a number of {value.bit_length()} bits')
    return value


def check_nesting(content: Any, limit: int) -> None:
    """Refuse lists and dicts that contain themselves or expand to more than `limit` values.

    Raises:
        pickle.UnpicklingError: see above.
    """
    steps = itertools.count()

    def walk(value: Any, depth: int) -> None:
        if depth > MAX_DEPTH or next(steps) > limit:
            raise pickle.UnpicklingError('lists or dicts are nested without end')
        if isinstance(value, History):
            value = vars(value)
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, list | tuple):
            return
        for item in value:
            walk(item, depth + 1)

    walk(content, 0)
