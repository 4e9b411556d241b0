"""Training state as plain data: tensors, numbers, text, lists and dicts.

MMEngine stores its logged values as objects, which PyTorch's safe reader refuses. What is written
here instead is read by every PyTorch since 2.1 without a list of exceptions, by MMEngine too (it
leaves out the logged values' history).
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

from ..checkpoint.safe_pickle import History

_KIND = 'HistoryBuffer'
_PLAIN = (str, bytes, bool, int, float, complex, type(None), torch.Size, torch.dtype)


def to_plain(value: Any, where: str = 'checkpoint') -> Any:
    """Convert a value to plain data; skip what cannot be stored safely, with a warning.

    Args:
        value: a checkpoint as MMEngine's runner makes it, or a part of one.
        where: name of the part, for the warning.

    Returns:
        A copy; tensors are shared with `value`.
    """
    if isinstance(value, torch.Tensor) or type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):  # np.float64 is a float, too
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'fiub':
        return torch.from_numpy(value.copy())
    if isinstance(value, HistoryBuffer):
        values, counts = (torch.from_numpy(np.array(part)) for part in value.data)
        return dict(kind=_KIND, values=values, counts=counts, max_length=value.max_length)
    if isinstance(value, Mapping):
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        items = ((key, to_plain(item, f'{where}.{key}')) for key, item in value.items())
        return kind((key, item) for key, item in items if item is not _SKIPPED)
    if isinstance(value, list | tuple):
        kind = list if isinstance(value, list) else tuple
        items = (to_plain(item, f'{where}[{i}]') for i, item in enumerate(value))
        return kind(item for item in items if item is not _SKIPPED)
    print_log(
        f'{where} is of type {type(value).__name__}, which a safe load refuses: not saved',
        logger='current',
        level=logging.WARNING,
    )
    return _SKIPPED


_SKIPPED = object()


def from_plain(checkpoint: dict) -> None:
    """Restore, in place, the objects that MMEngine's runner expects.

    Args:
        checkpoint: as read from a file of ours, or of MMEngine's runner.
    """
    scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
    for key, value in scalars.items():
        scalars[key] = _buffer(value)
    meta = checkpoint.get('meta', {})
    if 'dataset_meta' in meta:
        meta['dataset_meta'] = _arrays(meta['dataset_meta'])


def _buffer(value: Any) -> Any:
    parts = history_parts(value)
    if parts is None:
        return value
    values, counts, max_length = parts
    return HistoryBuffer(np.asarray(values), np.asarray(counts), max_length)


def history_parts(value: Any) -> tuple | None:
    """Return logged values, counts and maximal length, as they are in the file."""
    if isinstance(value, History):
        names, value = ('_log_history', '_count_history', 'max_length'), vars(value)
    elif isinstance(value, Mapping) and value.get('kind') == _KIND:
        names = ('values', 'counts', 'max_length')
    else:
        return None
    return tuple(value.get(name) for name in names)


def _arrays(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    if isinstance(value, Mapping):
        return type(value)((key, _arrays(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_arrays(item) for item in value)
    return value


def is_training_state(content: Any) -> bool:
    """Return whether content is a training state: counters, optimizer and message hub."""
    return isinstance(content, Mapping) and {'meta', 'optimizer', 'message_hub'} <= {*content}
