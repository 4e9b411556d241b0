"""Keypoints of any tool as x, y and COCO's visibility, in pixels.

Legend: N persons, K keypoints of the set, F keypoints of the file.
"""

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from .category import Category
from .source import HIDDEN, VISIBLE, counted

MAX_COORDINATE = 1e6  # pixels; beyond any image


def rows(
    entries: list[dict], category: Category, path: str, notes: list[str]
) -> tuple[list[dict], np.ndarray]:
    """Return the entries with the right count, and (N, K, 3) of x, y, visibility or NaN."""
    F = category.count
    lists = [numbers(entry.get('keypoints')) for entry in entries]
    counts = [len(row) for row in lists]
    flat = sum(n == 2 * F for n in counts) > sum(n == 3 * F for n in counts)
    width = 2 if flat else 3
    good = [k for k, n in enumerate(counts) if n in (0, width * F)]
    if not any(counts[k] for k in good):
        other = next((n for n in counts if n), 0)
        raise DataError(
            f"'{path}': category '{category.name}' names {F} keypoints ({3 * F} numbers a person), "
            f'and its persons have {other} numbers: correct the list, or give --keypoints'
        )
    if bad := sorted(set(range(len(lists))) - set(good)):
        ids = ', '.join(str(entries[k].get('id', f'number {k + 1}')) for k in bad[:5])
        notes.append(
            f'{counted(len(bad), "person")} with another number of keypoints than the {F} of the '
            f'category (annotation {ids}{", ..." if bad[5:] else ""}): left out'
        )
    values = np.full((len(good), F, 3), np.nan)
    for out, k in zip(values, good, strict=True):
        if counts[k]:
            out[:, :width] = np.reshape(lists[k], (F, width))
    return [entries[k] for k in good], values[:, list(category.columns)]


def numbers(value: object) -> list[float]:
    """Return numbers of a flat or nested list; NaN for what is none."""
    return [number(v) for v in _flat(value)]


def _flat(value: object) -> list:
    if not isinstance(value, list | tuple):
        return []
    if value and all(isinstance(row, list | tuple) for row in value):
        return [number for row in value for number in row]
    return value


def number(value: object) -> float:
    """Return a number; NaN for what is none."""
    try:
        return float(value) if isinstance(value, int | float) else np.nan
    except OverflowError:  # an integer beyond all floats
        return np.nan


def visibility(keypoints: np.ndarray, entries: list[dict], notes: list[str]) -> np.ndarray:
    """Return keypoints with COCO's 0, 1, 2 as visibility, and zeros where it is 0."""
    xy, v = keypoints[..., :2], keypoints[..., 2]
    point = (np.abs(xy) < MAX_COORDINATE).all(-1)  # False for NaN
    placed = point & (xy != 0).any(-1)
    missing = np.isnan(v)
    if (missing & placed).any():
        count = int((missing & placed).sum())
        notes.append(f'{counted(count, "point")} without visibility: visible unless at (0, 0)')
    v = np.where(missing, np.where(placed, VISIBLE, 0), v)
    labelled = v > 0
    if _has_booleans(entries):
        notes.append('visibility is true or false: read as visible and not labelled')
        v = np.where(labelled, VISIBLE, 0)
    elif labelled.any() and (v[labelled] == HIDDEN).all():
        notes.append('visibility is 0 or 1 only: read as not labelled and visible')
        v = np.where(labelled, VISIBLE, 0)
    elif (other := ~np.isin(v, (0, HIDDEN, VISIBLE))).any():
        notes.append(
            f'{counted(int(other.sum()), "point")} with a visibility other than 0, 1 and 2 '
            f'({v[other][0]:g}): visible if above 0, otherwise not labelled'
        )
        v = np.where(other, np.where(labelled, VISIBLE, 0), v)
    if (lost := (v > 0) & ~point).any():
        notes.append(
            f'{counted(int(lost.sum()), "labelled point")} without numbers: read as not labelled'
        )
    v = np.where(point, v, 0)
    return np.where(v[..., None] > 0, np.concatenate([xy, v[..., None]], -1), 0.0)


def _has_booleans(entries: Sequence[dict]) -> bool:
    return any(
        isinstance(value, bool) for entry in entries for value in _flat(entry.get('keypoints'))
    )


def pixels(
    values: np.ndarray, labelled: np.ndarray, size: np.ndarray, what: str, notes: list[str]
) -> np.ndarray:
    """Scale coordinates between 0 and 1 to pixels.

    Args:
        values: (N, ..., 2), x and y.
        labelled: (N, ...), coordinates that count.
        size: (N, 2) width and height of each image.
        what: name of the values.
        notes: lines, to add to.
    """
    if not labelled.any() or values[labelled].max() > 1 or size.min() <= 2:
        return values
    notes.append(f'{what} lie between 0 and 1: multiplied by the size of the image')
    return values * size.reshape(-1, *[1] * (values.ndim - 2), 2)
