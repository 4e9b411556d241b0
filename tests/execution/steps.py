"""Training steps of a block, and their comparison."""

import pytest
import torch
from torch import nn

from hrformer_mmpose.execution import recompute
from hrformer_mmpose.execution.block import HRFormerBlock


def make_block(**settings) -> HRFormerBlock:
    """Build a block in float64, so that any difference is an error, not rounding."""
    torch.manual_seed(3)
    block = HRFormerBlock(8, 2, (3, 4), 2.0, **settings).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block.train()


def step(
    layer: nn.Module, x: torch.Tensor, backward_passes: int = 1
) -> tuple[torch.Tensor, torch.Tensor, dict, dict]:
    """Return output, gradient of the input, gradients of the parameters, and buffers of a step."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    out = layer(x)
    loss = (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum()
    for index in range(backward_passes):
        loss.backward(retain_graph=index + 1 < backward_passes)
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    return out.detach(), x.grad, gradients, dict(layer.named_buffers())


def compare(ours, expected, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    for a, b in zip(ours[:2], expected[:2], strict=True):
        assert torch.allclose(a, b, rtol=rtol, atol=atol)
    for a, b in zip(ours[2:], expected[2:], strict=True):
        assert a.keys() == b.keys()
        for name, value in b.items():
            assert (a[name] is None) == (value is None), name
            if value is not None:
                assert torch.allclose(a[name], value, rtol=rtol, atol=atol), name


@pytest.fixture
def recomputed(monkeypatch) -> list[str]:
    """Names of the branches that took the fast path, in order."""
    calls: list[str] = []
    for name in ('attention', 'ffn'):
        function = getattr(recompute, name)
        monkeypatch.setattr(
            recompute, name, lambda *a, f=function, name=name: calls.append(name) or f(*a)
        )
    return calls
