"""Public operators `torch.ops.hrformer_mmpose.*`: misuse raises, any layout gives equal results."""

import itertools
import os
import random
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hrformer_mmpose.execution import cpu, fused_ops
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.execution.cpu import build
from hrformer_mmpose.execution.inference import InferenceBlock
from hrformer_mmpose.execution.linear import FusedConv, FusedLinear, linear
from hrformer_mmpose.execution.operator import register_kernels
from tests.conftest import relative_error, without_recompute

operators = torch.ops.hrformer_mmpose
MAP, TOKENS = (2, 5, 4, 12), (3, 7, 12)
NORM = dict(gamma=(12,), beta=(12,), running_mean=(12,), running_var=(12,), num_batches=())
SHAPES = {
    'bn_gelu': dict(x=TOKENS, scale=(12,), offset=(12,), residual=TOKENS),
    'bn_gelu_backward': dict(x=TOKENS, grad=TOKENS, norm=(5, 12)),
    'bn_backward_': dict(grad=TOKENS, x=TOKENS, bn_grad_coeffs=(3, 12)),
    'bn_statistics': dict(x=TOKENS, **NORM),
    'bn_from_moments': dict(moments=(2, 12), total_count=(1,), **NORM),
    'bn_total_grads': dict(sums=(2, 12), norm=(5, 12), total_sums=(2, 12), total_count=(1,)),
    'weight_grad': dict(grad=MAP, x=MAP),
    'layer_norm': dict(x=TOKENS, gamma=(12,), beta=(12,)),
    'layer_norm_backward': dict(
        x=TOKENS, mean_and_rstd=(2, 3, 7), gamma=(12,), grad=TOKENS, residual=TOKENS
    ),
    'gelu_dwconv': dict(
        x=MAP, scale=(12,), offset=(12,), conv_weight=(12, 9), conv_bias=(12,), **NORM
    ),
    'gelu_dwconv_gelu': dict(x=MAP, conv_weight=(12, 9), conv_bias=(12,)),
    'gelu_dwconv_backward': dict(
        x=MAP,
        norm=(5, 12),
        conv_out=MAP,
        grad_pre_act=MAP,
        bn_grad_coeffs=(3, 12),
        conv_weight=(12, 9),
    ),
    'norm_stream': dict(stream=TOKENS, gamma=(12,), beta=(12,)),
    'add_norm_stream': dict(stream=TOKENS, branch=TOKENS, gamma=(12,), beta=(12,)),
    'add_gelu_stream': dict(stream=TOKENS, branch=TOKENS),
    'norm_attention': dict(
        stream=MAP,
        gamma=(12,),
        beta=(12,),
        qkv_weight=(36, 12),
        qkv_bias=(36,),
        rel_pos_bias=(2, 9, 9),
    ),
    'finish_block': dict(
        stream=MAP,
        attention=MAP,
        proj_weight=(12, 12),
        proj_bias=(12,),
        gamma=(12,),
        beta=(12,),
        fc1_weight=(20, 12),
        fc1_bias=(20,),
        conv_weight=(20, 9),
        conv_bias=(20,),
        fc2_weight=(12, 20),
        fc2_bias=(12,),
    ),
    'add_upsampled': dict(x=MAP, map_1=(2, 3, 2, 12), map_2=(2, 2, 1, 12), map_3=(2, 1, 5, 12)),
    'conv3x3': dict(x=MAP, weight=(20, 9, 12), bias=(20,)),
    'dwconv_backward': dict(grad=(2, 3, 2, 12), x=MAP, conv_weight=(12, 9)),
    'window_attention': dict(qkv=(2, 5, 4, 36), qkv_bias=(36,), rel_pos_bias=(2, 9, 9)),
    'window_attention_backward': dict(
        qkv=(2, 5, 4, 36), qkv_bias=(36,), rel_pos_bias=(2, 9, 9), grad=MAP
    ),
}
ATTENTION = dict(num_heads=2, window=(3, 3))
NORM_NUMBERS = dict(momentum=0.1, eps=1e-5)
NUMBERS = {
    'bn_gelu_backward': dict(of_batch=True, with_act=True),
    'bn_statistics': NORM_NUMBERS,
    'bn_from_moments': NORM_NUMBERS,
    'gelu_dwconv': NORM_NUMBERS,
    'gelu_dwconv_backward': dict(of_batch=True),
    'conv3x3': dict(stride=2, relu=True),
    'dwconv_backward': dict(stride=2),
    'layer_norm': dict(eps=1e-6),
    # A large eps: equal channels have no deviation, and 1 / sqrt(eps) times their rounding error.
    'norm_stream': dict(eps=0.1, dtype=torch.float32),
    'add_norm_stream': dict(eps=0.1),
    'norm_attention': dict(eps=0.1, dtype=torch.float32, **ATTENTION),
    'finish_block': dict(eps=0.1),
    'add_upsampled': dict(relu=True),
    'window_attention': ATTENTION,
    'window_attention_backward': ATTENTION,
}
FIXED = dict.fromkeys(('sums', 'total_sums', 'total_count'), torch.float64) | {
    'stream': torch.float32
}
WRITTEN = [('bn_backward_', 'grad')]
WRITTEN += [(name, key) for name, shapes in SHAPES.items() for key in [*NORM][2:] if key in shapes]
BN_OF_PARAMETERS = ('bn_from_moments', 'bn_total_grads')
NO_CUDA = {
    'dwconv_backward',
    'norm_stream',
    'add_norm_stream',
    'add_gelu_stream',
    'norm_attention',
    'finish_block',
    'add_upsampled',
    'conv3x3',
}
CUDA_KERNELS = SHAPES.keys() - NO_CUDA
CPU_KERNELS = SHAPES.keys() - {*BN_OF_PARAMETERS, 'weight_grad', 'dwconv_backward'}
TENSORS = [
    (name, argument)
    for name, shapes in SHAPES.items()
    for argument in shapes
    if argument != 'num_batches'
]


def valid(name: str, dtype: torch.dtype = torch.float32) -> dict:
    tensors = {
        key: torch.randn(shape, dtype=FIXED.get(key, dtype)) for key, shape in SHAPES[name].items()
    }
    for key in tensors.keys() & {'moments', 'running_var'}:
        tensors[key].abs_()  # holds variances
    if 'num_batches' in tensors:
        tensors['num_batches'] = torch.tensor(7)
    if 'total_count' in tensors:
        tensors['total_count'].fill_(40.0)
    return tensors | NUMBERS.get(name, {})


def refused(name: str, arguments: dict) -> str:
    with torch.no_grad(), pytest.raises((ValueError, RuntimeError)) as caught:
        getattr(operators, name)(**arguments)
    line = str(caught.value)
    assert line.startswith(f'hrformer_mmpose::{name}: ')
    assert '\n' not in line
    return line


def test_every_operator_is_tested():
    registered = {name.split('::')[1] for name in torch._C._dispatch_get_all_op_names()
                  if name.startswith('hrformer_mmpose::')}  # fmt: skip
    assert registered == SHAPES.keys()


NO_TENSOR = {
    'integers': lambda x: x.int(),
    'truth values': lambda x: x > 0,
    'complex numbers': lambda x: x.to(torch.complex64),
    'sparse': lambda x: x.to_sparse(),
    'of oneDNN': lambda x: x.float().to_mkldnn(),
}


@pytest.mark.parametrize(('name', 'argument'), TENSORS)
def test_what_is_no_dense_tensor_of_real_numbers(name, argument):
    for change in NO_TENSOR.values():
        arguments = valid(name)
        arguments[argument] = change(arguments[argument])
        assert f': {argument} is ' in refused(name, arguments)


@pytest.mark.parametrize(('name', 'argument'), TENSORS)
def test_sizes_that_do_not_agree(name, argument):
    x = valid(name)[argument]
    changed = [x.flatten()[0], x[..., :0], x.new_empty(0)]
    if name != 'weight_grad':  # takes any number of channels
        changed += [x[..., :-1], torch.cat((x, x), -1)]
    of_any_tokens = ('layer_norm', 'bn_statistics', 'norm_stream')
    if argument not in ('x', 'stream') or name not in of_any_tokens:
        changed += [x[None], x[0]]
    if list(SHAPES[name].values()).count(x.shape) > 1 or x.ndim < 3:
        changed += [x[:-1], torch.cat((x, x))]
    for other in changed:
        refused(name, valid(name) | {argument: other})


@pytest.mark.parametrize('name', [name for name in SHAPES if 'num_batches' in SHAPES[name]])
def test_the_counter_of_training_steps(name):
    for other in (torch.tensor(7.0), torch.tensor(7, dtype=torch.int32)):
        line = refused(name, valid(name) | dict(num_batches=other))
        assert 'num_batches is ' in line
        assert line.endswith('expected int64')
    line = refused(name, valid(name) | dict(num_batches=torch.arange(2)))
    assert 'num_batches has the shape' in line
    arguments = valid(name)
    version = arguments['num_batches']._version
    with torch.no_grad():
        getattr(operators, name)(**arguments)
        getattr(operators, name)(**arguments | dict(num_batches=None))
    assert arguments['num_batches'] == 8
    assert arguments['num_batches']._version > version


@pytest.mark.parametrize(('name', 'argument'), TENSORS)
def test_a_tensor_elsewhere(name, argument):
    arguments = valid(name)
    if len(SHAPES[name]) > 1:
        refused(name, arguments | {argument: arguments[argument].to('meta')})


@pytest.mark.parametrize(('name', 'argument'), TENSORS)
def test_memory_that_was_given_back(name, argument):
    types = (torch.float32, torch.float64)
    for dtype, layout, size in itertools.product(types, ('as it is', 'transposed'), (0, 8)):
        arguments = valid(name, dtype)
        arguments[argument] = LAYOUTS[layout](arguments[argument])
        if arguments[argument].nbytes <= size:
            continue
        arguments[argument].untyped_storage().resize_(size)
        assert f'the memory of {argument} was resized' in refused(name, arguments)


@pytest.mark.parametrize(('name', 'argument'), TENSORS)
def test_gradients_are_not_lost(name, argument):
    arguments = valid(name)
    arguments[argument].requires_grad_()
    with pytest.raises(RuntimeError, match=f'{argument} requires grad'):
        getattr(operators, name)(**arguments)
    with torch.no_grad():
        getattr(operators, name)(**arguments)


def test_numbers_out_of_range():
    for eps in (-1e-6, float('nan'), float('inf')):
        assert 'eps' in refused('layer_norm', valid('layer_norm') | {'eps': eps})
    for name in ('window_attention', 'window_attention_backward'):
        for num_heads in (0, -1, -2, 5, 24, 2**40, -(2**63)):
            assert 'num_heads' in refused(name, valid(name) | {'num_heads': num_heads})
        windows = ((0, 3), (3, 0), (-3, -3), (3, 4), (2**31, 2**31), (2**62, 4), (2**63 - 1, 3))
        for window in windows:
            arguments = valid(name) | {'window': window}
            refused(name, arguments)
            if window != (3, 4):
                assert 'window' in refused(name, arguments | {'rel_pos_bias': None})


def test_scale_goes_with_offset():
    for argument in ('scale', 'offset'):
        assert 'go together' in refused('bn_gelu', valid('bn_gelu') | {argument: None})


LAYOUTS = {
    'as it is': lambda x: x,
    'every second': lambda x: torch.stack((x, torch.full_like(x, 9)), -1)[..., 0],
    'first axis expanded': lambda x: x[:1].expand_as(x),
    'last axis expanded': lambda x: x[..., :1].expand_as(x),
    'transposed': lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    'unaligned': lambda x: torch.cat((x.new_ones(1), x.flatten()))[1:].view(x.shape),
    'negative bit': lambda x: torch.imag(torch.complex(x, -x).conj()),
}
IN_PLACE = LAYOUTS.keys() - {'first axis expanded', 'last axis expanded'}


@pytest.mark.skipif(
    not shutil.which('gcc') or os.environ.get(build.SWITCH) == '0', reason='no compiler'
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_kernels_of_this_machine_compile(dtype):
    """The tests of kernels are skipped where there are none, as with an error in their source."""
    assert cpu.reason(dtype) is None


@pytest.mark.parametrize('name', SHAPES)
def test_any_layout_gives_the_plain_numbers(name):
    choose = random.Random(name)
    for _ in range(20):
        arguments = valid(name)
        for argument in [key for key in SHAPES[name] if key != 'num_batches']:
            layouts = IN_PLACE if (name, argument) in WRITTEN else LAYOUTS.keys()
            if (
                'num_batches' in SHAPES[name]
            ):  # PyTorch: not for operators that write and return another
                layouts = layouts - {'negative bit'}
            arguments[argument] = LAYOUTS[choose.choice(sorted(layouts))](arguments[argument])
        if name.startswith('window') and choose.random() < 0.3:
            arguments['rel_pos_bias'] = None
        doubles = in_float64(arguments)
        with torch.no_grad():
            ours = getattr(operators, name)(**arguments)
            expected = getattr(fused_ops, name).__wrapped__(**doubles)
        agree(ours, expected, 1e-5)
        if name == 'bn_backward_':
            assert torch.equal(arguments['grad'], ours)


def in_float64(arguments: dict) -> dict:
    """Copy arguments, with all real numbers in float64."""
    copies = {k: x.clone().contiguous() if torch.is_tensor(x) else x for k, x in arguments.items()}
    is_real = lambda x: torch.is_tensor(x) and x.is_floating_point()  # noqa: E731
    return {k: x.double() if is_real(x) else x for k, x in copies.items()}


def agree(ours, expected, tolerance: float) -> None:
    if isinstance(ours, torch.Tensor):
        ours, expected = (ours,), (expected,)
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and a.numel():
            assert a.shape == b.shape
            assert relative_error(a.double(), b.double()) < tolerance


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('name', SHAPES)
def test_other_types(name, dtype):
    """Float64 takes the plain form, half precision is computed in float32."""
    arguments = valid(name, dtype)
    if 'dtype' in arguments:
        arguments['dtype'] = dtype
    doubles = in_float64(arguments)
    with torch.no_grad():
        ours = getattr(operators, name)(**arguments)
        expected = getattr(fused_ops, name).__wrapped__(**doubles)
    exact = 1e-6 if 'stream' in arguments else 1e-12
    agree(ours, expected, max(exact, torch.finfo(dtype).eps))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('name', [name for name in SHAPES if name not in BN_OF_PARAMETERS])
def test_half_precision_activations_with_float32_parameters(name, dtype):
    """As under autocast: a result per token has the activations' type, the others float32."""
    arguments = valid(name)
    activations = {
        'x',
        'grad',
        'residual',
        'qkv',
        'conv_out',
        'grad_pre_act',
        'branch',
        'attention',
    }
    activations |= {f'map_{i}' for i in (1, 2, 3)}
    halves = {k: x.to(dtype) for k, x in arguments.items() if k in activations}
    halves |= dict(dtype=dtype) if 'dtype' in arguments else {}
    assert halves
    copies = {k: x.clone() for k, x in (arguments | halves).items() if torch.is_tensor(x)}
    with torch.no_grad():
        ours = getattr(operators, name)(**arguments | halves)
        plain = getattr(fused_ops, name).__wrapped__(**arguments | halves | copies)
    agree(ours, plain, 2 * torch.finfo(dtype).eps)
    results = [(ours, plain)] if torch.is_tensor(ours) else zip(ours, plain, strict=True)
    for a, b in results:
        assert a.dtype is b.dtype


@pytest.mark.parametrize('name', [name for name in SHAPES if name not in BN_OF_PARAMETERS])
def test_no_images(name):
    arguments = valid(name)
    for argument, x in arguments.items():
        if torch.is_tensor(x) and x.ndim > 2 and argument not in ('rel_pos_bias', 'weight'):
            arguments[argument] = x[:, :0] if argument == 'mean_and_rstd' else x[:0]
    with torch.no_grad():
        results = getattr(operators, name)(**arguments)
    results = (results,) if isinstance(results, torch.Tensor) else results
    for x in results:
        # Sums over nothing are 0, and a mean over nothing is none.
        expected = float('nan') if x.shape == (5, 12) else 0.0
        assert torch.equal(x.isnan(), torch.full_like(x, expected).isnan())
        assert expected != 0 or not x[x.shape == (6, 12) :].any()  # the first row is `scale`


@pytest.mark.parametrize('name', [name for name, shapes in SHAPES.items() if 'stream' in shapes])
def test_no_pixels(name):
    arguments = valid(name)
    for argument, x in arguments.items():
        if argument in ('stream', 'branch', 'attention'):
            arguments[argument] = (x.bfloat16() if argument != 'stream' else x)[:, :0]
    arguments |= dict(dtype=torch.bfloat16) if 'dtype' in arguments else {}
    with torch.no_grad():
        results = getattr(operators, name)(**arguments)
    for x in (results,) if isinstance(results, torch.Tensor) else results:
        assert x.shape[1] == 0


def test_memory_that_is_shared_with_what_changes():
    buffer, coeffs = torch.randn(60), torch.randn(3, 12)
    grad, x, shared = buffer[:48].view(4, 12), buffer[12:].view(4, 12), buffer[:36].view(3, 12)
    for other, abc in ((x, coeffs), (grad, coeffs), (x, shared)):
        a, b, c = abc.double()
        expected = a * grad.double() + b * other.double() + c
        with torch.no_grad():
            operators.bn_backward_(grad, other, abc)
        assert relative_error(grad.double(), expected) < 1e-6


def test_autograd_sees_what_changes():
    weight, grad = torch.ones(2, 3, requires_grad=True), torch.randn(2, 3)
    product = (weight * grad).sum()
    with torch.no_grad():
        operators.bn_backward_(grad, torch.randn(2, 3), torch.randn(3, 3))
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        product.backward()


def test_gradients_of_torch_func():
    x = torch.randn(4, 12)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        ours = transform(lambda x: fused_ops.bn_gelu(x).sum())(x)
        assert torch.equal(ours, transform(lambda x: torch.nn.functional.gelu(x).sum())(x))
        with pytest.raises(RuntimeError, match='x requires grad'):
            transform(lambda x: operators.bn_gelu(x).sum())(x)


def test_forward_mode_gradients_are_kept():
    x = torch.randn(4, 12)
    with torch.no_grad():
        _, tangent = torch.func.jvp(fused_ops.bn_gelu, (x,), (torch.ones_like(x),))
        _, expected = torch.func.jvp(torch.nn.functional.gelu, (x,), (torch.ones_like(x),))
        assert torch.equal(tangent, expected)
        with pytest.raises(RuntimeError, match='x requires grad'):
            torch.func.jvp(operators.bn_gelu, (x,), (torch.ones_like(x),))


def test_without_kernels_an_operator_is_the_plain_form(monkeypatch):
    monkeypatch.setattr(cpu, '_library', lambda *_: None)
    for name in SHAPES:
        arguments = valid(name)
        with torch.no_grad():
            getattr(operators, name)(**arguments)


def test_kernels_are_registered_by_device():
    """Register a kernel for the meta device as `cuda/` would for its own."""
    key = torch._C._dispatch_has_kernel_for_dispatch_key
    for name in SHAPES:
        assert key(f'hrformer_mmpose::{name}', 'CPU') == (name in CPU_KERNELS)
        assert key(f'hrformer_mmpose::{name}', 'CompositeExplicitAutograd')
        assert key(f'hrformer_mmpose::{name}', 'CUDA') == (name in CUDA_KERNELS)
    calls, available = [], [True]

    def bn_gelu(x, *_):
        calls.append(x.shape)
        return torch.zeros_like(x)

    backend = SimpleNamespace(
        available=lambda name, dtype: available[0], bn_gelu=bn_gelu, DTYPES={torch.float32}
    )
    register_kernels('Meta', backend)
    x = torch.randn(2, 3, 12)
    with torch.no_grad():
        for function in (operators.bn_gelu, fused_ops.bn_gelu):
            assert function(x.to('meta')).shape == function(x).shape == x.shape
            function(x.to('meta').double())
        assert calls == [x.shape] * 2, 'of float32, on that device'
        available[0] = False
        assert fused_ops.bn_gelu(x.to('meta')).shape == operators.bn_gelu(x.to('meta')).shape
    assert len(calls) == 2
    with pytest.raises(RuntimeError, match='x requires grad'):
        operators.bn_gelu(x.to('meta').requires_grad_())


@pytest.mark.slow
def test_operators_in_a_compiled_graph():
    def function(x, weight, bias):
        return operators.gelu_dwconv_gelu(x, weight, bias), fused_ops.bn_gelu(x)

    compiled = torch.compile(function, backend='aot_eager', dynamic=True, fullgraph=True)
    with torch.no_grad():
        for size in ((2, 5, 4, 12), (3, 6, 5, 8)):
            inputs = torch.randn(size), torch.randn(size[-1], 9), torch.randn(size[-1])
            agree(compiled(*inputs), function(*inputs), 1e-5)


STRIDED = {name: LAYOUTS[name] for name in ('every second', 'first axis expanded', 'transposed')}


def with_parameters(block: HRFormerBlock, layout) -> HRFormerBlock:
    for module in block.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            setattr(module, name, nn.Parameter(layout(parameter.detach())))
    return block


def blocks(layout) -> tuple[HRFormerBlock, HRFormerBlock]:
    """Build a float32 block with strided parameters, and a float64 block of equal weights."""
    ours, plain = (HRFormerBlock(24, 2, (3, 4), 2.0) for _ in range(2))
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    with_parameters(ours, layout)
    plain.load_state_dict(ours.state_dict())
    return ours, plain.double()


@pytest.mark.parametrize('layout', STRIDED.values(), ids=STRIDED)
def test_a_block_of_strided_parameters_trains_as_the_plain_one(layout):
    ours, plain = blocks(layout)
    assert not all(p.is_contiguous() for p in ours.parameters())
    image, weight = torch.randn(2, 24, 7, 8), torch.randn(2, 24, 7, 8)
    ours_image, plain_image = image.clone().requires_grad_(), image.double().requires_grad_()
    out = ours(ours_image)
    (out * weight).sum().backward()
    expected = without_recompute(plain)(plain_image)
    (expected * weight).sum().backward()
    assert relative_error(out.detach().double(), expected.detach()) < 1e-5
    assert relative_error(ours_image.grad.double(), plain_image.grad) < 1e-5
    largest = max(p.grad.norm() for p in plain.parameters())
    for (name, p), q in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if q.grad.norm() > 1e-4 * largest:  # not what is 0 but for rounding
            assert relative_error(p.grad.double(), q.grad) < 1e-5, name


@pytest.mark.parametrize('layout', STRIDED.values(), ids=STRIDED)
def test_a_block_of_strided_parameters_infers_as_the_plain_one(layout):
    ours, plain = (block.eval() for block in blocks(layout))
    image = torch.randn(2, 24, 7, 8)
    with torch.no_grad():
        expected = plain(image.double())
        assert relative_error(InferenceBlock(ours)(image).double(), expected) < 1e-5
        assert relative_error(ours(image).double(), expected) < 1e-5


@pytest.mark.parametrize('layout', STRIDED.values(), ids=STRIDED)
def test_onednn_with_strided_parameters(layout):
    x, weight, bias = torch.randn(2, 6, 5, 24), layout(torch.randn(12, 24)), layout(torch.randn(12))
    filters = layout(torch.randn(12, 24, 3, 3))
    image = x.permute(0, 3, 1, 2)
    expected = nn.functional.linear(x.double(), weight.double(), bias.double())
    of_image = nn.functional.conv2d(image.double(), filters.double(), bias.double(), padding=1)
    with torch.no_grad():
        for ours in (linear(x, weight, bias), FusedLinear(weight, bias)(x)):
            assert relative_error(ours.double(), expected) < 1e-5
        ours = FusedConv(filters, bias, stride=1, groups=1)(image)
        assert relative_error(ours.double(), of_image) < 1e-5
