"""Names of state-dict entries of TokenPose and TransPose: the authors' and this package's.

The authors of TokenPose keep the trunk in `pre_feature` and the rest in `transformer`, or both in
`features` (TokenPose-S); the authors of TransPose keep both at the top. Here the trunk is
`backbone`, the rest `head`. Values stay as they are.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar('Value')
Rules = tuple[tuple[str, str], ...]

TRUNK = r'((?:conv|bn|layer|transition|stage)\d)\.'
_BLOCK = (  # an entry of a block: the authors' name, the name here
    ('0.fn.norm', 'norm1'),
    ('0.fn.fn.to_qkv', 'attn.qkv'),
    ('0.fn.fn.to_out.0', 'attn.proj'),
    ('1.fn.norm', 'norm2'),
    ('1.fn.fn.net.0', 'mlp.fc1'),
    ('1.fn.fn.net.3', 'mlp.fc2'),
)
_IN_BLOCK = r'^(head\.tokens\..*\.\d+\.){}\.(weight|bias)$'
_FROM_TOKENPOSE: Rules = (
    (rf'^(?:pre_feature|features)\.{TRUNK}', r'backbone.\1.'),
    (r'^(?:transformer|features)\.', 'head.tokens.'),
    (r'^head\.tokens\.patch_to_embedding\.', 'head.tokens.patch_embed.'),
    (r'^head\.tokens\.transformer1?\.layers\.', 'head.tokens.stages.0.'),
    (r'^head\.tokens\.transformer2\.layers\.', 'head.tokens.stages.1.'),
    (r'^head\.tokens\.transformer3\.layers\.', 'head.tokens.stages.2.'),
    *((_IN_BLOCK.format(re.escape(old)), rf'\g<1>{new}.\2') for old, new in _BLOCK),
)
_TO_TOKENPOSE: Rules = (
    *((_IN_BLOCK.format(re.escape(new)), rf'\g<1>{old}.\2') for old, new in _BLOCK),
    (r'^head\.tokens\.patch_embed\.', 'head.tokens.patch_to_embedding.'),
    (r'^head\.tokens\.stages\.1\.', 'head.tokens.transformer2.layers.'),
    (r'^head\.tokens\.stages\.2\.', 'head.tokens.transformer3.layers.'),
)
_TO_ONE_STAGE: Rules = ((r'^head\.tokens\.stages\.0\.', 'head.tokens.transformer.layers.'),)
_TO_THREE_STAGES: Rules = ((r'^head\.tokens\.stages\.0\.', 'head.tokens.transformer1.layers.'),)
_TO_S: Rules = ((r'^(backbone|head\.tokens)\.', 'features.'),)
_TO_B: Rules = ((r'^backbone\.', 'pre_feature.'), (r'^head\.tokens\.', 'transformer.'))
_FROM_TRANSPOSE: Rules = (
    (rf'^{TRUNK}', r'backbone.\1.'),
    (r'^global_encoder\.', 'head.encoder.'),
    (r'^(reduce\.|pos_embedding$)', r'head.encoder.\1'),
    (r'^(deconv_layers|final_layer)\.', r'head.\1.'),
)
_TO_TRANSPOSE: Rules = (
    (r'^head\.encoder\.layers\.', 'global_encoder.layers.'),
    (r'^head\.encoder\.', ''),
    (r'^(backbone|head)\.', ''),
)


def pose_transformer(keys: Iterable[str]) -> str | None:
    """Return the origin of a pose transformer's entries.

    Returns:
        'official-tokenpose', 'official-transpose', 'mmpose' for names of this package, or None if
        there is neither network.
    """
    keys = [*keys]
    if any(re.match(r'(transformer|features)\.keypoint_token$', key) for key in keys):
        return 'official-tokenpose'
    if any(key.startswith('global_encoder.layers.') for key in keys):
        return 'official-transpose'
    return 'mmpose' if any(_is_head(key) for key in keys) else None


def _is_head(key: str) -> bool:
    return key.startswith(('head.tokens.', 'head.encoder.'))


def renamed(key: str, rules: Rules) -> str:
    """Apply rules of pattern and replacement one after the other."""
    for old, new in rules:
        key = re.sub(old, new, key)
    return key


def from_authors(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Rename the authors' entries; others stay."""
    rules = {'official-tokenpose': _FROM_TOKENPOSE, 'official-transpose': _FROM_TRANSPOSE}
    kind = rules.get(pose_transformer(state_dict) or '', ())
    return {renamed(key, kind): value for key, value in state_dict.items()}


def to_authors(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Rename entries as the authors do; the exact inverse of `from_authors`."""
    rules = _TO_TRANSPOSE
    if any(key.startswith('head.tokens.') for key in state_dict):
        is_large = any(key.startswith('head.tokens.stages.1.') for key in state_dict)
        has_branches = any(key.startswith('backbone.stage2.') for key in state_dict)
        rules = _TO_TOKENPOSE + (_TO_THREE_STAGES if is_large else _TO_ONE_STAGE)
        rules += _TO_B if has_branches else _TO_S
    return {renamed(key, rules): value for key, value in state_dict.items()}


def head_description(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """Describe the transformer of a head by its layers and tokens; None without one.

    Args:
        shapes: by name of this package.
    """
    depths: dict[str, int] = {}
    for key in shapes:
        match = re.match(r'head\.(?:tokens\.stages\.(\d{1,3})|encoder\.layers)\.(\d{1,4})\.', key)
        if match:
            stage = match[1] or '0'
            depths[stage] = max(depths.get(stage, 0), int(match[2]) + 1)
    if not depths:
        return None
    layers = '+'.join(str(depths[stage]) for stage in sorted(depths))
    if any(key.startswith('head.tokens.') for key in shapes):
        patches = _length(shapes, 'head.tokens.pos_embedding', 1)
        return f'a TokenPose head of {layers} layers for {patches} patches'
    pixels = _length(shapes, 'head.encoder.pos_embedding', 0)
    return f'a TransPose head of {layers} layers for {pixels} pixels'


def shapes_of(entries: Mapping) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors by name."""
    return {key: tuple(value.shape) for key, value in entries.items()}


def _length(shapes: Mapping[str, tuple[int, ...]], key: str, axis: int) -> int:
    shape = shapes.get(key, ())
    return shape[axis] if len(shape) > axis else 0
