"""Fixtures shared by all tests."""

import importlib.util
import os
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hrformer_mmpose  # noqa: F401  (before any test imports mmpose: makes it importable)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / 'shared'

os.environ.setdefault('MPLBACKEND', 'Agg')


@pytest.fixture(scope='session')
def shared() -> Path:
    """Folder of recorded outputs and real images, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip('needs the folder ../shared')
    return SHARED


@pytest.fixture(scope='session')
def synthetic_root(tmp_path_factory) -> Path:
    """A small generated data set in COCO's layout."""
    from hrformer_mmpose.synthetic.dataset import generate

    return generate(tmp_path_factory.mktemp('data') / 'people', num_train=8, num_val=5, seed=3)


@pytest.fixture
def no_init(monkeypatch):
    """Skip the initialization of weights, which takes seconds in a large network."""
    for name in dir(torch.nn.init):
        if name.endswith('_') and not name.startswith('_'):
            monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)


@pytest.fixture(scope='session', autouse=True)
def _unformatted_configs():
    """Leave a config's text as it is: MMEngine's formatting takes longer than a short training."""
    if importlib.util.find_spec('mmengine') is None:
        yield
        return
    from mmengine.config import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, 'FormatCode', lambda text, **_: (text, True))
        yield


@pytest.fixture(autouse=True)
def _global_state():
    """Seed all generators, and restore the number of threads and MMEngine's scope on exit."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if registry := sys.modules.get('mmengine.registry'):
        registry.DefaultScope._instance_dict.clear()


def relative_error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2 norm of the difference."""
    return float((ours - expected).norm() / expected.norm())


def without_recompute(network: torch.nn.Module) -> torch.nn.Module:
    """Make a network take the plain path in training; returns it."""
    for module in network.modules():
        module.with_recompute = False
    return network
