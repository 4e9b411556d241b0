"""PRTR as recorded from its authors' code in tests/data/prtr: entries, weights by rule, outputs."""

import itertools
import json
import re
from functools import cache

import numpy as np
import torch

from . import official
from .conftest import ROOT

FOLDER = ROOT / 'tests/data/prtr'
NAMES = ['res50', 'res101', 'hrnet_w32']
SIZES = dict(res50=(128, 96), hrnet_w32=(160, 96))  # (height, width) of the recorded inputs
# Factors without which all queries would give nearly the same output, and HRNet's map be huge.
SCALES = {
    r'backbone\.0\.body\.final_layer\.0\.weight': 1e-4,
    r'query_embed\.weight': 16,
    r'transformer\..*\.linear2\.weight': 0.3,
    r'transformer\.encoder\..*\.out_proj\.weight': 0.3,
    r'transformer\.decoder\..*\.out_proj\.weight': 3,
    r'.*\.multihead_attn\.in_proj_weight': 3,
}


@cache
def _patterns() -> dict[str, dict[str, list[int]]]:
    return json.loads((FOLDER / 'names.json').read_text())


def entries(name: str) -> dict[str, list[int]]:
    """Name and shape of each entry; `0-5` and `bias|weight` in the file stand for several."""
    shapes = {}
    for pattern, shape in _patterns()[name].items():
        options = []
        for part in pattern.split('.'):
            first, is_range, last = part.partition('-')
            options.append(range(int(first), int(last) + 1) if is_range else part.split('|'))
        shapes |= {'.'.join(map(str, parts)): shape for parts in itertools.product(*options)}
    return shapes


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """State dict under the authors' names."""
    return {key: official.value(key, shape) * _scale(key) for key, shape in entries(name).items()}


def _scale(key: str) -> float:
    return next((scale for pattern, scale in SCALES.items() if re.fullmatch(pattern, key)), 1)


def image(name: str) -> torch.Tensor:
    """Input of the recorded outputs, (2, 3, H, W)."""
    height, width = SIZES[name]
    return official.image(2, height, width, seed=height + width)


def target() -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates (2, 17, 2), 0 where there is no label, and weights (2, 17)."""
    generator = np.random.Generator(np.random.PCG64(17))
    coordinates = generator.uniform(-0.1, 1.1, (2, 17, 2)).astype(np.float32)
    weights = (generator.uniform(0, 1, (2, 17, 1)) < 0.7).astype(np.float32)
    return torch.from_numpy(coordinates * weights), torch.from_numpy(weights[..., 0])


@cache
def outputs() -> dict[str, torch.Tensor]:
    """Recorded outputs; the README beside the data lists them."""
    with np.load(FOLDER / 'outputs.npz') as file:
        return {key: torch.from_numpy(value) for key, value in file.items()}
