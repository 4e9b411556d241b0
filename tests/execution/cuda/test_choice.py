"""Which operators have kernels on a device, and what happens without Triton."""

import logging
import subprocess
import sys

import pytest
import torch

from hrformer_mmpose.execution import cuda

LOGGER = cuda.__name__
ATTENTION = {'window_attention', 'window_attention_backward'}


@pytest.fixture
def device(monkeypatch):
    """Pretend that there is a GPU; returns a function that sets its compute capability."""
    capability = [(8, 0)]
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability[0])
    forget()
    yield lambda *numbers: (forget(), capability.__setitem__(0, numbers))
    forget()


def forget() -> None:
    for function in (cuda._chosen, cuda._has_device, cuda._warn_once):
        function.cache_clear()
    cuda._state['reason'] = None


class Probe:
    """Stands for `cuda/probe.py`."""

    def __init__(self, error: Exception | None = None):
        self.error, self.calls = error, 0

    def probe(self, device: int) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def probe(monkeypatch):
    def use(error: Exception | None = None) -> Probe:
        probe = Probe(error)
        monkeypatch.setattr(cuda, '_kernels_of', {'probe': probe}.__getitem__)
        return probe

    return use


def chosen() -> set[str]:
    return {name for name in cuda._FILES if cuda.available(name)}


def test_operators_of_a_capability():
    everything = {*cuda._FILES, 'weight_grad'}
    for capability in ((8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)):
        assert cuda.kernels(capability) == everything
    for capability in ((7, 0), (7, 2), (7, 5)):
        assert cuda.kernels(capability) == everything - ATTENTION
    for capability in ((3, 7), (6, 1)):
        assert not cuda.kernels(capability)


def test_the_device_decides(device, probe, caplog):
    tiny = probe()
    assert chosen() == set(cuda._FILES)
    assert cuda.reason() is None
    assert tiny.calls == 1, 'compiled once'
    device(7, 5)
    assert chosen() == set(cuda._FILES) - ATTENTION
    device(6, 1)
    assert not chosen()
    assert not caplog.records


def test_no_such_operator(device, probe):
    probe()
    assert not cuda.available('conv2d')


ERRORS = {
    'missing': (ModuleNotFoundError("No module named 'triton'"), 'Triton is missing'),
    'no compiler': (RuntimeError('\nFailed to find C compiler.\nSet CC.'), 'Failed to find C'),
    'no message': (AssertionError(), 'AssertionError'),
    'other GPU': (
        RuntimeError('CUDA error: no kernel image is available for execution on the device\nFor'),
        'no kernel image is available',
    ),
}


@pytest.mark.parametrize(('error', 'text'), ERRORS.values(), ids=ERRORS)
def test_one_line_and_the_plain_forms(error, text, device, probe, caplog):
    tiny = probe(error)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert not chosen()
        assert not chosen()
    (record,) = caplog.records
    line = record.getMessage()
    assert text in line
    assert '\n' not in line
    assert text in cuda.reason()
    assert tiny.calls == 1


def test_triton_is_missing(device, monkeypatch, caplog):
    """The real import fails."""
    for name in [name for name in sys.modules if name.startswith(f'{LOGGER}.')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'triton', None)
    with caplog.at_level(logging.WARNING, LOGGER):
        assert not chosen()
    assert len(caplog.records) == 1
    assert 'Triton is missing' in cuda.reason()


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without GPU')
def test_pytorch_without_cuda(device, caplog):
    """The real probe fails."""
    pytest.importorskip('triton')
    with caplog.at_level(logging.WARNING, LOGGER):
        assert not chosen()
    assert len(caplog.records) == 1
    assert '\n' not in cuda.reason()


def test_without_a_device(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert not chosen()
    assert cuda.reason() == 'no CUDA device'


def test_triton_is_imported_when_it_is_wanted():
    code = """
import sys, torch
from hrformer_mmpose.execution import cuda, fused_ops
torch.ops.hrformer_mmpose.bn_gelu(torch.randn(3, 4))
print(cuda.available('bn_gelu'), 'triton' in sys.modules)
"""
    out = subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True,
        env={'CUDA_VISIBLE_DEVICES': '', 'HRFORMER_NATIVE': '0'},
    ).stdout  # fmt: skip
    assert out.split() == ['False', 'False']
