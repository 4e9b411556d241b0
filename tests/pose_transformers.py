"""The authors' TokenPose and TransPose as recorded in tests/data/pose_transformers."""

import json
import lzma
from functools import cache

import numpy as np
import pytest
import torch
from mmpose.registry import MODELS

from hrformer_mmpose import zoo
from hrformer_mmpose.layers.sine_embedding import sine_embedding

from . import official
from .conftest import ROOT

FOLDER = ROOT / 'tests/data/pose_transformers'
CONFIGS = {
    'tokenpose_s_v1': 'tokenpose_s_v1_coco_256x192',
    'tokenpose_s_v2': 'tokenpose_s_v2_coco_256x192',
    'tokenpose_b': 'tokenpose_b_coco_256x192',
    'tokenpose_l_d6': 'tokenpose_l_d6_coco_256x192',
    'tokenpose_l_d24': 'tokenpose_l_d24_coco_256x192',
    'tokenpose_l_d24_384': 'tokenpose_l_d24_coco_384x288',
    'transpose_r_a3': 'transpose_r_a3_coco_256x192',
    'transpose_r_a4': 'transpose_r_a4_coco_256x192',
    'transpose_h_a4': 'transpose_h_a4_coco_256x192',
    'transpose_h_a6': 'transpose_h_a6_coco_256x192',
}
GRIDS = {256: (16, 16), 288: (16, 18), 768: (32, 24), 3072: (64, 48)}


@cache
def entries(name: str) -> dict[str, list[int]]:
    """Name and shape of each entry of a state dict of the authors."""
    with lzma.open(FOLDER / 'entries.json.xz', 'rt') as file:
        return json.load(file)[name]


def output(name: str) -> torch.Tensor:
    """A recorded array; the README beside the data lists the names."""
    with np.load(FOLDER / 'outputs.npz') as file:
        return torch.from_numpy(file[name])


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """State dict of the authors' names: weights by rule, and the position embedding."""
    state = {key: official.value(key, shape) for key, shape in entries(name).items()}
    for key, value in state.items():
        if key.endswith('pos_embedding'):
            tokens = value.numel() // value.shape[-1]
            embedding = sine_embedding(*GRIDS[tokens], value.shape[-1])
            state[key] = embedding.reshape(value.shape)
    return state


def build(name: str) -> torch.nn.Module:
    """Build the network of a config, without its pre-trained weights."""
    cfg = zoo.read_config(CONFIGS[name])
    cfg.model.backbone.pop('init_cfg', None)
    return MODELS.build({**cfg.model, '_scope_': 'mmpose'}).eval()


def networks(*quick: str) -> list:
    """Parameters of a test over all networks, slow but for those named."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in CONFIGS]
