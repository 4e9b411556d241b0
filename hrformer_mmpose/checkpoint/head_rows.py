"""Rows of a head's final layer, taken by keypoint names into a head of other keypoints.

Legend: K keypoints of the network, F of the file; a keypoint has M maps, 3 for UDP's 'combined'.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..imaging import sides
from ..imaging.skeleton import COCO
from . import files, state_dict_adapter
from .match_checks import HEAD
from .state_dict_adapter import State
from .weights_file import KEYPOINTS

NAMES_SHOWN = 20


@dataclass(frozen=True)
class Keypoints:
    """Names of the keypoints on both sides of a match.

    Attributes:
        network: K names.
        file: F names; None if the file stores none, empty if they are damaged.
    """

    network: tuple[str, ...]
    file: tuple[str, ...] | None


def names_in(metainfo: Any) -> tuple[str, ...] | None:
    """Return the names in a data set's metainfo; None if it has none, empty if damaged."""
    if metainfo is None or (isinstance(metainfo, Mapping) and 'keypoint_id2name' not in metainfo):
        return None
    names = metainfo['keypoint_id2name'] if isinstance(metainfo, Mapping) else None
    if not isinstance(names, Mapping) or {*names} != {*range(len(names))}:
        return ()
    return _checked([names[k] for k in range(len(names))])


def names_in_file(content: Any) -> tuple[str, ...] | None:
    """Return the names in a file's content; None if it stores none, empty if damaged.

    Trainings (this package's and MMPose's) store the metainfo of their data, `save_weights` the
    names alone.
    """
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping):
        return None
    if KEYPOINTS not in meta:
        return names_in(meta.get('dataset_meta'))
    try:
        return _checked(json.loads(meta[KEYPOINTS]))
    except (TypeError, ValueError, RecursionError):
        return ()


def _checked(names: Any) -> tuple[str, ...]:
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if is_list and len({*names}) == len(names) else ()


def take_rows(
    state: State,
    target: Mapping[str, torch.Tensor],
    keypoints: Keypoints,
    origin: str,
    source: str | Path,
) -> str | None:
    """Put the file's rows where the network has the keypoints of the same names.

    Names match as `sides.canonical` reads them. A file without names has COCO's if its origin is
    recognised and it has 17 keypoints. Without any names the whole head is taken if it has as many
    rows as the network's, and no row otherwise.

    Args:
        state: entries of the file under the network's names. Those of the final layer are replaced,
            and removed if no row is taken.
        target: entries of the network; its rows stay where none is taken.
        keypoints: names of both.
        origin: of the file, see `state_dict_adapter.origin`.
        source: name of the file, for the line.

    Returns:
        A line for the log. None if both have the same keypoints, or if the final layers differ in
        more than keypoints: `state` is as it was.
    """
    keys, count = _final_layer(target), len(keypoints.network)
    rows, needed = _rows(state, target, keys), _rows(target, target, keys)
    if not rows or not count or needed % count:
        return None
    maps = needed // count
    names, remark = _names_of(rows, maps, keypoints.file, origin)
    if not names and rows == needed:
        return f"head: the rows of '{source}' are taken in their order, since {remark}"
    before, now = _canonical(names), _canonical(keypoints.network)
    if before == now:
        return None
    pairs = {k: before.index(name) for k, name in enumerate(now) if name in before}
    for key in keys:
        value = state.pop(key)
        if pairs:
            state[key] = _moved(value, target[key], maps, pairs)
    return _line(keypoints.network, pairs, source, remark)


def load_head(model: nn.Module, names: tuple[str, ...]) -> str | None:
    """Load the head's rows from the file that `model.backbone.init_cfg` names, see `take_rows`.

    Nothing is loaded if it names none, or names a `prefix`, or if the heads differ in more.

    Args:
        model: a pose estimator whose backbone has been loaded.
        names: K names of its keypoints.

    Returns:
        A line for the log, or None.

    Raises:
        WeightsError: the file cannot be read, or holds no floating-point numbers.
    """
    cfg = model.backbone.init_cfg
    if not isinstance(cfg, Mapping) or cfg.get('type') != 'Pretrained' or cfg.get('prefix'):
        return None
    source, target = cfg['checkpoint'], model.state_dict()
    content = files.read(source)
    weights = files.weights_in(content, source)
    state = state_dict_adapter.to_mmpose(weights)
    state = {k: v for k, v in state.items() if k.startswith(HEAD) and k in target}
    files.check_types(state, target, source)
    keypoints = Keypoints(names, names_in_file(content))
    origin = files.recorded_origin(content) or state_dict_adapter.origin(weights)
    line = take_rows(state, target, keypoints, origin, source)
    if any(value.shape != target[key].shape for key, value in state.items()):
        return None
    model.load_state_dict(state, strict=False)
    return line or (f"head: taken from '{source}', which has the same keypoints" if state else None)


def _final_layer(target: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the keys of the head's final layer, [] without one."""
    matches = [re.match(r'(head\.final_layer\.(?:\d+\.)?)weight$', key) for key in target]
    start = next((match[1] for match in reversed(matches) if match), None)
    return [key for key in (f'{start}weight', f'{start}bias') if key in target]


def _rows(state: Mapping, target: Mapping, keys: Sequence[str]) -> int:
    """Return the number of rows of a final layer; 0 if it differs from the network's otherwise."""
    if not all(key in state and state[key].ndim for key in keys):
        return 0
    same = all(state[key].shape[1:] == target[key].shape[1:] for key in keys)
    lengths = {len(state[key]) for key in keys}
    return lengths.pop() if same and len(lengths) == 1 else 0


def _names_of(
    rows: int, maps: int, stored: tuple[str, ...] | None, origin: str
) -> tuple[tuple[str, ...], str]:
    """Return the names of a file's keypoints, () if unknown, and a remark on them."""
    if stored is None:
        if origin != 'unknown' and rows == maps * len(COCO.names):
            return COCO.names, "it names no keypoints, and 17 are taken for COCO's"
        return (), 'it names no keypoints'
    if not stored:
        return (), 'its keypoint names are damaged'
    if len(stored) * maps != rows:
        return (), f'its {len(stored)} keypoint names do not go with {rows} rows'
    return stored, ''


def _canonical(names: Sequence[str]) -> list[str]:
    """Return the names as they are compared; those that would then be equal stay as they are."""
    read = [sides.canonical(name) for name in names]
    numbers = Counter(read)
    return [k if numbers[k] == 1 else name for k, name in zip(read, names, strict=True)]


def _moved(
    value: torch.Tensor, own: torch.Tensor, maps: int, pairs: Mapping[int, int]
) -> torch.Tensor:
    """Return the network's tensor with rows of the file's.

    Args:
        value: (F M, ...), of the file.
        own: (K M, ...), of the network.
        maps: M.
        pairs: keypoint of the network -> keypoint of the file.
    """
    rows = own.clone().unflatten(0, (-1, maps))  # K, M, ...
    rows[[*pairs]] = value.to(rows).unflatten(0, (-1, maps))[[*pairs.values()]]
    return rows.flatten(0, 1)


def _line(names: Sequence[str], pairs: Mapping[int, int], source: str | Path, remark: str) -> str:
    if not pairs:
        why = remark or 'it has none of these keypoints'
        return f"head: no row of '{source}' is taken, since {why}; all {len(names)} start anew"
    anew = [name for k, name in enumerate(names) if k not in pairs]
    why = f' ({remark})' * bool(remark)
    rest = 'none starts anew'
    if anew:
        verb = 'keypoint starts' if len(anew) == 1 else 'keypoints start'
        rest = f'{len(anew)} {verb} anew: {_listed(anew)}'
    return f"head: rows of {_listed(names[k] for k in pairs)} taken from '{source}'{why}; {rest}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f' and {len(names) - NAMES_SHOWN} more' if names[NAMES_SHOWN:] else ''
    return ', '.join(names[:NAMES_SHOWN]) + more
