"""Devices and precisions that `PoseEstimator` is asked for, on machines with and without a GPU."""

from contextlib import nullcontext

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose.errors import ConfigError, DeviceError
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
    ('precision', 'dtype'),
    [('float32', None), ('auto', None), ('float16', None), ('bfloat16', torch.bfloat16)],
)
def test_precision_on_the_cpu_of_a_machine_with_a_gpu(precision, dtype, one_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda *args: (9, 0))
    assert half_precision(precision, torch.device('cpu')) is dtype
    on_gpu = half_precision('auto', torch.device('cuda'))
    assert on_gpu is torch.bfloat16
