"""Mutations of bytes and of JSON-like structures, drawn from a seeded generator."""

import copy
import json
import random
import string
from collections.abc import Sequence
from typing import Any

INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1)
ODD_VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**18), 0.5, 1e300, float('nan'),
    float('inf'), float('-inf'), '', 'text', '1', 'nan', '\0', 'ä' * 300, [], {}, [None], [[]],
    {'a': 1}, [1, 2, 3], ['x', 'y'], [float('nan')] * 4, [1e308, 1e308, 1e308, 1e308], '../../x',
)  # fmt: skip


def flip(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Flip 1 to 8 bits."""
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_early(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Replace bytes of the header."""
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(len(data), 200))] = rng.randrange(256)


def truncate(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Cut the end off."""
    del data[
        rng.choice((rng.randrange(len(data)), len(data) - rng.randint(1, min(len(data), 40)))) :
    ]


def delete(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Delete a block."""
    start, stop = _block(rng, data)
    del data[start:stop]


def zero(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Zero a block."""
    start, stop = _block(rng, data)
    data[start:stop] = bytes(stop - start)


def duplicate(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Repeat a block."""
    start, stop = _block(rng, data)
    data[stop:stop] = data[start:stop]


def noise(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Replace a block by noise."""
    start, stop = _block(rng, data)
    data[start:stop] = rng.randbytes(stop - start)


def splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Continue with the end of another file."""
    other = rng.choice(others or [bytes(data)])
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def integer(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Write an extreme integer."""
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice(INTEGERS) % 256**size
    place = rng.randrange(max(1, len(data) - size))
    data[place : place + size] = value.to_bytes(size, rng.choice(('little', 'big')))


def append(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """Append bytes."""
    data += rng.choice((rng.randbytes(rng.randint(1, 200)), bytes(1000), bytes(data[:1000])))


BYTE_MUTATIONS = (
    flip, flip, flip, flip_early, truncate, delete, zero, duplicate, noise, splice, integer, append
)  # fmt: skip


def mutate_bytes(
    rng: random.Random, data: bytes, others: Sequence[bytes] = ()
) -> tuple[str, bytes]:
    """Apply one or two mutations; returns their names and the result."""
    changed, names = bytearray(data), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        if not changed:
            break
        mutation = rng.choice(BYTE_MUTATIONS)
        mutation(rng, changed, others)
        names.append(mutation.__name__)
    return '+'.join(names), bytes(changed)


def _block(rng: random.Random, data: bytearray) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + int(2 ** rng.uniform(0, 11)))


def misspelt(rng: random.Random, word: str) -> str:
    """A word with one letter dropped, doubled, exchanged or replaced."""
    place = rng.randrange(len(word)) if word else 0
    return rng.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + word[place : place + 1] * 2 + word[place + 1 :],
            word[:place]
            + word[place + 1 : place + 2]
            + word[place : place + 1]
            + word[place + 2 :],
            word[:place] + rng.choice(string.ascii_lowercase) + word[place + 1 :],
        )
    )


def places(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all entries of a structure of dicts and lists."""
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    return [
        *(((*path, key)) for key, _ in items),
        *(deeper for key, value in items for deeper in places(value, (*path, key))),
    ]


def pick(rng: random.Random, tree: Any) -> tuple[Any, Any]:
    """A container and a key of it, every depth about equally likely."""
    by_depth: dict[int, list[tuple]] = {}
    for path in places(tree):
        by_depth.setdefault(len(path), []).append(path)
    path = rng.choice(by_depth[rng.choice([*by_depth])])
    for key in path[:-1]:
        tree = tree[key]
    return tree, path[-1]


def mutate_tree(rng: random.Random, tree: Any) -> tuple[str, Any]:
    """Change one or two entries of a copy; returns what was done and the copy."""
    tree, names = copy.deepcopy(tree), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        if not places(tree):
            break
        holder, key = pick(rng, tree)
        names.append(_change(rng, holder, key))
    if rng.random() < 0.02:
        return 'root replaced', rng.choice(ODD_VALUES)
    return '; '.join(names), tree


def _change(rng: random.Random, holder: Any, key: Any) -> str:
    value = holder[key]
    label = f'{key}' if isinstance(key, str) else f'[{key}]'
    choices = ['replace', 'replace', 'replace', 'delete', 'retype', 'wrap']
    if isinstance(key, str):
        choices += ['misspell']
    elif isinstance(holder, list):
        choices += ['duplicate', 'shuffle', 'empty']
    action = rng.choice(choices)
    if isinstance(holder, tuple):
        return 'nothing'
    if action == 'replace':
        holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
        return f'{label} = {str(holder[key])[:30]!r}'
    if action == 'delete':
        del holder[key]
    elif action == 'misspell':
        holder[misspelt(rng, key)] = holder.pop(key)
    elif action == 'retype':
        holder[key] = _retyped(rng, value)
    elif action == 'wrap':
        holder[key] = rng.choice(([value], {'x': value}, [[[value]]]))
    elif action == 'duplicate':
        holder.insert(key, copy.deepcopy(value))
    elif action == 'shuffle':
        rng.shuffle(holder)
    elif action == 'empty':
        holder.clear()
    return f'{action} {label}'


def _retyped(rng: random.Random, value: Any) -> Any:
    if isinstance(value, bool):
        return rng.choice((str(value), int(value)))
    if isinstance(value, int | float):
        return rng.choice((str(value), float(value), -value, value * 10**6, value + 0.5, [value]))
    if isinstance(value, str):
        return rng.choice((value.encode().hex(), 7, [value], value.upper(), value + ' ', ''))
    if isinstance(value, list):
        return rng.choice(
            (dict(enumerate(map(str, value[:5]))), str(value[:3]), value * 3, value[:-1])
        )
    if isinstance(value, dict):
        return rng.choice(([*value.items()][:3], [value], str(value)[:40], [*value]))
    return 0


def mutate_json(rng: random.Random, tree: Any) -> tuple[str, bytes]:
    """A JSON text with changed entries, now and then damaged as text."""
    name, changed = mutate_tree(rng, tree)
    text = json.dumps(changed).encode()
    if rng.random() < 0.15 and text:
        more, text = mutate_bytes(rng, text)
        name = f'{name}; bytes: {more}'
    return name, text
