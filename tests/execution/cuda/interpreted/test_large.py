"""Maps of more than 2^31 numbers: the last program of each kernel.

Memory of such a map is reserved and not used: only what the last program reads and writes.
"""

import pytest
import torch
from torch import Tensor
from triton.runtime import interpreter

from hrformer_mmpose.execution import cuda
from tests.execution.cuda.interpreted import references as plain

LAST = 4096  # tokens that are compared
C = 64
T = 2**25 + LAST  # of a map of more than 2^31 numbers


@pytest.fixture
def _last_program_only(monkeypatch):
    """Run the last program along the first axis, under its own number."""
    builder = interpreter.interpreter_builder
    set_dim, set_index = builder.set_grid_dim, builder.set_grid_idx
    call = interpreter.GridExecutor.__call__

    def call_last(self, *args, **kwargs):
        whole = (*self.grid, 1, 1)[:3]
        monkeypatch.setattr(builder, 'set_grid_dim', lambda *_: set_dim(*whole))
        monkeypatch.setattr(builder, 'set_grid_idx', lambda x, y, z: set_index(whole[0] - 1, y, z))
        self.grid = (1, *whole[1:])
        return call(self, *args, **kwargs)

    monkeypatch.setattr(interpreter.GridExecutor, '__call__', call_last)


def large(*shape: int) -> Tensor:
    """Make a map whose last tokens are random numbers."""
    x = torch.empty(shape, dtype=torch.float16)  # `zeros` would use the memory
    assert x.numel() > 2**31
    tail = last(x)
    tail.copy_(torch.randn(tail.shape, generator=torch.Generator().manual_seed(0)))
    return x


def last(x: Tensor) -> Tensor:
    return x.flatten(0, -2)[-LAST:]


def agree(ours: Tensor, expected: Tensor, tokens: int) -> None:
    """Compare the last tokens, which the last program wrote."""
    ours = ours.flatten(0, -2)[-tokens:].double()
    assert (ours - expected.flatten(0, -2)[-tokens:]).norm() < 1e-3 * expected.norm()


@pytest.mark.usefixtures('_last_program_only')
def test_tokens():
    x, p = large(1, T, C), torch.ones(C)
    tail = last(x).double()
    agree(cuda.bn_gelu(x, p, p), plain.gelu(tail + 1), 1024 // C)
    normed, statistics = cuda.layer_norm(x, p, p, 1e-6)
    agree(normed, plain.layer_norm(tail, 1, 1, 1e-6)[0], 1024 // C)
    agree(statistics[1, 0, :, None], plain.layer_norm(tail, 1, 1, 1e-6)[1][1, :, None], 1024 // C)


@pytest.mark.usefixtures('_last_program_only')
def test_maps():
    # Strips of two images are a program: the last ones are compared.
    x, p, taps = large(T // 16, 4, 4, C), torch.ones(C), torch.ones(C, 9)
    tail = last(x)[-32:].view(2, 4, 4, C).double()
    expected = plain.gelu(plain.dwconv(plain.gelu(tail), taps, 1))
    agree(cuda.gelu_dwconv_gelu(x, taps, p), expected, 32)


@pytest.mark.usefixtures('_last_program_only')
@pytest.mark.parametrize('is_one_map', [True, False])
def test_windows(is_one_map):
    """One map of more than 2^31 numbers, whose positions take 64 bits, and a batch of them."""
    size = (1, 4096, 2200) if is_one_map else (300_000, 4, 8)
    qkv = large(*size, 3 * 80)
    head, bias = 40, torch.zeros(3 * 80)
    out = cuda.window_attention(qkv, bias, None, 2, [4, 8])
    window = qkv[-1:, -4:, -8:].double()
    expected = plain.window_attention(window, bias.double(), None, 2, [4, 8])
    ours = out[-1:, -4:, -8:, head:].double()  # the last program's head
    assert (ours - expected[..., head:]).norm() < 1e-3 * expected.norm()
