"""CPU kernels on maps in bfloat16: at most twice the error of the plain form in bfloat16."""

import functools

import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.half_precision import HalfPrecision
from hrformer_mmpose.execution import cpu, fused_ops, policy, processor
from hrformer_mmpose.execution.cpu import build
from hrformer_mmpose.execution.inference import InferenceBlock
from tests.conftest import relative_error
from tests.execution.steps import make_block
from tests.execution.test_cpu_kernels import tensors

BFLOAT16 = torch.bfloat16
no_kernels = pytest.mark.skipif(
    not cpu.available(dtype=BFLOAT16), reason=f'no kernels: {cpu.reason(BFLOAT16)}'
)
checks_calls = pytest.mark.usefixtures('kernels_are_called')
SIZES = [(2, 1, 1), (1, 7, 7), (2, 8, 6), (1, 13, 29)]
CHANNELS = 39
MAPS = {'x', 'grad', 'residual', 'conv_out', 'grad_pre_act', 'qkv', 'branch'} | {
    f'map_{i}' for i in (1, 2, 3)
}


def arguments(name: str, size: tuple[int, int, int]) -> list:
    """Return arguments of an operator: maps in bfloat16, parameters in float32 that it can hold."""
    C = CHANNELS
    batch = *size, C
    x, grad, residual, conv_out, grad_pre_act, coeffs, norm, weight, scale, offset, bias = tensors(
        *[batch] * 5, (3, C), (5, C), (C, 9), *[(C,)] * 3
    )
    qkv, qkv_bias, rel_pos_bias = tensors((*size, 3 * C), (3 * C,), (3, 49, 49), seed=1)
    mean = x.to(BFLOAT16).float().mean(-1)
    rstd = (x.to(BFLOAT16).float().var(-1, correction=0) + 1e-6).rsqrt()
    running = dict(running_mean=None, running_var=None, num_batches=None, momentum=0.1, eps=1e-5)
    norm_args = dict(gamma=scale, beta=bias, **running)
    conv = dict(conv_weight=weight, conv_bias=bias)
    stream = dict(stream=residual, branch=x)
    layer = dict(gamma=scale, beta=bias, eps=1e-6)
    B, H, W = size
    maps = tensors(*[(B, (H + k) // (k + 1), (W + k) // (k + 1), C) for k in (1, 3, 7)], seed=2)
    attention = dict(qkv=qkv, qkv_bias=qkv_bias, rel_pos_bias=rel_pos_bias)
    result = {
        'bn_gelu': dict(x=x, scale=scale, offset=offset, residual=residual),
        'bn_gelu_backward': dict(x=x, grad=grad, norm=norm, of_batch=True, with_act=True),
        'bn_backward_': dict(grad=grad, x=x, bn_grad_coeffs=coeffs),
        'bn_statistics': dict(x=x, **norm_args),
        'layer_norm': dict(x=x, **layer),
        'norm_stream': dict(stream=residual, **layer, dtype=BFLOAT16),
        'add_norm_stream': dict(**stream, **layer),
        'add_gelu_stream': stream,
        'add_upsampled': dict(x=x, map_1=maps[0], map_2=maps[1], map_3=maps[2], relu=True),
        'layer_norm_backward': dict(
            x=x, mean_and_rstd=torch.stack((mean, rstd)), gamma=scale, grad=grad, residual=residual
        ),
        'gelu_dwconv': dict(x=x, scale=scale, offset=offset, **conv, **norm_args),
        'gelu_dwconv_gelu': dict(x=x, **conv),
        'gelu_dwconv_backward': dict(
            x=x, norm=norm, conv_out=conv_out, grad_pre_act=grad_pre_act, bn_grad_coeffs=coeffs,
            conv_weight=weight, of_batch=True,
        ),
        'window_attention': dict(**attention, num_heads=3, window=(7, 7)),
        'window_attention_backward': dict(**attention, grad=grad, num_heads=3, window=(7, 7)),
    }[name]  # fmt: skip
    rounded = {k: v.to(BFLOAT16) if torch.is_tensor(v) else v for k, v in result.items()}
    return [v.float() if torch.is_tensor(v) and k not in MAPS else v for k, v in rounded.items()]


@pytest.fixture
def kernels_are_called(monkeypatch):
    """Check that the test called a kernel and did not compare the plain form with itself."""
    called, call = [], cpu._call
    monkeypatch.setattr(cpu, '_call', lambda *args: called.append(args[0]) or call(*args))
    with torch.no_grad():
        yield
    assert called


def as_double(values: list) -> list:
    wide = [x.double() if torch.is_tensor(x) else x for x in values]
    return [torch.float64 if x is BFLOAT16 else x for x in wide]


def copies(values: list) -> list:
    return [x.clone() if torch.is_tensor(x) else x for x in values]


def results(value) -> list[torch.Tensor]:
    value = (value,) if torch.is_tensor(value) else value
    return [x for x in value if x is not None and x.numel()]


def compare(name: str, size: tuple[int, int, int]) -> None:
    inputs = arguments(name, size)
    plain = getattr(fused_ops, name).__wrapped__
    expected = results(plain(*as_double(inputs)))
    ours = results(getattr(fused_ops, name)(*copies(inputs)))
    baseline = results(plain(*copies(inputs)))
    assert len(ours) == len(expected)
    for index, (a, b, exact) in enumerate(zip(ours, baseline, expected, strict=True)):
        assert a.dtype is b.dtype, index
        error, bound = (relative_error(x.double(), exact) for x in (a, b))
        # Results in float32 may be off by half a unit of bfloat16, for which GELU is exact enough.
        slack = 1e-4 if a.dtype is BFLOAT16 else 2**-9
        assert error <= 2 * bound + slack, (index, error, bound)


NAMES = [
    'bn_gelu', 'bn_gelu_backward', 'bn_backward_', 'bn_statistics', 'layer_norm',
    'layer_norm_backward', 'gelu_dwconv', 'gelu_dwconv_gelu', 'gelu_dwconv_backward',
    'window_attention', 'window_attention_backward', 'norm_stream', 'add_norm_stream',
    'add_gelu_stream', 'add_upsampled',
]  # fmt: skip


@no_kernels
@checks_calls
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('name', NAMES)
def test_kernel(name, size):
    compare(name, size)


@no_kernels
@checks_calls
def test_gelu_at_its_ends():
    x = torch.cat((torch.linspace(-9, 9, 5001), torch.tensor([-1e30, 0.0, 1e30]))).to(BFLOAT16)
    ours = fused_ops.bn_gelu(x[:, None])[:, 0].double()
    expected = torch.nn.functional.gelu(x.double())
    assert ((ours - expected).abs() <= 6e-5 + 2**-8 * expected.abs()).all()
    assert not ours[x == 0].any()
    assert not ours[x < -4.6].any()
    norm = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])[:, None]
    slope = fused_ops.bn_gelu_backward(x[:, None], torch.ones_like(x)[:, None], norm, True)[0]
    exact = x.double().requires_grad_()
    with torch.enable_grad():
        torch.nn.functional.gelu(exact).sum().backward()
    assert (slope[:, 0].double() - exact.grad).abs().max() < 2**-8 + 2e-4


@no_kernels
@checks_calls
def test_gelu_of_all_numbers():
    """Before it is rounded: `add_gelu_stream` returns float32."""
    x = torch.arange(2**16).to(torch.int16).view(BFLOAT16)
    x = x[x.isfinite()]
    ours = fused_ops.add_gelu_stream(torch.zeros(len(x), 1), x[:, None])[:, 0].double()
    expected = torch.nn.functional.gelu(x.double())
    assert ((ours - expected).abs() <= 6e-5 + 2**-16 * expected.abs()).all()


@no_kernels
@checks_calls
def test_not_a_number_stays_one():
    x = torch.tensor([[float('nan'), 1.0]]).repeat(3, 20).to(BFLOAT16)
    assert torch.equal(fused_ops.bn_gelu(x).isnan(), x.isnan())
    qkv = torch.randn(1, 3, 4, 24).to(BFLOAT16)
    qkv[0, 0, 0, 0] = float('nan')  # a query: its token alone
    out = fused_ops.window_attention(qkv, torch.zeros(24), None, 1, (3, 4))
    assert torch.equal(out.isnan().any(-1).nonzero(), torch.tensor([[0, 0, 0]]))


@pytest.fixture(scope='module')
def build_library(tmp_path_factory):
    """Return a function that builds the kernels with more flags, once for all tests."""
    folder = tmp_path_factory.mktemp('kernels')

    @functools.cache
    def library(flags: str):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('XDG_CACHE_HOME', str(folder))
            patch.setattr(build, 'FLAGS', (*build.FLAGS, *flags.split()))
            return build.load('-DBFLOAT16')[0]

    return library


@pytest.fixture
def use_library(build_library, monkeypatch):
    """Return a function that lets the operators call kernels that are built with more flags."""

    def use(flags: str) -> None:
        try:
            library = build_library(flags)
        except build.Unavailable:
            pytest.skip(f'this compiler has no {flags}')
        others = cpu._library
        monkeypatch.setattr(
            cpu, '_library', lambda dtype=None: library if dtype is BFLOAT16 else others(dtype)
        )

    return use


@no_kernels
@pytest.mark.slow
@pytest.mark.parametrize('flags', ['-DV=4', '-DV=8', '-DV=16 -mno-avx512bf16', '-mno-amx-bf16'])
def test_processors_without_instructions(flags, use_library):
    use_library(flags)
    with torch.no_grad():
        for name in NAMES:
            for size in SIZES[1:3]:
                compare(name, size)


@no_kernels
@checks_calls
@pytest.mark.parametrize('flags', [None, '-DTILES'])
def test_attention_by_tiles(flags, use_library):
    """By AMX if the processor has it, and by the same products in plain C.

    Windows and heads are smaller and larger than a tile, equal to it, and no multiple of it.
    """
    if flags is not None:
        use_library(flags)
    for d in (3, 15, 16, 32, 39, 80):
        for window in ((1, 1), (4, 4), (7, 7), (8, 4), (9, 12)):
            heads, N = 2, window[0] * window[1]
            qkv, qkv_bias, rel_pos_bias = tensors(
                (2, 9, 13, 3 * heads * d), (3 * heads * d,), (heads, N, N)
            )
            qkv, qkv_bias = qkv.to(BFLOAT16), qkv_bias.to(BFLOAT16).float()
            for bias in (rel_pos_bias, None):
                args = (qkv, qkv_bias, bias, heads, window)
                expected = fused_ops.window_attention.__wrapped__(*as_double([*args]))
                error = relative_error(fused_ops.window_attention(*args).double(), expected)
                assert error < 2**-8, (d, window, bias is None)


@no_kernels
@checks_calls
@pytest.mark.parametrize('flags', [None, '-DTILES'])
def test_norm_attention_by_tiles(flags, use_library):
    """As `window_attention`, and with windows of padded tokens."""
    if flags is not None:
        use_library(flags)
    if not cpu.available('norm_attention', BFLOAT16):
        pytest.skip('this processor has no AMX')
    for heads, d, window in ((2, 39, (7, 7)), (1, 16, (4, 4)), (3, 5, (9, 12)), (2, 32, (8, 4))):
        C, N = heads * d, window[0] * window[1]
        stream, gamma, beta, weight, qkv_bias, rel_pos_bias = tensors(
            (2, 9, 13, C), (C,), (C,), (3 * C, C), (3 * C,), (heads, N, N)
        )
        weight, qkv_bias = (weight / C**0.5).to(BFLOAT16), qkv_bias.to(BFLOAT16).float()
        for bias in (rel_pos_bias, None):
            args = [stream, gamma, beta, 1e-6, weight, qkv_bias, bias, heads, window, BFLOAT16]
            plain = fused_ops.norm_attention.__wrapped__
            expected, baseline = plain(*as_double(args)), plain(*args)
            ours = fused_ops.norm_attention(*args)
            assert ours.dtype is BFLOAT16
            error, bound = (relative_error(x.double(), expected) for x in (ours, baseline))
            assert error < min(bound, 2**-6), (d, window, bias is None)


@no_kernels
@checks_calls
@pytest.mark.parametrize('flags', [None, '-DTILES'])
@pytest.mark.parametrize('size', [*SIZES, (1, 3, 70)], ids=str)
def test_finish_block_by_tiles(size, flags, use_library):
    """Against float64, and no further from it than the plain forms in bfloat16."""
    if flags is not None:
        use_library(flags)
    if not cpu.available('finish_block', BFLOAT16):
        pytest.skip('this processor has no AMX')
    for C, D in ((39, 156), (20, 33), (64, 32)):
        stream, attention, gamma, beta, proj_weight, proj_bias, fc1_weight, fc1_bias, *rest = (
            tensors(
                *[(*size, C)] * 2,
                *[(C,)] * 2,
                (C, C),
                (C,),
                (D, C),
                (D,),
                (D, 9),
                (D,),
                (C, D),
                (C,),
            )
        )
        conv_weight, conv_bias, fc2_weight, fc2_bias = rest
        proj_weight, fc1_weight, fc2_weight = (
            (x / x.shape[1] ** 0.5).to(BFLOAT16) for x in (proj_weight, fc1_weight, fc2_weight)
        )
        args = [
            stream, attention.to(BFLOAT16), proj_weight, proj_bias, gamma, beta, 1e-6,
            fc1_weight, fc1_bias, conv_weight / 3, conv_bias, fc2_weight, fc2_bias,
        ]  # fmt: skip
        plain = fused_ops.finish_block.__wrapped__
        ours, baseline = fused_ops.finish_block(*args), plain(*args)
        assert ours.dtype is torch.float32
        expected = plain(*as_double(args)) - stream
        error, bound = (relative_error(x.double() - stream, expected) for x in (ours, baseline))
        assert error < min(bound, 2**-7), (C, D)


@no_kernels
@checks_calls
@pytest.mark.parametrize('flags', [None, '-DTILES'])
@pytest.mark.parametrize('stride', [1, 2, 3])
def test_conv3x3_by_tiles(stride, flags, use_library):
    if flags is not None:
        use_library(flags)
    if not cpu.available('conv3x3', torch.float32):
        pytest.skip('this processor has no AMX')
    for B, H, W, C, D in (
        (2, 1, 1, 3, 5),
        (2, 9, 13, 32, 16),
        (3, 7, 24, 65, 40),
        (1, 5, 150, 4, 3),
    ):
        x, weight, bias = tensors((B, H, W, C), (D, 9, C), (D,))
        for relu in (True, False):
            args = (x, weight, bias, stride, relu)
            expected = fused_ops.conv3x3.__wrapped__(*as_double([*args]))
            ours = fused_ops.conv3x3(*args)
            assert relative_error(ours.double(), expected) < 1e-5, (W, relu)


@no_kernels
@checks_calls
def test_tiles_take_logits_of_any_size(use_library):
    """Logits beyond the range of an exponential, and a bias that excludes all keys but one."""
    use_library('-DTILES')
    qkv, qkv_bias = tensors((1, 7, 7, 3 * 39), (3 * 39,))
    rel_pos_bias = torch.full((1, 49, 49), -1e4)
    rel_pos_bias[0, :, 20] = 300
    args = ((30 * qkv).to(BFLOAT16), qkv_bias, rel_pos_bias, 1, (7, 7))
    value = args[0].view(49, 3, 39)[20, 2].expand(1, 7, 7, 39)
    assert torch.equal(fused_ops.window_attention(*args), value)


@no_kernels
@checks_calls
def test_a_network_takes_the_tiles(use_library, monkeypatch):
    """All three kernels, in a network whose other products are PyTorch's."""
    use_library('-DTILES')
    monkeypatch.setattr(policy, 'use_onednn', lambda x: False)
    called, call = set(), cpu._call
    monkeypatch.setattr(cpu, '_call', lambda name, *args: called.add(name) or call(name, *args))
    network = HRFormer(arch='tiny').eval().fuse_for_inference()
    x = torch.randn(1, 3, 96, 64)
    expected = network(x)[0]
    assert not called.intersection(cpu._BY_TILES)
    half = HalfPrecision(network, BFLOAT16, torch.device('cpu'))
    assert 1e-4 < relative_error(half(x)[0], expected) < 0.02
    assert called.issuperset(cpu._BY_TILES)


@pytest.mark.parametrize('has_instructions', [True, False])
@torch.no_grad()
def test_the_inference_block(has_instructions, monkeypatch):
    """With the instructions oneDNN and the kernels compute, without PyTorch's operators."""
    monkeypatch.setattr(
        processor, 'half_types', lambda: frozenset([BFLOAT16] if has_instructions else [])
    )
    if has_instructions and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip('this processor lacks the instructions of oneDNN')
    block = make_block().eval()
    ours, x = InferenceBlock(block).to(BFLOAT16), torch.randn(2, 8, 13, 9).to(BFLOAT16)
    assert policy.use_onednn(x) == (has_instructions and policy.HAS_ONEDNN)
    expected = block(x.double()) if next(block.parameters()).dtype is torch.float64 else None
    out = ours(x)
    assert out.dtype is BFLOAT16
    assert relative_error(out.double(), expected) < 2e-2
