"""Counts against answers worked out by hand."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.benchmark import complexity
from hrformer_mmpose.benchmark.complexity import count, count_step, extrapolate, saved_bytes
from hrformer_mmpose.execution import cpu, policy
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.execution.linear import FusedConv, FusedLinear
from tests.backbones.test_arch import mmpose_extra

fused = torch.ops.hrformer_mmpose
HALVES = (torch.bfloat16, torch.float16)


class Backbone(nn.Sequential):
    """Layers that return a tuple of maps, as a backbone does."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (super().forward(x),)


def test_flops_are_multiply_adds():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(20, 5))
    found = count(network, torch.rand(2, 3, 4, 5))
    assert found.flops == 2 * (8 * 3 * 9 * 20) + 2 * (8 * 20 * 5)


def test_attention_counts_both_products():
    q, k = torch.rand(2, 3, 7, 16), torch.rand(2, 3, 9, 16)
    found = count(lambda q, k: F.scaled_dot_product_attention(q, k, k), q, k)
    assert found.flops == 2 * 3 * 7 * 9 * (16 + 16)


def test_attention_of_padded_windows_counts_the_maps_own_queries():
    qkv, bias, grad = torch.rand(1, 8, 6, 12), torch.rand(12), torch.rand(1, 8, 6, 4)
    products = 8 * 6 * 49 * 4
    found = count(lambda x: fused.window_attention(x, bias, None, 2, [7, 7]), qkv)
    assert found.flops == 2 * products
    found = count(lambda x: fused.window_attention_backward(x, bias, None, grad, 2, [7, 7]), qkv)
    assert found.flops == 5 * products


@pytest.mark.parametrize('dtype', [torch.float32, *HALVES])
def test_a_fused_operator_is_one_call(dtype):
    """Also where it runs in its plain form, which calls several operators."""
    x, scale, offset = (torch.rand(*shape).to(dtype) for shape in ((5, 4), (4,), (4,)))
    found = count(lambda x: fused.bn_gelu(x, scale, offset), x)
    assert found.calls == 1
    assert found.traffic == x.element_size() * (20 + 4 + 4 + 20)
    assert [*found.operators] == ['hrformer_mmpose.bn_gelu']


def test_the_depth_wise_convolution_in_a_fused_operator_counts():
    x, weight, bias = torch.rand(2, 4, 3, 5), torch.rand(5, 9), torch.rand(5)
    assert count(lambda x: fused.gelu_dwconv_gelu(x, weight, bias), x).flops == 9 * 2 * 4 * 3 * 5


def test_the_product_in_a_fused_operator():
    T, C, D = 2 * 4 * 3, 5, 7
    x, grad = torch.rand(2, 4, 3, C), torch.rand(2, 4, 3, D)
    assert count(lambda x: fused.weight_grad(grad, x), x).flops == T * C * D


@pytest.mark.skipif(not policy.HAS_ONEDNN, reason='a build without oneDNN')
def test_products_by_onednn_count():
    linear = FusedLinear(torch.rand(7, 5), torch.rand(7))
    x, residual = torch.rand(3, 5), torch.rand(3, 7)
    assert count(linear, x).flops == count(linear, x, residual).flops == 3 * 5 * 7
    conv = FusedConv(torch.rand(8, 2, 3, 3), torch.rand(8), 1, 2)
    x, residual = torch.rand(1, 4, 6, 5), torch.rand(1, 8, 6, 5)
    assert count(conv, x).flops == count(conv, x, residual).flops == 8 * 30 * 2 * 9


def test_views_are_free_and_traffic_is_read_and_written():
    def network(x):
        return (x.transpose(0, 1).reshape(6)[1:].view(5) + 1).relu()

    found = count(network, torch.rand(2, 3))
    # The reshape copies 6 numbers, the sum and the ReLU read and write 5 each.
    assert found.calls == 3
    assert found.traffic == 4 * (2 * 6 + 2 * 5 + 2 * 5)


@pytest.mark.parametrize(
    ('call', 'numbers'),
    [
        (lambda x: x.expand(4, 3) + 1, 3 + 12),  # an expanded axis is read once
        (lambda x: torch.empty(3).copy_(x), 3 + 3),  # the target is not read
        (lambda x: x.add_(1), 3 + 3),
        (lambda x: torch.add(x, x, out=torch.empty(3)), 3 + 3 + 3),
        (lambda x: torch.where(x > 2, x, 0.5), None),
    ],
)
def test_traffic(call, numbers):
    found = count(call, torch.zeros(1, 3) if numbers == 15 else torch.zeros(3))
    if numbers is None:  # compared: 3 floats -> 3 bytes; chosen: 3 bytes, 3 floats, a scalar
        assert found.traffic == (12 + 3) + (3 + 12 + 4 + 12) + 4
    else:
        assert found.traffic == 4 * numbers


def test_a_training_step_counts_the_backward_pass():
    network = Backbone(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=4))
    found = count_step(network, torch.rand(2, 3, 5, 6), torch.float32)
    full, depth_wise = 2 * 30 * 4 * 3 * 9, 2 * 30 * 4 * 9
    # The image has no gradient: one product of the first layer less.
    assert found.flops == 2 * full + 3 * depth_wise
    assert found.operators['aten.convolution_backward'].calls == 2
    assert found.kept == 4 * (2 * 3 * 30 + 2 * 4 * 30 + 2 * 4 * 30)  # both inputs, the output
    assert all(p.grad is None for p in network.parameters())


def test_bytes_kept_for_the_backward_pass():
    x = torch.rand(10, requires_grad=True)
    layer = nn.Linear(10, 4)
    # exp keeps its output, which the linear layer keeps too; the weight is no activation.
    assert saved_bytes(_Exp(layer), x) == 4 * 10


@pytest.mark.parametrize('dtype', HALVES)
def test_autocast_keeps_copies_of_weights(dtype):
    layer, x = nn.Linear(10, 4), torch.rand(3, 10, requires_grad=True)
    with torch.autocast('cpu', dtype):
        assert saved_bytes(layer, x) == 2 * (30 + 40)


def test_a_checkpoint_keeps_its_input():
    layers = nn.Sequential(nn.Linear(10, 20), nn.GELU(), nn.Linear(20, 10), nn.GELU())
    x = torch.rand(3, 10, requires_grad=True)
    assert saved_bytes(layers, x) == 4 * (30 + 2 * 60 + 30)
    found = saved_bytes(lambda x: checkpoint(layers, x, use_reentrant=False), x)
    assert found == 4 * 30


def test_buffers_are_not_kept_for_the_backward_pass():
    norm, x = nn.BatchNorm2d(5).eval(), torch.rand(2, 5, 3, 3, requires_grad=True)
    assert saved_bytes(norm, x) == 4 * 90  # not the running statistics


class _Exp(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.exp())


def test_large_batches_are_extrapolated():
    two, three = complexity.Counts(10, 200, 60, 32), complexity.Counts(10, 260, 90, 40)
    assert extrapolate(two, three, 32) == complexity.Counts(10, 2000, 960, 272)


@pytest.fixture(scope='module')
def steps():
    network = HRFormer(arch='tiny')
    return functools.cache(lambda n, dtype: count_step(network, torch.rand(n, 3, 64, 32), dtype))


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)]
)
def test_counts_are_linear_in_the_batch(steps, dtype):
    assert extrapolate(steps(2, dtype), steps(3, dtype), 5) == steps(5, dtype)


def test_float16_counts_as_bfloat16(steps):
    assert steps(3, torch.float16) == steps(3, torch.bfloat16)


@pytest.mark.skipif(not cpu.available(), reason='without kernels the plain forms are called')
def test_the_recompute_path_is_counted(steps):
    """Its operators appear, which hooks for all modules would turn off."""
    operators = steps(3, torch.float32).operators
    blocks = sum(isinstance(layer, HRFormerBlock) for layer in HRFormer(arch='tiny').modules())
    assert operators['hrformer_mmpose.bn_statistics'].calls == 2 * blocks
    assert 'aten.gelu_backward' not in operators


def test_the_networks_flops_equal_mmposes():
    mmpose = pytest.importorskip('mmpose.models.backbones')
    image = torch.rand(1, 3, 64, 96)
    theirs = mmpose.HRFormer(extra=mmpose_extra('tiny'), norm_cfg=dict(type='BN'))
    theirs.eval()
    assert count(HRFormer(arch='tiny').eval(), image).flops == count(theirs, image).flops
