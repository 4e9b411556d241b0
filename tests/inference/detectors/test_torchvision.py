"""Detectors of torchvision, of which a stand-in has one."""

import sys

import numpy as np
import pytest
import torch

from hrformer_mmpose.errors import ConfigError, WeightsError
from hrformer_mmpose.inference.detectors import TorchvisionDetector

from .helpers import message, picture


@pytest.mark.usefixtures('torchvision')
def test_torchvision_boxes(weights):
    rows = TorchvisionDetector(weights)(picture(40, 60, (20, 10, 30, 35)))
    np.testing.assert_allclose(rows, [[20, 10, 30, 35, 0.6], [0, 0, 5, 5, 0.35]], rtol=1e-6)
    assert rows.dtype == np.float32
    assert len(TorchvisionDetector(weights, threshold=0.05)(picture(9, 9, (2, 1, 3, 3)))) == 3


@pytest.mark.usefixtures('torchvision')
def test_torchvision_mistakes(tmp_path, weights):
    missing = str(tmp_path / 'no.pth')
    assert missing in message(WeightsError, TorchvisionDetector, missing)
    assert 'download' in message(WeightsError, TorchvisionDetector, 'https://x.org/weights.pth')
    for model in ('yolo', 'FasterRCNN', '__doc__'):
        assert model in message(ConfigError, TorchvisionDetector, weights, model)
    assert 'nowhere' in message(ConfigError, TorchvisionDetector, weights, device='nowhere')
    other = str(tmp_path / 'other.pth')
    torch.save({'depth': torch.tensor(1.0)}, other)
    text = message(WeightsError, TorchvisionDetector, other)
    assert other in text
    assert 'level' in text


def test_without_torchvision(monkeypatch, weights):
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    assert 'pip install torchvision' in message(ImportError, TorchvisionDetector, weights)
