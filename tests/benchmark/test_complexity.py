"""Counts against answers worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.benchmark import complexity
from tests.backbones.test_arch import mmpose_extra


def test_flops_are_multiply_adds():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(20, 5))
    found = complexity.count(network, torch.rand(2, 3, 4, 5))
    assert found.flops == 2 * (8 * 3 * 9 * 20) + 2 * (8 * 20 * 5)


def test_attention_counts_both_products():
    q, k = torch.rand(2, 3, 7, 16), torch.rand(2, 3, 9, 16)
    found = complexity.count(lambda q, k: F.scaled_dot_product_attention(q, k, k), q, k)
    assert found.flops == 2 * 3 * 7 * 9 * (16 + 16)


def test_views_are_free_and_traffic_is_read_and_written():
    def network(x):
        return (x.transpose(0, 1).reshape(6)[1:].view(5) + 1).relu()

    found = complexity.count(network, torch.rand(2, 3))
    # The reshape copies 6 numbers, the sum and the ReLU read and write 5 each.
    assert found.calls == 3
    assert found.traffic == 4 * (2 * 6 + 2 * 5 + 2 * 5)


def test_bytes_kept_for_the_backward_pass():
    x = torch.rand(10, requires_grad=True)
    layer = nn.Linear(10, 4)
    # exp keeps its output, which the linear layer keeps too; the weight is no activation.
    assert complexity.saved_bytes(_Exp(layer), x) == 4 * 10


class _Exp(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.exp())


def test_the_networks_flops_equal_mmposes():
    mmpose = pytest.importorskip('mmpose.models.backbones')
    image = torch.rand(1, 3, 64, 96)
    theirs = mmpose.HRFormer(extra=mmpose_extra('tiny'), norm_cfg=dict(type='BN'))
    theirs.eval()
    assert (
        complexity.count(HRFormer(arch='tiny').eval(), image).flops
        == complexity.count(theirs, image).flops
    )
