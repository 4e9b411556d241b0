"""Devices and precisions that `PoseEstimator` is asked for, on machines with and without a GPU."""

from contextlib import nullcontext

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose.errors import ConfigError, DeviceError
from hrformer_mmpose.execution import precision, processor
from hrformer_mmpose.inference.device import half_precision, select_device
from hrformer_mmpose.inference.torch_network import PoseEstimator

CONFIG = 'hrformer_tiny_coco_256x192'


@pytest.fixture
def one_gpu(monkeypatch):
    """Pretend that there is a GPU, which takes no work."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'device', lambda device: nullcontext())


def test_a_gpu_that_is_not_there():
    if torch.cuda.is_available():
        pytest.skip('there is one')
    with pytest.raises(ConfigError, match="device='cuda': PyTorch finds no CUDA device here"):
        PoseEstimator(CONFIG, 'weights.pth', 'cuda')


@pytest.mark.parametrize('device', ['meta', 'mps', 'xpu'])
def test_a_device_on_which_nothing_can_be_computed(device):
    if device != 'meta' and torch.get_device_module(device).is_available():
        pytest.skip('there is one')
    with pytest.raises(ConfigError, match=f"^device='{device}': PyTorch cannot compute on it here"):
        PoseEstimator(CONFIG, 'weights.pth', device)


def test_a_gpu_beyond_the_last(one_gpu):
    with pytest.raises(ConfigError, match="device='cuda:3': this machine has 1 CUDA device"):
        PoseEstimator(CONFIG, 'weights.pth', 'cuda:3')


@pytest.mark.parametrize(
    ('message', 'line'),
    [
        (
            'CUDA error: no kernel image is available for execution on the device',
            'this build of PyTorch has no kernels for this GPU',
        ),
        ('CUDA error: out of memory', 'out of memory: other programs use all of cuda:0'),
    ],
)
def test_a_gpu_that_cannot_be_used(message, line, one_gpu, monkeypatch):
    def failing(*args, **kwargs):
        raise torch.AcceleratorError(message)

    monkeypatch.setattr(torch, 'zeros', failing)
    with pytest.raises(DeviceError, match=f'^{line}'):
        select_device('cuda:0')


@pytest.mark.parametrize(
    ('types', 'precision', 'dtype'),
    [
        (set(), 'float32', None),
        (set(), 'auto', None),
        (set(), 'float16', None),
        (set(), 'bfloat16', torch.bfloat16),
        ({torch.bfloat16}, 'auto', torch.bfloat16),
        ({torch.bfloat16}, 'float16', None),
        ({torch.bfloat16, torch.float16}, 'auto', torch.bfloat16),
        ({torch.bfloat16, torch.float16}, 'float16', torch.float16),
    ],
)
def test_precision_on_the_cpu_of_a_machine_with_a_gpu(
    types, precision, dtype, one_gpu, monkeypatch
):
    monkeypatch.setattr(processor, 'half_types', lambda: types)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *args: (9, 0))
    assert half_precision(precision, torch.device('cpu')) is dtype
    on_gpu = half_precision('auto', torch.device('cuda'))
    assert on_gpu is torch.bfloat16


def test_bfloat16_without_instructions_says_that_it_is_slow(monkeypatch):
    lines = []
    monkeypatch.setattr(processor, 'half_types', lambda: frozenset())
    monkeypatch.setattr(precision, '_log', lines.append)
    assert half_precision('bfloat16', torch.device('cpu')) is torch.bfloat16
    (line,) = lines
    assert 'no instructions for bfloat16' in line


def test_the_instructions_of_the_processor():
    sets = processor.instructions()
    assert all(name == name.lower() and '_' not in name for name in sets)
    assert (torch.bfloat16 in processor.half_types()) == bool({'avx512bf16', 'amxbf16'} & sets)
