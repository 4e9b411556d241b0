"""Branches of the blocks in half precision, the residual stream and all else in float32."""

import copy

import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.half_precision import HalfPrecision
from hrformer_mmpose.execution import policy, processor
from hrformer_mmpose.execution.inference import InferenceBlock
from hrformer_mmpose.execution.linear import FusedLinear
from tests.backbones.weights import randomise
from tests.conftest import relative_error
from tests.execution.steps import make_block

CPU = torch.device('cpu')
HALF = [torch.bfloat16, torch.float16]
OPTIONS = [{}, dict(shifted=True, with_pad_mask=True)]
PRODUCTS = ('qkv', 'proj', 'fc1', 'fc2')


@pytest.fixture(params=[True, False], ids=['kernels', 'plain'])
def kernels(request, monkeypatch):
    """Kernels in half precision, with PyTorch's products, or plain forms."""
    monkeypatch.setattr(policy, 'use_onednn', lambda x: False)
    monkeypatch.setattr(processor, 'half_types', lambda: frozenset(HALF))
    if not request.param:
        monkeypatch.setattr(policy, 'use_fused_ops', lambda x: False)
        monkeypatch.setattr(policy, 'allows_kernels', lambda device: False)


def rounded(block: InferenceBlock, dtype: torch.dtype) -> InferenceBlock:
    """Copy a block, with the weights and biases of products rounded and everything in float32."""
    block = copy.deepcopy(block)
    for name in PRODUCTS:
        getattr(block, name).to(dtype).to(torch.float32)
    return block


@pytest.mark.usefixtures('kernels')
@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('dtype', HALF, ids=str)
@torch.no_grad()
def test_a_block(dtype, options):
    block = InferenceBlock(make_block(**options).float().eval())
    mixed = copy.deepcopy(block)
    mixed.use_mixed_precision(dtype)
    x = torch.randn(2, 8, 13, 9)
    out, expected = mixed(x), rounded(block, dtype)(x)
    assert out.dtype is torch.float32
    error = relative_error(out - x, expected - x)
    assert 1e-5 < error < {torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]


@pytest.mark.usefixtures('kernels')
@torch.no_grad()
def test_the_stream_is_never_rounded():
    block = InferenceBlock(make_block().float().eval())
    for layer in (block.proj, block.fc2):  # the branches add nothing
        layer.weight.zero_()
        layer.bias.zero_()
    block.use_mixed_precision(torch.bfloat16)
    x = torch.randn(2, 8, 13, 9)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize('missing', ['bias', 'both'])
@torch.no_grad()
def test_a_layer_norm_without_parameters(missing):
    settings = dict(bias=False) if missing == 'bias' else dict(elementwise_affine=False)
    block = InferenceBlock(
        make_block(transformer_norm_cfg=dict(type='LN', **settings)).float().eval()
    )
    mixed = copy.deepcopy(block)
    mixed.use_mixed_precision(torch.bfloat16)
    x = torch.randn(1, 8, 7, 7)
    assert relative_error(mixed(x), block(x)) < 1e-2


def test_weights_of_products_alone_are_converted():
    """With values that half precision does not hold, which would change by their rounding."""
    block = InferenceBlock(make_block().float().eval())
    before = copy.deepcopy(block)
    block.use_mixed_precision(torch.bfloat16)
    for name in PRODUCTS:
        layer, old = getattr(block, name), getattr(before, name)
        assert torch.equal(layer.weight, old.weight.bfloat16())
        assert torch.equal(layer.bias, old.bias)
    for name in ('rel_pos_bias', 'conv_weight', 'conv_bias'):
        assert torch.equal(getattr(block, name), getattr(before, name)), name
    for norm, old in ((block.norm1, before.norm1), (block.norm2, before.norm2)):
        assert torch.equal(norm.weight, old.weight)
        assert torch.equal(norm.bias, old.bias)


@torch.no_grad()
def test_a_converted_layer_forgets_the_weight_it_had_prepared():
    layer = FusedLinear(torch.randn(16, 8), torch.randn(16))
    x = torch.randn(5, 8)
    layer(x)
    layer.convert_weight(torch.bfloat16)
    assert (
        relative_error(layer(x.bfloat16()).float(), x @ layer.weight.float().T + layer.bias) < 0.01
    )


@torch.no_grad()
def test_on_a_cpu_only_the_blocks_are_converted():
    model = HRFormer(arch='tiny', multiscale_output=True).eval()
    randomise(model)
    x = torch.randn(1, 3, 96, 72)
    fused = model.fuse_for_inference()
    expected, half = fused(x), HalfPrecision(fused, torch.bfloat16, CPU)
    converted = {name for name, y in half.named_buffers() if y.dtype is torch.bfloat16}
    assert {name.rsplit('.', 2)[-2] for name in converted} == {*PRODUCTS}
    assert all('branches' in name for name in converted)
    for ours, theirs in zip(half(x), expected, strict=True):
        assert ours.dtype is torch.float32
        assert 1e-4 < relative_error(ours, theirs) < 0.02


@torch.no_grad()
def test_a_network_without_such_blocks_is_converted_whole():
    model = HRFormer(arch='tiny', block='conv').eval()
    randomise(model)
    x = torch.randn(1, 3, 64, 64)
    fused = model.fuse_for_inference()
    expected, half = fused(x)[0], HalfPrecision(fused, torch.bfloat16, CPU)
    assert {y.dtype for y in half.buffers() if y.is_floating_point()} == {torch.bfloat16}
    (out,) = half(x)
    assert out.dtype is torch.float32
    assert relative_error(out, expected) < 0.05


@torch.no_grad()
def test_for_a_gpu_the_network_is_converted_whole():
    """The device is the one given: a network may be converted before it is moved there."""
    fused = HRFormer(arch='tiny').eval().fuse_for_inference()
    half = HalfPrecision(fused, torch.float16, torch.device('cuda'))
    tensors = [*half.buffers(), *half.parameters()]
    assert {y.dtype for y in tensors if y.is_floating_point()} == {torch.float16}
