"""Names of PRTR's state-dict entries: its authors' and ours.

The authors' backbone includes what is our neck, and their transformer is our head. `backbone.0` is
`backbone` alone in some of their files, which their code renames when it loads them.
"""

import re
from collections.abc import Iterable, Mapping

import torch

State = Mapping[str, torch.Tensor]

# pattern of the authors' names -> ours; and the way back
TO_OURS = (
    (r'^backbone\.(0\.)?body\.(incre_modules|downsamp_modules|final_layer)\.', r'neck.\2.'),
    (r'^backbone\.(0\.)?body\.', 'backbone.'),
    (r'^(transformer|class_embed|kpt_embed|query_embed|input_proj)\.', r'head.\1.'),
)
TO_OFFICIAL = (
    (r'^(backbone|neck)\.', 'backbone.0.body.'),
    (r'^head\.', ''),
)
_ATTENTION = 'transformer.decoder.layers.0.multihead_attn.in_proj_weight'
_CLASSES = 'class_embed.weight'
_DEFORMABLE = 'transformer.encoder.layers.0.self_attn.sampling_offsets.weight'


def is_official(keys: Iterable[str]) -> bool:
    """Return whether entries are a PRTR under the authors' names, with full attention."""
    return {_ATTENTION, _CLASSES} <= {*keys}


def is_ours(keys: Iterable[str]) -> bool:
    """Return whether entries are a PRTR under our names."""
    return {f'head.{_ATTENTION}', f'head.{_CLASSES}'} <= {*keys}


def convert(state: State, rules: Iterable[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Rename entries by `TO_OURS` or `TO_OFFICIAL`."""
    renamed = {}
    for key, value in state.items():
        name = next((re.sub(old, new, key) for old, new in rules if re.match(old, key)), key)
        renamed[name] = value
    return renamed


def num_keypoints(state: State) -> int | None:
    """Return the number of keypoints of a PRTR of either naming; None for other networks."""
    if not (is_official(state) or is_ours(state)):
        return None
    key = _CLASSES if _CLASSES in state else f'head.{_CLASSES}'
    return len(state[key]) - 1 if state[key].ndim else 0


def architecture(state: State, trunk: str) -> str | None:
    """Return the name of a PRTR under our names; None for other networks.

    Args:
        state: entries, the backbone's without prefix.
        trunk: name of the backbone.
    """
    if {_DEFORMABLE, f'head.{_DEFORMABLE}'} & {*state}:
        return 'a PRTR with deformable attention'
    if not is_ours(state):
        return None
    if trunk == 'ResNet':
        blocks = _count(state, r'layer\d\.\d+')
        trunk = f'ResNet-{2 + blocks * (3 if "layer1.0.conv3.weight" in state else 2)}'
    encoder, decoder = (
        _count(state, rf'head\.transformer\.{part}\.layers\.\d+') for part in ('encoder', 'decoder')
    )
    return f'PRTR({trunk}, {encoder} + {decoder} layers)'


def _count(keys: Iterable[str], pattern: str) -> int:
    """Count the modules whose name matches; a dot and the name of an entry follow."""
    return len({match[0] for key in keys if (match := re.match(rf'{pattern}(?=\.)', key))})
