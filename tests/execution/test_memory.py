"""Large batches on CPUs: the same maps in parts, and no page faults for memory that was freed."""

import ctypes
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.inference import InferenceHRFormer
from hrformer_mmpose.execution import memory
from tests.execution.test_inference import agree, network

MIB = 2**20

# Page faults while blocks of each size are allocated, filled and freed for the third time.
FAULTS = """
import ctypes, json, resource
from hrformer_mmpose.execution import memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def faults(size):
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [libc.malloc(size) for _ in range(4)]
        for block in blocks:
            libc.memset(block, 1, size)
        for block in blocks:
            libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

small, large = 31 * 2**20, 64 * 2**20
before = faults(small)
kept = memory.keep_for_inference()
inference = faults(small), faults(large)
memory.keep_for_training()
memory.keep_for_inference.cache_clear()
memory.keep_for_inference()  # changes nothing from here on
print(json.dumps([kept, before, *inference, faults(large)]))
"""


def run_faults() -> list:
    result = subprocess.run(
        [sys.executable, '-c', FAULTS],
        env={name: value for name, value in os.environ.items() if name not in memory.VARIABLES},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), 'gnu_get_libc_version'), reason='glibc only')
def test_freed_memory_serves_the_next_maps():
    kept, before, small, large, training = run_faults()
    pages = 31 * MIB // 4096
    assert kept
    assert before > pages  # of 4 blocks
    assert small < pages / 100
    assert large > 4 * pages
    assert training < pages / 100


@pytest.fixture
def uncalled():
    """Forget calls of other tests, and of this one on exit."""
    functions = memory.keep_for_inference, memory.keep_for_training
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


@pytest.mark.parametrize('name', memory.VARIABLES)
def test_the_users_settings_of_the_allocator_stay(uncalled, monkeypatch, name):
    monkeypatch.setenv(name, '')
    assert not memory.keep_for_inference()
    assert not memory.keep_for_training()


@pytest.mark.parametrize(
    ('batch', 'bytes_per_image', 'sizes'),
    [(8, 4 * MIB, [8]), (9, 4 * MIB, [5, 4]), (32, 3 * MIB, [8] * 4), (3, 33 * MIB, [1] * 3)],
)
def test_sizes_of_the_parts(batch, bytes_per_image, sizes):
    parts = memory.split(torch.arange(batch), bytes_per_image)
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).tolist() == list(range(batch))


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """Sizes of the batches that the inference network computes at once."""
    sizes, forward = [], InferenceHRFormer._forward

    def counted(self, x):
        sizes.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(InferenceHRFormer, '_forward', counted)
    return sizes


@torch.no_grad()
def test_parts_give_the_maps_of_the_batch(passes, monkeypatch):
    model, x = network(), torch.randn(5, 3, 70, 50)
    fused = model.fuse_for_inference()
    # 18 by 13 positions, four bytes for each of 256 channels: two images at once.
    monkeypatch.setattr(memory, 'LARGEST_KEPT_BLOCK', 2 * 4 * 256 * 18 * 13)
    maps = fused(x)
    assert passes == [2, 2, 1]
    assert agree(maps, model(x))
    assert all(y.is_contiguous(memory_format=torch.channels_last) for y in maps)
    assert [len(y) for y in fused(x[:0])] == [0] * 4


@torch.no_grad()
def test_a_hook_gets_the_whole_batch(passes, monkeypatch):
    model, x = network(), torch.randn(3, 3, 64, 48)
    seen = []
    model.stage3[0].register_forward_hook(lambda module, args, output: seen.append(len(args[0][0])))
    monkeypatch.setattr(memory, 'LARGEST_KEPT_BLOCK', 1)
    model.fuse_for_inference()(x)
    assert passes == seen == [3]


class LargestOutput(TorchDispatchMode):
    """Record the bytes of the largest tensor that an operator returns."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor):
            self.bytes = max(self.bytes, output.numel() * output.element_size())
        return output


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
@torch.inference_mode()
def test_the_largest_map_is_known(arch, no_init, monkeypatch):
    fused, x = HRFormer(arch=arch).eval().fuse_for_inference(), torch.randn(1, 3, 96, 64)
    fused(x)  # prepares weights, which may be larger
    sizes = []
    monkeypatch.setattr(memory, 'split', lambda x, size: sizes.append(size) or (x,))
    with LargestOutput() as largest:
        fused(x)
    assert sizes == [largest.bytes]


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_training_on_a_cpu_keeps_all(monkeypatch, device):
    pytest.importorskip('mmpose')
    from mmengine.config import Config

    from hrformer_mmpose.cli import train

    calls = []
    runner = SimpleNamespace(train=lambda: calls.append('train'))
    monkeypatch.setattr(train, 'load_config', lambda args: Config())
    monkeypatch.setattr(train, 'build_runner', lambda cfg: runner)
    monkeypatch.setattr(train, 'get_device', lambda: device)
    monkeypatch.setattr(memory, 'keep_for_training', lambda: calls.append('keep'))
    train.run(train.parser().parse_args(['config.py']))
    assert calls == (['keep', 'train'] if device == 'cpu' else ['train'])
