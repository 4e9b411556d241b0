"""Columns of a list of JSON objects as arrays.

Raises a ValueError where an entry cannot be used at all.
"""

from array import array
from collections import Counter
from typing import Any

import numpy as np


def objects(entries: Any, name: str) -> list[dict]:
    """Return the entries if they are a list of objects."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f'{name} is not a list of objects')
    return entries


def most_frequent(length: np.ndarray) -> int:
    """Return the most frequent count of numbers in a keypoints entry, a multiple of 3."""
    counts = Counter(int(n) for n in length if n > 0 and n % 3 == 0)
    return counts.most_common(1)[0][0] if counts else 3


def numbers(value: Any) -> array | np.ndarray | list | None:
    """Return a list of numbers, NaN for what is none; None if there is no list."""
    if isinstance(value, array | np.ndarray):
        return value
    if not isinstance(value, list):
        return None
    return [x if isinstance(x, int | float) else np.nan for x in value]


def first_numbers(value: Any, count: int) -> array | list | None:
    """Return the first numbers of a list."""
    values = numbers(value)
    return None if values is None else values[:count]


def rows(values: list[array | list | None], width: int) -> np.ndarray:
    """Stack rows to (len(values), width) float64; a row of another length becomes NaN."""
    rows = np.full((len(values), width), np.nan)
    for row, value in zip(rows, values, strict=True):
        if value is not None and len(value) == width:
            row[:] = value
    return rows


def integers(entries: list[dict], key: str, default: int | None = None) -> np.ndarray:
    """Return the values of a key, (len(entries),) int64. A missing key needs a default."""
    values = [entry.get(key, default) for entry in entries]
    for number, (entry, value) in enumerate(zip(entries, values, strict=True), start=1):
        if not isinstance(value, int):
            which = f'entry {entry["id"]}' if 'id' in entry else f'the entry at place {number}'
            raise ValueError(f'{key} {value!r} of {which} is not a whole number')
    return np.array(values, np.int64)


def floats(entries: list[dict], key: str) -> np.ndarray:
    """Return the values of a key, (len(entries),) float64; NaN for what is no number."""
    values = [entry.get(key) for entry in entries]
    return np.array([v if isinstance(v, int | float) else np.nan for v in values], np.float64)
