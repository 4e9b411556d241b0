"""`torch.ops.hrformer_mmpose.*` called by anybody: wrong use is an error, odd layouts are right."""

import itertools
import random

import pytest
import torch
from torch import nn

from hrformer_mmpose.execution import cpu as native
from hrformer_mmpose.execution import fused_ops as passes
from hrformer_mmpose.execution import linear as kernels
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.execution.inference import FusedBlock
from tests.conftest import relative_error, without_recompute

operators = torch.ops.hrformer_mmpose
MAP, TOKENS = (2, 5, 4, 12), (3, 7, 12)
SHAPES = {
    'norm_gelu': dict(x=TOKENS, scale=(12,), offset=(12,), residual=TOKENS),
    'norm_gelu_backward': dict(x=TOKENS, grad=TOKENS, scale=(12,), offset=(12,)),
    'scale_add_': dict(slope=TOKENS, x=TOKENS, abc=(3, 12)),
    'moments': dict(x=TOKENS),
    'layer_norm': dict(x=TOKENS, gamma=(12,), beta=(12,)),
    'layer_norm_backward': dict(
        x=TOKENS, statistics=(2, 3, 7), gamma=(12,), grad=TOKENS, residual=TOKENS
    ),
    'gelu_conv': dict(x=MAP, scale=(12,), offset=(12,), kernel=(9, 12), shift=(12,)),
    'gelu_conv_gelu': dict(x=MAP, kernel=(9, 12), shift=(12,)),
    'gelu_conv_backward': dict(
        x=MAP, scale=(12,), offset=(12,), z=MAP, slope=MAP, abc=(3, 12), kernel=(9, 12)
    ),
    'window_attention': dict(qkv=(2, 5, 4, 36), shift=(36,), bias=(2, 9, 9)),
    'window_attention_backward': dict(qkv=(2, 5, 4, 36), shift=(36,), bias=(2, 9, 9), grad=MAP),
}
ATTENTION = dict(heads=2, window=(3, 3))
NUMBERS = {
    'norm_gelu_backward': dict(with_act=True),
    'layer_norm': dict(eps=1e-6),
    'window_attention': ATTENTION,
    'window_attention_backward': ATTENTION,
}
TENSORS = [(name, argument) for name, shapes in SHAPES.items() for argument in shapes]


def valid(name: str, dtype: torch.dtype = torch.float32) -> dict:
    tensors = {key: torch.randn(*shape, dtype=dtype) for key, shape in SHAPES[name].items()}
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
    'of oneDNN': lambda x: x.to_mkldnn(),
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
    if name != 'moments':  # takes any number of channels
        changed += [x[..., :-1], torch.cat((x, x), -1)]
    if (name, argument) not in (('moments', 'x'), ('layer_norm', 'x')):  # of any tokens
        changed += [x[None], x[0]]
    if list(SHAPES[name].values()).count(x.shape) > 1 or x.ndim < 3:
        changed += [x[:-1], torch.cat((x, x))]
    for other in changed:
        refused(name, valid(name) | {argument: other})


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
        for heads in (0, -1, -2, 5, 24, 2**40, -(2**63)):
            assert 'heads' in refused(name, valid(name) | {'heads': heads})
        windows = ((0, 3), (3, 0), (-3, -3), (3, 4), (2**31, 2**31), (2**62, 4), (2**63 - 1, 3))
        for window in windows:
            arguments = valid(name) | {'window': window}
            refused(name, arguments)
            if window != (3, 4):
                assert 'window' in refused(name, arguments | {'bias': None})


def test_scale_goes_with_offset():
    for argument in ('scale', 'offset'):
        assert 'go together' in refused('norm_gelu', valid('norm_gelu') | {argument: None})


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


@pytest.mark.parametrize('name', SHAPES)
def test_any_layout_gives_the_plain_numbers(name):
    choose = random.Random(name)
    for _ in range(20):
        arguments = valid(name)
        for argument in SHAPES[name]:
            layouts = IN_PLACE if argument == 'slope' and name == 'scale_add_' else LAYOUTS
            arguments[argument] = LAYOUTS[choose.choice(sorted(layouts))](arguments[argument])
        if name.startswith('window') and choose.random() < 0.3:
            arguments['bias'] = None
        doubles = {k: x.double() if torch.is_tensor(x) else x for k, x in arguments.items()}
        doubles = {k: x.contiguous() if torch.is_tensor(x) else x for k, x in doubles.items()}
        with torch.no_grad():
            ours = getattr(operators, name)(**arguments)
            expected = getattr(passes, name).__wrapped__(**doubles)
        agree(ours, expected, 1e-5)
        if name == 'scale_add_':
            assert torch.equal(arguments['slope'], ours)


def agree(ours, expected, tolerance: float) -> None:
    if isinstance(ours, torch.Tensor):
        ours, expected = (ours,), (expected,)
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and a.numel():
            assert a.shape == b.shape
            assert relative_error(a.double(), b.double()) < tolerance


@pytest.mark.parametrize('name', SHAPES)
def test_other_types_take_the_plain_form(name):
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        arguments = valid(name, dtype)
        copies = {k: x.clone() if torch.is_tensor(x) else x for k, x in arguments.items()}
        with torch.no_grad():
            ours = getattr(operators, name)(**arguments)
            agree(ours, getattr(passes, name).__wrapped__(**copies), 1e-12)


@pytest.mark.parametrize('name', SHAPES)
def test_no_images(name):
    arguments = valid(name)
    for argument, x in arguments.items():
        if torch.is_tensor(x) and x.ndim > 2 and argument != 'bias':
            arguments[argument] = x[:, :0] if argument == 'statistics' else x[:0]
    with torch.no_grad():
        results = getattr(operators, name)(**arguments)
    results = (results,) if isinstance(results, torch.Tensor) else results
    for x in results:
        # Sums over nothing are 0, and a mean over nothing is none.
        expected = float('nan') if x.shape == (2, 12) and x.dtype is torch.float32 else 0.0
        assert torch.equal(x.isnan(), torch.full_like(x, expected).isnan())
        assert expected != 0 or not x.any()


def test_memory_that_is_shared_with_what_changes():
    buffer, scale = torch.randn(60), torch.randn(36)
    slope, x, abc = buffer[:48].view(4, 12), buffer[12:].view(4, 12), buffer[:36].view(3, 12)
    for other, factors in ((x, scale.view(3, 12)), (slope, scale.view(3, 12)), (x, abc)):
        a, b, c = factors.double()
        expected = a * slope.double() + b * other.double() + c
        with torch.no_grad():
            operators.scale_add_(slope, other, factors)
        assert relative_error(slope.double(), expected) < 1e-6


def test_autograd_sees_what_changes():
    weight, slope = torch.ones(2, 3, requires_grad=True), torch.randn(2, 3)
    product = (weight * slope).sum()
    with torch.no_grad():
        operators.scale_add_(slope, torch.randn(2, 3), torch.randn(3, 3))
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        product.backward()


def test_gradients_of_torch_func():
    x = torch.randn(4, 12)
    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd):
        ours = transform(lambda x: passes.norm_gelu(x).sum())(x)
        assert torch.equal(ours, transform(lambda x: torch.nn.functional.gelu(x).sum())(x))
        with pytest.raises(RuntimeError, match='x requires grad'):
            transform(lambda x: operators.norm_gelu(x).sum())(x)


def test_forward_mode_gradients_are_kept():
    x = torch.randn(4, 12)
    with torch.no_grad():
        _, tangent = torch.func.jvp(passes.norm_gelu, (x,), (torch.ones_like(x),))
        _, expected = torch.func.jvp(torch.nn.functional.gelu, (x,), (torch.ones_like(x),))
        assert torch.equal(tangent, expected)
        with pytest.raises(RuntimeError, match='x requires grad'):
            torch.func.jvp(operators.norm_gelu, (x,), (torch.ones_like(x),))


def test_without_kernels_an_operator_is_the_plain_form(monkeypatch):
    monkeypatch.setattr(native, '_kernels', lambda: None)
    for name in SHAPES:
        arguments = valid(name)
        with torch.no_grad():
            getattr(operators, name)(**arguments)


STRIDED = {name: LAYOUTS[name] for name in ('every second', 'first axis expanded', 'transposed')}


def with_parameters(block: HRFormerBlock, layout) -> HRFormerBlock:
    for module in block.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            setattr(module, name, nn.Parameter(layout(parameter.detach())))
    return block


def blocks(layout) -> tuple[HRFormerBlock, HRFormerBlock]:
    """One of float32 and strided parameters, one of the same numbers in float64."""
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
    image, slope = torch.randn(2, 24, 7, 8), torch.randn(2, 24, 7, 8)
    ours_image, plain_image = image.clone().requires_grad_(), image.double().requires_grad_()
    out = ours(ours_image)
    (out * slope).sum().backward()
    expected = without_recompute(plain)(plain_image)
    (expected * slope).sum().backward()
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
        assert relative_error(FusedBlock(ours)(image).double(), expected) < 1e-5
        assert relative_error(ours(image).double(), expected) < 1e-5


@pytest.mark.parametrize('layout', STRIDED.values(), ids=STRIDED)
def test_onednn_with_strided_parameters(layout):
    x, weight, bias = torch.randn(2, 6, 5, 24), layout(torch.randn(12, 24)), layout(torch.randn(12))
    filters = layout(torch.randn(12, 24, 3, 3))
    image = x.permute(0, 3, 1, 2)
    expected = nn.functional.linear(x.double(), weight.double(), bias.double())
    of_image = nn.functional.conv2d(image.double(), filters.double(), bias.double(), padding=1)
    with torch.no_grad():
        for ours in (kernels.linear(x, weight, bias), kernels.FusedLinear(weight, bias)(x)):
            assert relative_error(ours.double(), expected) < 1e-5
        ours = kernels.FusedConv(filters, bias, stride=1, groups=1)(image)
        assert relative_error(ours.double(), of_image) < 1e-5
