"""Guess which keypoints change places when an image is mirrored, from their names.

Legend: K keypoints.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from ..imaging import sides

Spelling = Callable[[str], Iterator[tuple[int, sides.Key]]]


@dataclass(frozen=True)
class Flips:
    """Mirror images of a set of keypoints.

    Attributes:
        indices: K, index of each keypoint's mirror image; its own for the middle.
        unsure: names whose mirror image the names do not tell for certain.
    """

    indices: tuple[int, ...]
    unsure: tuple[str, ...]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs, the smaller index first."""
        return [(a, b) for a, b in enumerate(self.indices) if a < b]


def guess(names: Sequence[str]) -> Flips:
    """Pair the names that differ in their side only.

    Unsure are names with a side and no counterpart, with several counterparts, with a side that is
    one letter of a word (leye, reye), and numbered names without a side (face-0 ... face-67). If no
    name has a side, all are unsure.
    """
    indices = list(range(len(names)))
    unsure: set[int] = set()
    for spelling in (sides.by_word, sides.fused, sides.by_letter):
        rest = [k for k, other in enumerate(indices) if k == other]
        for a, b in _pairs(names, rest, spelling, unsure):
            indices[a], indices[b] = b, a
            if spelling is sides.by_letter:
                unsure.update((a, b))
    single = [k for k, other in enumerate(indices) if k == other]
    unsure.update(k for k in single if any(sides.by_word(names[k])))
    unsure.update(_numbered(names, single))
    if len(single) == len(names) > 1:
        unsure.update(single)
    return Flips(tuple(indices), tuple(names[k] for k in sorted(unsure)))


def stated(names: Sequence[str], indices: Sequence[int], guessed: Flips) -> Flips:
    """Take the annotation file's flips; unsure are those of which the names say otherwise."""
    other = (
        name
        for k, name in enumerate(names)
        if indices[k] != guessed.indices[k] and name not in guessed.unsure
    )
    return Flips(tuple(indices), tuple(other))


def from_pairs(names: Sequence[str], pairs: Sequence[str]) -> Flips:
    """Build from `LEFT:RIGHT` of the command line; `none` stands for no pair.

    Raises:
        ConfigError: an entry that is no pair, an unknown name, or a name in two pairs.
    """
    indices = list(range(len(names)))
    for entry in pairs if list(pairs) != ['none'] else ():
        pair = entry.split(':')
        if len(pair) != 2 or pair[0] == pair[1]:
            raise ConfigError(f"--flip-pairs '{entry}' is not NAME:NAME")
        for name in pair:
            if name not in names:
                raise ConfigError(f"--flip-pairs '{entry}': no keypoint is named '{name}'")
        a, b = (list(names).index(name) for name in pair)
        if indices[a] != a or indices[b] != b:
            raise ConfigError(f"--flip-pairs '{entry}': a keypoint can be in one pair only")
        indices[a], indices[b] = b, a
    return Flips(tuple(indices), ())


def _pairs(
    names: Sequence[str], rest: list[int], spelling: Spelling, unsure: set[int]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of a spelling; add names with several counterparts to `unsure`."""
    table: dict[tuple[int, sides.Key], set[int]] = defaultdict(set)
    for k in rest:
        for entry in spelling(names[k]):
            table[entry].add(k)
    partners: dict[int, set[int]] = defaultdict(set)
    for (side, key), members in table.items():
        for k in members:
            partners[k] |= table.get((1 - side, key), set()) - {k}
    for k in rest:
        if len(partners[k]) > 1:
            unsure.add(k)
        for other in partners[k]:
            if k < other and partners[k] == {other} and partners[other] == {k}:
                yield k, other


def _numbered(names: Sequence[str], single: list[int]) -> Iterator[int]:
    """Yield the keypoints whose names differ from another's in a number only."""
    series: dict[str, list[int]] = defaultdict(list)
    for k in single:
        if re.search(r'\d', names[k]):
            series[re.sub(r'\d+', '#', names[k])].append(k)
    for members in series.values():
        if len(members) > 1:
            yield from members
