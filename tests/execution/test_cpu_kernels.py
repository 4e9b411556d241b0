"""CPU kernels compared with their plain forms in float64."""

import pytest
import torch

from hrformer_mmpose.execution import cpu, fused_ops
from hrformer_mmpose.execution.cpu import build
from tests.conftest import relative_error

pytestmark = pytest.mark.skipif(not cpu.available(), reason=f'no kernels: {cpu.reason()}')

# Channels of whole vectors (8 or 16 numbers) and not; maps smaller and larger than a window.
CHANNELS = [8, 78, 3]
MAPS = [(2, 9, 7), (1, 3, 5), (3, 16, 12), (1, 1, 1)]


def tensors(*shapes, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def plain(name: str):
    """Return the plain form of an operator."""
    return getattr(fused_ops, name).__wrapped__


def compare(name: str, *args, tolerance: float = 1e-6) -> None:
    """Compare the kernel on float32 with the plain form on float64."""
    as_double = [x.double() if isinstance(x, torch.Tensor) else x for x in args]
    ours = getattr(fused_ops, name)(*args)
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
    """Check that the test called a kernel and did not compare the plain form with itself."""
    called = []
    call = cpu._call
    monkeypatch.setattr(cpu, '_call', lambda *args: called.append(args[0]) or call(*args))
    with torch.no_grad():
        yield
    assert called


@pytest.mark.parametrize('channels', CHANNELS)
def test_bn_gelu(channels):
    x, grad, norm = tensors((5, 37, channels), (5, 37, channels), (5, channels))
    scale, offset = norm[:2]
    compare('bn_gelu', x, scale, offset)
    compare('bn_gelu', x, scale, offset, grad)
    compare('bn_gelu', x, None, None, grad)
    compare('bn_gelu', x)
    compare('bn_gelu_backward', x, grad, norm, True, True)
    compare('bn_gelu_backward', x, grad, norm, False)


@pytest.mark.parametrize('channels', CHANNELS)
def test_bn_backward(channels):
    grad, x, coeffs = tensors((5, 37, channels), (5, 37, channels), (3, channels))
    expected = plain('bn_backward_')(grad.double(), x.double(), coeffs.double())
    ours = fused_ops.bn_backward_(grad, x, coeffs)
    assert ours is grad
    assert relative_error(ours.double(), expected) < 1e-6


@pytest.mark.parametrize('channels', CHANNELS)
def test_layer_norm(channels):
    x, grad, residual, gamma, beta = tensors(*[(5, 37, channels)] * 3, *[(channels,)] * 2)
    x = x + 3
    compare('layer_norm', x, gamma, beta, 1e-6)
    mean_and_rstd = fused_ops.layer_norm(x, gamma, beta, 1e-6)[1]
    compare('layer_norm_backward', x, mean_and_rstd, gamma, grad, residual)


def test_gelu_where_it_bends_and_far_away():
    x = torch.cat((torch.linspace(-9, 9, 10_001), torch.tensor([-100.0, 100.0, 1e30])))
    one, zero = torch.ones(1), torch.zeros(1)
    ours = fused_ops.bn_gelu(x[:, None], one, zero)
    expected = plain('bn_gelu')(x[:, None].double(), one.double(), zero.double())
    assert ((ours - expected).abs() <= 5e-7 + 1e-7 * expected.abs()).all()
    norm = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])[:, None]
    grad = fused_ops.bn_gelu_backward(x[:, None], torch.ones_like(x)[:, None], norm, True)[0]
    expected = x.double().requires_grad_()
    with torch.enable_grad():
        torch.nn.functional.gelu(expected).sum().backward()
    assert (grad[:, 0] - expected.grad).abs().max() < 5e-7


def test_moments_far_from_zero():
    x = tensors((3, 50, 7))[0] * 0.1 + 100
    args = torch.ones(7), torch.zeros(7), None, None, None, 0.1, 0.0
    ours = fused_ops.bn_statistics(x, *args)
    expected = plain('bn_statistics')(x.double(), *args)
    assert (ours[2] - expected[2]).abs().max() < 8e-6  # floats near 100 are 7.6e-6 apart
    assert relative_error(ours[3].double(), expected[3]) < 1e-6


@pytest.mark.parametrize('channels', CHANNELS)
def test_bn_statistics(channels):
    x, gamma, beta, mean, var = tensors((5, 37, channels), *[(channels,)] * 4)
    running, expected = (mean, var, torch.tensor(3)), (mean.double(), var.double(), None)
    norm = fused_ops.bn_statistics(x, gamma, beta, *running, 0.1, 1e-5)
    out = torch.nn.functional.batch_norm(
        x.double().flatten(0, 1), *expected[:2], gamma.double(), beta.double(), True, 0.1, 1e-5
    )
    assert relative_error(x.double().flatten(0, 1) * norm[0] + norm[1], out) < 1e-6
    for a, b in zip(running, expected[:2], strict=False):
        assert relative_error(a.double(), b) < 1e-6
    assert running[2] == 4


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('size', MAPS, ids=str)
def test_gelu_dwconv(channels, size):
    x, conv_out, grad, weight, coeffs, norm, bias = tensors(
        *[(*size, channels)] * 3, (channels, 9), (3, channels), (5, channels), (channels,)
    )
    inputs = x, *norm[:2], weight, bias, *norm[2:4], None, None, None, 0.1, 1e-5
    compare('gelu_dwconv', *inputs, tolerance=2e-6)
    compare('gelu_dwconv_gelu', x, weight, bias, tolerance=2e-6)
    inputs = x, norm, conv_out, grad, coeffs, weight
    compare('gelu_dwconv_backward', *inputs, True, tolerance=2e-6)
    compare('gelu_dwconv_backward', *inputs, False, tolerance=2e-6)


def test_running_statistics_behind_the_convolution():
    x, vectors, weight = tensors((2, 5, 4, 8), (8, 8), (8, 9))
    scale, offset, bias, gamma, beta, mean, var, _ = vectors
    results = []
    for call, dtype in (
        (fused_ops.gelu_dwconv, torch.float32),
        (plain('gelu_dwconv'), torch.double),
    ):
        args = [y.to(dtype) for y in (x, scale, offset, weight, bias, gamma, beta)]
        running = [mean.to(dtype, copy=True), var.abs().to(dtype, copy=True), torch.tensor(3)]
        call(*args, *running, 0.1, 1e-5)
        results.append(running)
    for ours, expected in zip(*results, strict=True):
        assert relative_error(ours.double(), expected.double()) < 1e-6


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('num_heads', 'width'), [(2, 39), (1, 32), (4, 3)])
@pytest.mark.parametrize('size', MAPS, ids=str)
@pytest.mark.parametrize('window', [(7, 7), (3, 4)])
def test_window_attention(size, window, num_heads, width, with_bias):
    C, N = num_heads * width, window[0] * window[1]
    qkv, qkv_bias, grad, rel_pos_bias = tensors(
        (*size, 3 * C), (3 * C,), (*size, C), (num_heads, N, N)
    )
    inputs = qkv, qkv_bias, rel_pos_bias if with_bias else None
    compare('window_attention', *inputs, num_heads, window)
    # The gradient through softmax almost vanishes where the map is a single token: the order of
    # summation, which differs between processors, then shows in the fifth digit.
    tolerance = 1e-4 if size == (1, 1, 1) else 2e-5
    compare('window_attention_backward', *inputs, grad, num_heads, window, tolerance=tolerance)


def test_large_logits():
    qkv, qkv_bias = tensors((1, 7, 7, 24), (24,))
    compare('window_attention', 30 * qkv, qkv_bias, None, 1, (7, 7), tolerance=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_an_excluded_key_has_no_weight(dtype):
    """Not even the smallest one: it would be subnormal, and its value may be large."""
    qkv = torch.zeros(1, 7, 7, 24)
    qkv[..., 16:] = 1e38
    qkv[0, 3, 2, 16:] = 1
    bias = torch.full((1, 49, 49), -1e4)
    bias[..., 3 * 7 + 2] = 0
    out = fused_ops.window_attention(qkv.to(dtype), torch.zeros(24), bias, 1, (7, 7))
    assert (out == 1).all()


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_any_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        test_gelu_dwconv(8, (1, 3, 5))
        test_window_attention((1, 3, 5), (3, 4), 4, 3, True)
        test_bn_gelu(8)
        test_bn_statistics(8)
        test_layer_norm(8)
        test_moments_far_from_zero()
    finally:
        torch.set_num_threads(before)


def test_not_a_number_stays_one():
    x = torch.tensor([[float('nan'), 1.0]]).repeat(3, 20)
    assert torch.equal(fused_ops.bn_gelu(x, torch.ones(40), torch.zeros(40)).isnan(), x.isnan())
    qkv = torch.randn(1, 3, 4, 24)
    qkv[0, 0, 0, 0] = float('nan')  # a query: its token alone
    out = fused_ops.window_attention(qkv, torch.zeros(24), None, 1, (3, 4))
    assert torch.equal(out.isnan().any(-1).nonzero(), torch.tensor([[0, 0, 0]]))


@pytest.mark.parametrize('width', [4, pytest.param(16, marks=pytest.mark.slow)])
def test_vectors_of_other_processors(width, tmp_path, monkeypatch):
    """Vectors of 4 and 16 numbers; the compiler emulates those that the processor lacks."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(build, 'FLAGS', (*build.FLAGS, f'-DV={width}'))
    library, _ = build.load()
    monkeypatch.setattr(cpu, '_library', lambda dtype: library)
    for channels in CHANNELS:
        test_bn_gelu(channels)
        test_layer_norm(channels)
        test_gelu_dwconv(channels, (2, 9, 7))
    test_window_attention((2, 9, 7), (7, 7), 2, 39, True)
    test_window_attention((1, 3, 5), (3, 4), 4, 3, False)


@pytest.mark.parametrize('channels', CHANNELS)
def test_residual_stream(channels):
    x, branch, gamma, beta = tensors(*[(5, 37, channels)] * 2, *[(channels,)] * 2)
    x = x + 3
    compare('add_norm_stream', x, branch, gamma, beta, 1e-6)
    compare('add_gelu_stream', x, branch)
    ours = fused_ops.norm_stream(x, gamma, beta, 1e-6, torch.float32)
    assert relative_error(ours, plain('norm_stream')(x, gamma, beta, 1e-6, torch.float32)) < 1e-6


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('size', MAPS, ids=str)
@pytest.mark.parametrize('relu', [True, False])
def test_add_upsampled(size, channels, relu):
    """Smaller maps by factors that are no powers of two, too; one of the same size, one larger."""
    B, H, W = size
    sizes = ((H + 1) // 2, (W + 2) // 3), (H, W), (H + 2, 2 * W)
    x, *maps = tensors((*size, channels), *[(B, h, w, channels) for h, w in sizes])
    compare('add_upsampled', x, *maps, relu)
    compare('add_upsampled', x, maps[2], maps[0], None, relu)
    compare('add_upsampled', x, maps[0], None, None, relu)


def test_add_upsampled_keeps_not_a_number():
    x, y = torch.zeros(1, 4, 4, 5), torch.zeros(1, 2, 2, 5)
    x[0, 0, 0, 0], y[0, 1, 1, 4] = float('nan'), float('nan')
    out = fused_ops.add_upsampled(x, y, None, None, True)
    assert torch.equal(out.isnan(), plain('add_upsampled')(x, y, None, None, True).isnan())
