"""Choice of the category, its keypoints and its skeleton."""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError, DataError
from .source import Source, counted

SHOWN = 20  # categories named in a message
Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Category:
    """One category, or several with the same keypoints.

    Attributes:
        name: of the category; of several, joined.
        ids: in the file.
        names: K names of keypoints.
        columns: K, place of each keypoint in the file's rows.
        count: keypoints in a row of the file.
        edges: pairs of keypoint indices.
        flip_indices: K, if the file tells.
        notes: lines about repaired values.
    """

    name: str
    ids: frozenset
    names: tuple[str, ...]
    columns: tuple[int, ...]
    count: int
    edges: Edges
    flip_indices: tuple[int, ...] | None
    notes: tuple[str, ...]


def choose(source: Source, name: str | None, keypoints: Sequence[str] = ()) -> Category:
    """Choose a category and check its keypoints.

    Args:
        source: the annotations.
        name: of the category; 'all' joins all with keypoints; None takes the only one.
        keypoints: names that select, order or rename the file's.

    Raises:
        ConfigError: the choice is missing or impossible.
        DataError: keypoints that cannot be used.
    """
    keypoints = [_spaced(value) for value in keypoints]
    chosen = _chosen(source, name, bool(keypoints))
    lists = {tuple(_names(category)) for category in chosen}
    if len(lists) > 1:
        raise ConfigError('--category all: the categories have different keypoints; choose one')
    label = chosen[0]['name'] if len(chosen) == 1 else f'{len(chosen)} categories'
    old, ids = lists.pop(), frozenset(category['id'] for category in chosen)
    if not old:
        old = tuple(keypoints)  # the category has no names
    names, columns = _renamed(old, keypoints)
    _check_names(names, label)
    edges, notes = _edges(chosen[0].get('skeleton'), old)
    place = {column: k for k, column in enumerate(columns)}
    edges = tuple((place[a], place[b]) for a, b in edges if a in place and b in place)
    flips = chosen[0].get('flip_indices')
    if flips:
        _check_flips(flips, len(old), str(label))
    if flips and len(names) == len(old):
        flips = tuple(place[flips[column]] for column in columns)
    else:
        flips = None
    return Category(str(label), ids, names, columns, len(old), edges, flips, tuple(notes))


def _check_flips(flips: object, count: int, label: str) -> None:
    """Check that flip indices exchange keypoints in pairs."""
    numbers = flips if isinstance(flips, list | tuple) else ()
    is_order = all(isinstance(k, int) for k in numbers) and sorted(numbers) == [*range(count)]
    if not is_order or any(numbers[numbers[k]] != k for k in range(count)):
        raise DataError(
            f"flip_indices of '{label}' must exchange its {count} keypoints in pairs, as numbers "
            'from 0 on: correct or remove them'
        )


def _chosen(source: Source, name: str | None, named: bool) -> list[dict]:
    persons = Counter(annotation['category_id'] for annotation in source.annotations)
    with_points = [c for c in source.categories if _names(c) or named]
    if name == 'all' and with_points:
        return with_points
    if name is not None:
        fitting = [c for c in source.categories if str(c['name']) == name]
        if not fitting:
            raise ConfigError(f"--category '{name}': {_listed(source.categories, persons, name)}")
        if not _names(fitting[0]) and not named:
            raise DataError(_without_keypoints(fitting[0]['name']))
        return fitting
    if not with_points:
        raise DataError(_without_keypoints(source.categories[0]['name']))
    used = [c for c in with_points if persons[c['id']]]
    if len(used) > 1:
        raise ConfigError(f'choose one by --category NAME: {_listed(used, persons)}')
    return used or with_points[:1]


def _without_keypoints(name: str) -> str:
    return (
        f"category '{name}' has no list 'keypoints': add the names in their order, or give them "
        'by --keypoints NAME NAME ...'
    )


def _listed(categories: list[dict], persons: Counter, wanted: str | None = None) -> str:
    """List categories, the most similar or most frequent first."""
    names = {str(c['name']): persons[c['id']] for c in categories}
    order = sorted(names, key=lambda name: -names[name])
    if wanted:
        similar = difflib.get_close_matches(wanted, names, SHOWN)
        order = similar + [name for name in order if name not in similar]
    shown = ', '.join(f"'{name}' ({names[name]} persons)" for name in order[:SHOWN])
    more = f' and {len(order) - SHOWN} more' if len(order) > SHOWN else ''
    return f'the file has {shown}{more}'


def _names(category: dict) -> list[str]:
    values = category.get('keypoints')
    return [_spaced(value) for value in values] if isinstance(values, list | tuple) else []


def _spaced(value: object) -> str:
    """Return a name on one line, without white space at its ends."""
    return ' '.join(str(value).split())


def _renamed(old: Sequence[str], new: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if not new:
        return tuple(old), tuple(range(len(old)))
    if set(new) <= set(old):
        return tuple(new), tuple(list(old).index(name) for name in new)
    if len(new) == len(old):
        return tuple(new), tuple(range(len(old)))
    unknown = next(name for name in new if name not in old)
    raise ConfigError(
        f"--keypoints: '{unknown}' is not one of the file's {len(old)} keypoints "
        f'({", ".join(old)}), and {len(new)} names cannot rename them'
    )


def _check_names(names: Sequence[str], category: str) -> None:
    for place, name in enumerate(names):
        if not name:
            raise DataError(f"category '{category}': keypoint {place + 1} has no name")
        if name in names[:place]:
            raise DataError(
                f"category '{category}' has two keypoints '{name}' (number "
                f'{names.index(name) + 1} and {place + 1}): rename one, or give all names by '
                '--keypoints'
            )


def _edges(skeleton: object, names: Sequence[str]) -> tuple[list[tuple[int, int]], list[str]]:
    """Read edges of numbers from 1, as COCO's; of numbers from 0; or of names."""
    entries = list(skeleton) if isinstance(skeleton, list | tuple) else []
    pairs = [_numbers(entry, names) for entry in entries]
    numbers = {number for pair in pairs for number in pair}
    start, notes = 1, []
    if 0 in numbers and len(names) not in numbers:
        start = 0
        notes.append('the skeleton counts keypoints from 0 instead of 1: read so')
    good, bad = [], []
    for entry, (a, b) in zip(entries, pairs, strict=True):
        edge = a - start, b - start
        usable = a != b and all(0 <= end < len(names) for end in edge)
        (good if usable else bad).append(edge if usable else entry)
    if bad:
        edges = counted(len(bad), 'skeleton edge')
        notes.append(f'{edges} naming no keypoint ({bad[0]}): left out')
    return list(dict.fromkeys(good)), notes


def _numbers(entry: object, names: Sequence[str]) -> tuple[int, int]:
    """Return the ends of an edge as numbers from 1; -1 for what is neither number nor name."""
    if not isinstance(entry, list | tuple) or len(entry) != 2:
        return -1, -1
    a, b = (list(names).index(end) + 1 if end in names else end for end in entry)
    return tuple(end if isinstance(end, int) else -1 for end in (a, b))
