"""The authors' networks as recorded in tests/data/official: entries, weights by rule, outputs."""

import json
import zlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import numpy as np
import torch

from .conftest import ROOT

FOLDER = ROOT / 'tests/data/official'
NAMES = ['pose_small', 'pose_base', 'cls_tiny', 'cls_small', 'cls_base', 'seg_small', 'seg_base']
# The lists of segmentation networks are those of the classification networks with another head.
CLASSIFICATION_HEAD = ('incre_modules.', 'downsamp_modules.', 'final_layer.', 'classifier.')
WINDOWS = dict(seg_small=7, seg_base=15)


def entries(name: str) -> dict[str, list[int]]:
    """Name and shape of each entry of a state dict of the authors."""
    if not name.startswith('seg_'):
        return json.loads((FOLDER / f'{name}.json').read_text())
    backbone = {
        f'backbone.{key}': _in_window(key, shape, WINDOWS[name])
        for key, shape in entries(name.replace('seg', 'cls')).items()
        if not key.startswith(CLASSIFICATION_HEAD)
    }
    return backbone | json.loads((FOLDER / 'segmentation_heads.json').read_text())[name]


def _in_window(key: str, shape: list[int], window: int) -> list[int]:
    """Shape of an entry in a network with another window size."""
    if key.endswith('relative_position_bias_table'):
        return [(2 * window - 1) ** 2, shape[1]]
    return [window**2] * 2 if key.endswith('relative_position_index') else shape


@cache
def state_dict(name: str) -> Mapping[str, torch.Tensor]:
    """State dict of the authors' names; the integer index buffers are left out."""
    shapes = {key: shape for key, shape in entries(name).items() if not key.endswith('_index')}
    return MappingProxyType({key: value(key, shape) for key, shape in shapes.items()})


def image(batch: int, height: int, width: int, seed: int) -> torch.Tensor:
    """The input of a recorded output, (B, 3, H, W) float32."""
    values = _generator(seed).normal(0, 1, (batch, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def output(name: str) -> torch.Tensor:
    """A recorded output; the README beside the data lists the names."""
    return torch.from_numpy(_outputs()[name])


@cache
def _outputs() -> dict[str, np.ndarray]:
    outputs = {}
    for name in ('outputs', 'segmentation'):
        with np.load(FOLDER / f'{name}.npz') as file:
            outputs |= file
    return outputs


def maps(channels: list[int], sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Two images' maps, (2, C_j, H_j, W_j), the input of a recorded head."""
    values = (
        _generator(j).normal(0, 1, (2, c, *size))
        for j, (c, size) in enumerate(zip(channels, sizes, strict=True))
    )
    return [torch.from_numpy(value.astype(np.float32)) for value in values]


def labels(low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Random labels in [low, high), the target of recorded losses."""
    return torch.from_numpy(_generator(1).integers(low, high, shape))


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def value(name: str, shape: list[int]) -> torch.Tensor:
    """Values drawn by a generator that the entry's name seeds; scaled by what the entry is."""
    if name.endswith('num_batches_tracked'):
        return torch.tensor(1.0)
    generator = _generator(zlib.crc32(name.encode()))
    if name.endswith('relative_position_bias_table'):
        values = generator.normal(0, 0.5, shape)
    elif name.endswith(('running_mean', 'bias')):
        values = generator.normal(0, 0.1, shape)
    elif name.endswith('running_var') or len(shape) == 1:  # variance or scale of a norm
        values = generator.uniform(0.5, 1.5, shape)
    else:
        values = generator.normal(0, np.prod(shape[1:]) ** -0.5, shape)
    return torch.from_numpy(values).float()
