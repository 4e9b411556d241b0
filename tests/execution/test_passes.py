"""The CPU kernels against their plain forms, which run in float64 here."""

import pytest
import torch

from hrformer_mmpose.execution import cpu as native
from hrformer_mmpose.execution import fused_ops as passes
from hrformer_mmpose.execution.cpu import build
from tests.conftest import relative_error

pytestmark = pytest.mark.skipif(not native.available(), reason=f'no kernels: {native.reason()}')

# Channels of whole vectors (8 or 16 numbers) and not; maps smaller and larger than a window.
CHANNELS = [8, 78, 3]
MAPS = [(2, 9, 7), (1, 3, 5), (3, 16, 12), (1, 1, 1)]


def tensors(*shapes, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def plain(name: str):
    """The form in PyTorch's operators."""
    return getattr(passes, name).__wrapped__


def compare(name: str, *args, tolerance: float = 1e-6) -> None:
    """The function on float32, which calls the kernel, and its plain form on float64."""
    as_double = [
        x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in args
    ]
    ours = getattr(passes, name)(*args)
    expected = plain(name)(*as_double)
    if isinstance(ours, torch.Tensor):
        ours, expected = (ours,), (expected,)
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and a.numel():
            assert a.shape == b.shape
            assert relative_error(a.double(), b) < tolerance


@pytest.fixture(autouse=True)
def _kernels_are_called(monkeypatch):
    """A test whose kernel is not called compares the plain form with itself."""
    called = []
    call = native._call
    monkeypatch.setattr(native, '_call', lambda *args: called.append(args[0]) or call(*args))
    with torch.no_grad():
        yield
    assert called


@pytest.mark.parametrize('channels', CHANNELS)
def test_norm_gelu(channels):
    x, grad, scale, offset = tensors((5, 37, channels), (5, 37, channels), *[(channels,)] * 2)
    compare('norm_gelu', x, scale, offset)
    compare('norm_gelu', x, scale, offset, grad)
    compare('norm_gelu', x, None, None, grad)
    compare('norm_gelu', x)
    compare('norm_gelu_backward', x, grad, scale, offset, True)
    compare('norm_gelu_backward', x, grad, scale, offset)


@pytest.mark.parametrize('channels', CHANNELS)
def test_scale_add(channels):
    slope, x, abc = tensors((5, 37, channels), (5, 37, channels), (3, channels))
    expected = plain('scale_add_')(slope.double(), x.double(), abc.double())
    ours = passes.scale_add_(slope, x, abc)
    assert ours is slope
    assert relative_error(ours.double(), expected) < 1e-6


@pytest.mark.parametrize('channels', CHANNELS)
def test_layer_norm(channels):
    x, grad, residual, gamma, beta = tensors(*[(5, 37, channels)] * 3, *[(channels,)] * 2)
    x = x + 3
    compare('layer_norm', x, gamma, beta, 1e-6)
    statistics = passes.layer_norm(x, gamma, beta, 1e-6)[1]
    compare('layer_norm_backward', x, statistics, gamma, grad, residual)


def test_gelu_where_it_bends_and_far_away():
    x = torch.cat((torch.linspace(-9, 9, 10_001), torch.tensor([-100.0, 100.0, 1e30])))
    one, zero = torch.ones(1), torch.zeros(1)
    ours = passes.norm_gelu(x[:, None], one, zero)
    expected = plain('norm_gelu')(x[:, None].double(), one.double(), zero.double())
    assert ((ours - expected).abs() <= 5e-7 + 1e-7 * expected.abs()).all()
    slope = passes.norm_gelu_backward(x[:, None], torch.ones_like(x)[:, None], one, zero)[0]
    expected = x.double().requires_grad_()
    with torch.enable_grad():
        torch.nn.functional.gelu(expected).sum().backward()
    assert (slope[:, 0] - expected.grad).abs().max() < 5e-7


def test_moments_far_from_zero():
    x = tensors((3, 50, 7))[0] * 0.1 + 100
    ours, expected = passes.moments(x), plain('moments')(x.double())
    assert (ours - expected).abs().max() < 8e-6  # floats near 100 are 7.6e-6 apart
    assert relative_error(ours[1].double(), expected[1]) < 1e-6


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('size', MAPS, ids=str)
def test_gelu_conv(channels, size):
    x, z, slope, kernel, abc, scale, offset, shift = tensors(
        *[(*size, channels)] * 3, (9, channels), (3, channels), *[(channels,)] * 3
    )
    compare('gelu_conv', x, scale, offset, kernel, shift, tolerance=2e-6)
    compare('gelu_conv_gelu', x, kernel, shift, tolerance=2e-6)
    compare('gelu_conv_backward', x, scale, offset, z, slope, abc, kernel, tolerance=2e-6)


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('heads', 'width'), [(2, 39), (1, 32), (4, 3)])
@pytest.mark.parametrize('size', MAPS, ids=str)
@pytest.mark.parametrize('window', [(7, 7), (3, 4)])
def test_window_attention(size, window, heads, width, with_bias):
    C, N = heads * width, window[0] * window[1]
    qkv, shift, grad, bias = tensors((*size, 3 * C), (3 * C,), (*size, C), (heads, N, N))
    bias = bias if with_bias else None
    compare('window_attention', qkv, shift, bias, heads, window)
    # Near 1, where windows hold one token, softmax leaves little of its gradient.
    compare('window_attention_backward', qkv, shift, bias, grad, heads, window, tolerance=2e-5)


def test_large_logits():
    qkv, shift = tensors((1, 7, 7, 24), (24,))
    compare('window_attention', 30 * qkv, shift, None, 1, (7, 7), tolerance=1e-5)


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_any_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        test_gelu_conv(8, (1, 3, 5))
        test_window_attention((1, 3, 5), (3, 4), 4, 3, True)
    finally:
        torch.set_num_threads(before)


def test_not_a_number_stays_one():
    x = torch.tensor([[float('nan'), 1.0]]).repeat(3, 20)
    assert torch.equal(passes.norm_gelu(x, torch.ones(40), torch.zeros(40)).isnan(), x.isnan())
    qkv = torch.randn(1, 3, 4, 24)
    qkv[0, 0, 0, 0] = float('nan')  # a query: its token alone
    out = passes.window_attention(qkv, torch.zeros(24), None, 1, (3, 4))
    assert torch.equal(out.isnan().any(-1).nonzero(), torch.tensor([[0, 0, 0]]))


@pytest.mark.parametrize('width', [4, 16])
def test_vectors_of_other_processors(width, tmp_path, monkeypatch):
    """Narrower ones, and AVX-512's, which the compiler makes of two where there are none."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(build, 'FLAGS', (*build.FLAGS, f'-DV={width}'))
    library, _ = build.load()
    monkeypatch.setattr(native, '_kernels', lambda: library)
    for channels in CHANNELS:
        test_norm_gelu(channels)
        test_layer_norm(channels)
        test_gelu_conv(channels, (2, 9, 7))
    test_window_attention((2, 9, 7), (7, 7), 2, 39, True)
    test_window_attention((1, 3, 5), (3, 4), 4, 3, False)
