"""The operators on a GPU, compared with their plain forms in float64 on the CPU."""

import copy

import pytest
import torch

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.execution import cuda, fused_ops, recompute
from tests.conftest import relative_error
from tests.execution.test_operators import SHAPES, in_float64, valid

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def arguments(name: str, dtype: torch.dtype) -> dict:
    torch.manual_seed(0)
    given = valid(name, dtype)
    return {k: x.cuda() if torch.is_tensor(x) else x for k, x in given.items()}


def compare(name: str, given: dict, dtype: torch.dtype) -> None:
    on_cpu = {k: x.cpu() if torch.is_tensor(x) else x for k, x in given.items()}
    expected = getattr(fused_ops, name).__wrapped__(**in_float64(on_cpu))
    ours = getattr(torch.ops.hrformer_mmpose, name)(**given)
    ours, expected = ((x,) if torch.is_tensor(x) else x for x in (ours, expected))
    for a, b in zip(ours, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None and a.numel():
            assert a.is_cuda
            assert relative_error(a.cpu().double(), b.double()) < TOLERANCES[dtype], name


def needs(name: str) -> None:
    if not cuda.available(name):
        pytest.skip(f'not chosen for this device: {cuda.reason()}')


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize('name', SHAPES)
def test_operators(name, dtype):
    needs(name)
    with torch.no_grad():
        compare(name, arguments(name, dtype), dtype)


@pytest.mark.parametrize('dtype', TOLERANCES, ids=str)
@pytest.mark.parametrize(('D', 'window'), [(39, (7, 7)), (32, (7, 7)), (18, (15, 15))])
@pytest.mark.parametrize('size', [(2, 64, 48), (3, 13, 29), (1, 1, 1)], ids=str)
def test_attention(size, D, window, dtype):
    needs('window_attention')
    h, N = 4, window[0] * window[1]
    shapes = (*size, 3 * h * D), (3 * h * D,), (h, N, N), (*size, h * D)
    names = 'qkv', 'qkv_bias', 'rel_pos_bias', 'grad'
    given = {
        name: torch.randn(*shape, device='cuda', dtype=dtype)
        for name, shape in zip(names, shapes, strict=True)
    }
    given |= dict(num_heads=h, window=list(window))
    with torch.no_grad():
        compare('window_attention_backward', given, dtype)
        del given['grad']
        compare('window_attention', given, dtype)


def test_parameters_in_float32_beside_maps_in_float16():
    needs('gelu_dwconv')
    given = arguments('gelu_dwconv', torch.float32) | dict(
        x=arguments('bn_gelu', torch.float16)['x']
    )
    given['x'] = given['x'][None]
    with torch.no_grad():
        out, norm = torch.ops.hrformer_mmpose.gelu_dwconv(**given)
    assert out.dtype is torch.float16
    assert norm.dtype is torch.float32


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_every_block_recomputes_under_autocast(dtype, monkeypatch):
    """Interpolation in float32 would send each block behind a fusion down the plain path."""
    needs('layer_norm')
    calls = []
    for branch in ('attention', 'ffn'):
        function = getattr(recompute, branch)
        monkeypatch.setattr(
            recompute, branch, lambda x, *args, f=function: calls.append(x.dtype) or f(x, *args)
        )
    network = HRFormer(arch='tiny').cuda().train()
    blocks = sum(hasattr(layer, 'with_recompute') for layer in network.modules())
    with torch.autocast('cuda', dtype):
        network(torch.rand(2, 3, 64, 64, device='cuda'))
    assert calls == [dtype] * (2 * blocks)


def test_a_training_step_equals_the_cpus(monkeypatch):
    """Gradients in float32 beside those of the plain layers on the CPU in float64.

    The gradients of random weights turn rounding errors of 1e-6 into errors of 4e-3.
    """
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    torch.manual_seed(0)
    image = torch.rand(2, 3, 96, 64)
    network = HRFormer(arch='tiny').train()
    results = []
    for where in (torch.zeros(0, dtype=torch.float64), torch.zeros(0, device='cuda')):
        own = copy.deepcopy(network).to(where)
        sum(y.square().mean() for y in own(image.to(where))).backward()
        results.append([p.grad.cpu().double() for p in own.parameters() if p.grad is not None])
    cpu, gpu = (torch.cat([grad.flatten() for grad in grads]) for grads in results)
    assert relative_error(gpu, cpu) < 0.03


@pytest.mark.parametrize('name', SHAPES)
def test_each_run_gives_the_same_result(name):
    needs(name)
    if name == 'bn_backward_':
        pytest.skip('works in place')
    given = arguments(name, torch.float16)
    with torch.no_grad():
        first, second = (getattr(torch.ops.hrformer_mmpose, name)(**given) for _ in range(2))
    first, second = ((x,) if torch.is_tensor(x) else x for x in (first, second))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
