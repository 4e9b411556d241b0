"""Log lines about a match of weights and network."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch

from . import prtr_names
from .pose_transformers import pose_transformer
from .state_dict_adapter import State, lower_maps


def conversion(weights: Mapping, state: State) -> str:
    """Describe how names were converted."""
    joined = sum('.q_proj.weight' in key for key in weights)
    if joined:
        return f'query, key and value of {joined} blocks joined, FFNs renamed'
    if (kind := pose_transformer(weights)) and kind != 'mmpose':
        return f'{len(weights)} names'
    if prtr_names.is_official(weights):
        return "PRTR's names: part of its backbone is our neck, its transformer our head"
    return 'nothing, the names are ours'


def groups(keys: Iterable[str]) -> str:
    """Count the entries of each part: 'backbone (1996 entries), head (2)'."""
    keys = list(keys)
    lower = {*lower_maps(keys)}
    counts = Counter('maps of lower resolution' if k in lower else _part(k) for k in keys)
    texts = [f'{part} ({number})' for part, number in counts.items()]
    more = f' and {len(texts) - 8} other parts' if texts[8:] else ''
    return ', '.join(texts[:8]).replace(')', ' entries)', 1) + more


def _part(key: str) -> str:
    parts = key.split('.')
    name = parts[1] if parts[0] == 'backbone' else parts[0]
    return 'backbone' if re.fullmatch(r'(conv|bn|layer|transition|stage)\d', name) else name


def is_finite(value: torch.Tensor) -> bool:
    """Return whether a tensor has neither NaN nor infinite values."""
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
