"""The fusions' strided depth-wise convolution under a CPU's autocast."""

import copy

import pytest
import torch
from torch import nn

from hrformer_mmpose.backbones.hrformer import HRFormer
from hrformer_mmpose.execution import depthwise
from hrformer_mmpose.execution.depthwise import DepthwiseConv2d
from tests.conftest import relative_error


def make_conv(channels: int = 24) -> DepthwiseConv2d:
    torch.manual_seed(0)
    return DepthwiseConv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)


def gradients(conv: nn.Conv2d, x: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return output and gradients of x and of the weight, in float64."""
    x = x.to(dtype, memory_format=torch.channels_last).requires_grad_()
    with torch.autocast('cpu', dtype, enabled=dtype is not torch.float64):
        out = conv(x)
    assert out.dtype is dtype
    grad = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
    return [
        out.detach().double(),
        *(y.double() for y in torch.autograd.grad(out, (x, conv.weight), grad)),
    ]


@pytest.fixture
def calls(monkeypatch) -> list:
    """Shapes of the gradients that `dwconv_backward` was called with."""
    made, own = [], depthwise.fused_ops.dwconv_backward

    def record(grad, *args):
        made.append(tuple(grad.shape))
        return own(grad, *args)

    monkeypatch.setattr(depthwise.fused_ops, 'dwconv_backward', record)
    return made


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('size', [(8, 6), (7, 5), (1, 1)], ids=str)
def test_gradients_are_as_exact_as_the_plain_ones(size, dtype, calls):
    ours = make_conv()
    ours.weight.data = ours.weight.data.to(dtype).float()
    plain = nn.Conv2d(24, 24, 3, 2, 1, groups=24, bias=False)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 24, *size).to(dtype)
    exact = gradients(copy.deepcopy(plain).double(), x, torch.float64)
    baseline, results = gradients(plain, x, dtype), gradients(ours, x, dtype)
    assert len(calls) == 1
    for result, bound, value in zip(results, baseline, exact, strict=True):
        assert relative_error(result, value) < 2 * relative_error(bound, value) + 1e-6


def test_an_hrformer_computes_them_in_float32_under_autocast_alone(calls):
    network = HRFormer('tiny')
    maps = network(torch.rand(2, 3, 32, 32))
    sum(y.float().mean() for y in maps).backward()
    assert calls == []
    with torch.autocast('cpu', torch.bfloat16):
        maps = network(torch.rand(2, 3, 32, 32))
    sum(y.float().mean() for y in maps).backward()
    strided = [m for m in network.modules() if type(m) is DepthwiseConv2d]
    assert len(calls) == sum(m.weight.grad is not None for m in strided) > 0


def test_other_settings_take_the_plain_path(calls):
    conv = make_conv()
    conv.padding_mode = 'reflect'
    conv._reversed_padding_repeated_twice = [1] * 4
    plain = nn.Conv2d(24, 24, 3, 2, 1, groups=24, bias=False, padding_mode='reflect')
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 24, 8, 6)
    pairs = zip(*(gradients(c, x, torch.bfloat16) for c in (conv, plain)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert calls == []


def test_gradients_of_gradients():
    conv, image = make_conv(), torch.randn(1, 24, 4, 4)
    plain = nn.Conv2d(24, 24, 3, 2, 1, groups=24, bias=False)
    plain.load_state_dict(conv.state_dict())
    results = []
    for layer, dtype in ((conv, torch.bfloat16), (plain, torch.float32)):
        x = image.to(dtype).requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, enabled=dtype is torch.bfloat16):
            out = layer(x)
        (grad,) = torch.autograd.grad(out.float().square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(grad.float().square().sum(), (x, layer.weight)))
    for ours, expected in zip(*results, strict=True):
        assert relative_error(ours.float(), expected) < 0.02
