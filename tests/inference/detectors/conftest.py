"""Tests that need ONNX are skipped without it; torchvision has a stand-in with one model."""

import sys
import types

import pytest
import torch


@pytest.fixture
def _onnx():
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')


class RedNetwork(torch.nn.Module):
    """Its one weight is the level above which red pixels are the person."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(9.0))

    def forward(self, images):
        assert not self.training
        (image,) = images
        assert image.dtype == torch.float32
        assert image.max() == 1
        y, x = torch.nonzero(image[0] > self.level, as_tuple=True)
        box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        other = torch.tensor([0.0, 0.0, 5.0, 5.0])
        boxes = torch.stack([other, box, box, other])
        labels = torch.tensor([1, 1, 1, 3])
        return [dict(boxes=boxes, labels=labels, scores=torch.tensor([0.35, 0.6, 0.1, 0.99]))]


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in for the package, with one model."""

    def fasterrcnn_resnet50_fpn(weights, weights_backbone):
        assert weights is weights_backbone is None, 'nothing may be downloaded'
        return RedNetwork()

    detection = types.ModuleType('torchvision.models.detection')
    detection.fasterrcnn_resnet50_fpn = fasterrcnn_resnet50_fpn
    detection.FasterRCNN = RedNetwork
    models = types.ModuleType('torchvision.models')
    models.detection = detection
    package = types.ModuleType('torchvision')
    package.models = models
    for module in (package, models, detection):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def weights(tmp_path) -> str:
    path = tmp_path / 'weights.pth'
    torch.save({'level': torch.tensor(0.5)}, path)
    return str(path)
