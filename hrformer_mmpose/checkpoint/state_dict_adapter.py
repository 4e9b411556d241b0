"""Names of state-dict entries: conversion, origin and architecture.

The authors' code projects query, key and value by three layers where MMPose's has one, and calls
the FFN `mlp`; its pose networks call the head `keypoint_head`, as MMPose 0.x did, and the layers of
its other heads have no prefix. Nothing else differs. Names of TokenPose and TransPose are in
`pose_transformers.py`, PRTR's in `prtr_names.py`. All functions are pure and take the entries of a
backbone or of a whole model.
"""

import re
from collections.abc import Iterable, Mapping
from math import isqrt

import torch

from ..arch import ARCHS
from ..errors import WeightsError
from . import prtr_names
from .pose_transformers import from_authors, pose_transformer, renamed, to_authors

State = dict[str, torch.Tensor]

INDEX = 'relative_position_index'  # computed when the network is built, never loaded
INCOMPLETE = 'an incomplete or damaged HRFormer'
TABLE = 'relative_position_bias_table'
# pattern of the authors' (or MMPose 0.x's) names -> MMPose's; and the way back
TO_MMPOSE = (
    (r'(\.branches\.\d+\.\d+)\.mlp\.', r'\1.ffn.'),
    (r'(\.branches\.\d+\.\d+\.attn\.attn)\.out_proj\.', r'\1.proj.'),
    (r'^keypoint_head\.', 'head.'),
    (r'^(incre_modules|downsamp_modules|final_layer|classifier)\.', r'head.\1.'),
    (r'^(conv3x3|ocr_distri_head|cls_head|aux_head)\.', r'head.\1.'),
)
TO_OFFICIAL = (
    (r'(\.branches\.\d+\.\d+)\.ffn\.', r'\1.mlp.'),
    (r'(\.branches\.\d+\.\d+\.attn\.attn)\.proj\.', r'\1.out_proj.'),
    (r'^head\.(incre_modules|downsamp_modules|classifier)\.', r'\1.'),
    (r'^head\.(conv3x3|ocr_distri_head|cls_head|aux_head)\.', r'\1.'),
    (r'^head\.', 'keypoint_head.'),
)
_SEGMENTATION = re.compile(r'(cls_head|aux_head|ocr_\w+|conv3x3)\.')
_CLASSIFICATION = re.compile(r'(backbone\.|head\.)?(classifier|incre_modules|downsamp_modules)\.')


def origin(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the origin of a state dict.

    Returns:
        'mmpose' (1.x, 0.x and the ImageNet backbones converted for them, whose names are the same
        but for the head's), 'official-pose', 'official-classification', 'official-segmentation',
        'official-tokenpose', 'official-transpose', 'official-prtr', or 'unknown' when it is none of
        these networks. A backbone alone of HRFormer's authors is told by its last module: the pose
        network makes one map; one that makes four counts as segmentation.
    """
    keys = list(state_dict)
    if prtr_names.is_official(keys):
        return 'official-prtr'
    if prtr_names.is_ours(keys) or any('.attn.attn.qkv.' in key for key in keys):
        return 'mmpose'
    if not any('.attn.attn.q_proj.' in key for key in keys):
        return pose_transformer(keys) or 'unknown'
    if any(key.startswith('keypoint_head.') for key in keys):
        return 'official-pose'
    if any(map(_CLASSIFICATION.match, keys)):
        return 'official-classification'
    if any(map(_SEGMENTATION.match, keys)) or lower_maps(keys):
        return 'official-segmentation'
    return 'official-pose'


def to_mmpose(state_dict: Mapping[str, torch.Tensor]) -> State:
    """Convert the authors' names to MMPose's; entries with MMPose's names stay.

    Args:
        state_dict: of a backbone or a whole model. It is not modified.

    Returns:
        A new dict; query, key and value projections are concatenated in that order.

    Raises:
        WeightsError: one of the three is missing, or differs from the others in shape or type.
    """
    if prtr_names.is_official(state_dict):
        return prtr_names.convert(state_dict, prtr_names.TO_OURS)
    converted, state_dict = {}, from_authors(state_dict)
    for key, value in state_dict.items():
        match = re.fullmatch(r'(.*\.attn\.attn\.)([qkv])_proj\.(weight|bias)', key)
        if match and match[2] != 'q' and f'{match[1]}q_proj.{match[3]}' in state_dict:
            continue
        if match:
            key, value = f'{match[1]}qkv.{match[3]}', _joined(state_dict, match[1], match[3])
        converted[renamed(key, TO_MMPOSE)] = value
    return converted


def _joined(state_dict: Mapping[str, torch.Tensor], start: str, end: str) -> torch.Tensor:
    names = [f'{start}{part}_proj.{end}' for part in 'qkv']
    for name in names:
        if name not in state_dict:
            raise WeightsError(f'{name} is missing, which belongs to the other projections')
        first, part = state_dict[names[0]], state_dict[name]
        if part.ndim == 0 or part.shape != first.shape or part.dtype != first.dtype:
            raise WeightsError(f'{name} ({_described(part)}) does not go with {names[0]}')
    return torch.cat([state_dict[name] for name in names])


def _described(value: torch.Tensor) -> str:
    return f'{tuple(value.shape)}, {str(value.dtype).removeprefix("torch.")}'


def to_official(state_dict: Mapping[str, torch.Tensor]) -> State:
    """Convert MMPose's names to the authors'; the exact inverse of `to_mmpose`.

    Args:
        state_dict: of a backbone or a whole model, of either naming. It is not modified.

    Returns:
        A new dict; the joint projection is split into query, key and value.

    Raises:
        WeightsError: a joint projection has not three parts.
    """
    if prtr_names.is_ours(state_dict):
        return prtr_names.convert(state_dict, prtr_names.TO_OFFICIAL)
    if not is_hrformer(state_dict) and pose_transformer(state_dict) == 'mmpose':
        return to_authors(state_dict)
    classifies = any(key.startswith('head.classifier.') for key in state_dict)
    converted = {}
    for key, value in state_dict.items():
        if classifies:  # its last convolution has the name of a pose head's
            key = key.removeprefix('backbone.').replace('head.final_layer.', 'final_layer.')
        if '.attn.attn.qkv.' in key:
            if value.ndim == 0 or len(value) % 3:
                raise WeightsError(f'{key} ({_described(value)}) has not three parts')
            for part, tensor in zip('qkv', value.chunk(3), strict=True):
                converted[key.replace('.qkv.', f'.{part}_proj.')] = tensor.clone()
        else:
            converted[renamed(key, TO_OFFICIAL)] = value
    return converted


def lower_maps(keys: Iterable[str]) -> list[str]:
    """Return the entries of the last module's lower maps, which pose networks lack."""
    keys = list(keys)
    last = _last(keys, r'(?:backbone\.)?stage4\.(\d{1,3})\.')
    pattern = re.compile(rf'(backbone\.)?stage4\.{last}\.fuse_layers\.[1-3]\.')
    return [key for key in keys if pattern.match(key)]


def architecture(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Return the name of the network: 'HRFormer-S', 'HRNet-W32', 'ResNet', 'PRTR(...)', ...

    An HRFormer that is none of the published three is described by what makes it.
    """
    state = {key.removeprefix('backbone.'): value for key, value in to_mmpose(state_dict).items()}
    trunk = _trunk(state)
    return prtr_names.architecture(state, trunk) or trunk


def _trunk(state: State) -> str:
    """Return the name of the backbone."""
    if is_hrformer(state):
        return _hrformer(state)
    if trunk := _convolutional_trunk(state):
        return trunk
    for name, pattern in (
        ('Swin', r'(layers|stages)\.\d\.blocks\.\d+\.attn\.(w_msa\.)?' + TABLE),
        ('PVT', r'layers\.\d\.1\.\d+\.attn\.attn\.'),
        ('ViT', r'(encoder\.)?(blocks|layers)\.\d+\.attn\.'),
        ('CSPNeXt', r'stage4\.\d+\.(main_conv|blocks)\.'),
    ):
        if any(re.match(pattern, key) for key in state):
            return name
    return f'an unknown network ({", ".join([*state][:2])}, ...)'


def is_hrformer(keys: Iterable[str]) -> bool:
    """Return whether there are HRFormer's blocks, by names of MMPose."""
    block = re.compile(r'(backbone\.)?stage\d\.\d+\.branches\.\d+\.\d+\.attn\.attn\.qkv\.')
    return any(block.match(key) for key in keys)


def _convolutional_trunk(state: State) -> str | None:
    """Return the name of an HRNet or ResNet and of its last stage, if that is not the fourth."""
    stage = _last(state, r'stage(\d)\.0\.branches\.0\.0\.conv1\.weight$')
    layer = _last(state, r'layer(\d)\.0\.conv1\.weight$')
    if stage > 0:
        width = _length(state, f'stage{stage}.0.branches.0.0.conv1.weight')
        return f'HRNet-W{width}' + ('' if stage == 4 else f' up to stage {stage}')
    if layer == 1 and 'conv2.weight' in state:
        return 'HRNet up to stage 1'
    if layer > 1:
        return 'ResNet' if layer == 4 else f'ResNet up to layer {layer}'
    return None


def _hrformer(state: State) -> str:
    """Return the name of the published instance, or the arguments of another one."""
    first = 'stage4.0.branches.{}.0.'.format
    branches = range(1 + _last(state, r'stage4\.0\.branches\.(\d{1,3})\.'))
    channels = tuple(_length(state, first(i) + 'norm1.weight') for i in branches)
    hidden = _length(state, first(0) + 'ffn.fc1.weight')
    keys = [first(i) + f'attn.attn.{TABLE}' for i in branches]
    tables = [state[key] for key in keys if key in state]
    if not channels or not all((*channels, hidden, *(t.ndim == 2 and t.numel() for t in tables))):
        return INCOMPLETE
    found: dict = {
        'channels': channels,
        'num_modules': (1, *(1 + _last(state, rf'stage{n}\.(\d{{1,3}})\.') for n in (2, 3, 4))),
        'num_blocks': 1 + _last(state, r'stage4\.0\.branches\.0\.(\d{1,3})\.'),
        'mlp_ratio': hidden // channels[0],
    }
    if len(tables) == len(keys):  # heads are derived from the tables
        found['num_heads'] = tuple(table.shape[1] for table in tables)
        found['window_size'] = (isqrt(len(tables[0])) + 1) // 2
    for name, spec in ARCHS.items():
        published = {'num_blocks': 2, 'mlp_ratio': 4, 'window_size': 7, **spec}
        if all(published[key] == value for key, value in found.items()):
            return f'HRFormer-{name[0].upper()}'
    return f'HRFormer({", ".join(f"{key}={value}" for key, value in found.items())})'


def _length(state: Mapping[str, torch.Tensor], key: str) -> int:
    """Return the length of an entry's first dimension, 0 if either is missing."""
    return len(state[key]) if key in state and state[key].ndim else 0


def _last(keys: Iterable[str], pattern: str) -> int:
    """Return the highest number that `pattern` matches."""
    matches = (re.match(pattern, key) for key in keys)
    return max((int(match[1]) for match in matches if match), default=-1)


def num_keypoints(state_dict: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of heatmaps of the head's last layer, or of PRTR's keypoints.

    None without a head.
    """
    if (count := prtr_names.num_keypoints(state_dict)) is not None:
        return count
    if any(map(_CLASSIFICATION.match, state_dict)):
        return None
    state = from_authors(state_dict)
    if (tokens := state.get('head.tokens.keypoint_token')) is not None:
        return tokens.shape[1] if tokens.ndim == 3 else 0
    pattern = r'(keypoint_)?head\.final_layer\.(\d+\.)?weight$'
    sizes = [_length(state, key) for key in state if re.match(pattern, key)]
    return sizes[-1] if sizes else None


def num_classes(state_dict: Mapping[str, torch.Tensor]) -> int | None:
    """Return the number of classes of a classification or segmentation head; None without one."""
    pattern = r'(head\.)?(classifier|cls_head)\.weight$'
    sizes = [_length(state_dict, key) for key in state_dict if re.match(pattern, key)]
    return sizes[-1] if sizes else None


def num_parameters(state_dict: Mapping[str, torch.Tensor]) -> int:
    """Count trainable values; statistics and index buffers are excluded."""
    buffers = (INDEX, 'running_mean', 'running_var', 'num_batches_tracked')
    return sum(value.numel() for key, value in state_dict.items() if not key.endswith(buffers))
