"""`--compile` and `--amp`: equal outputs at any size, or one line why it has no effect."""

import copy
import logging

import pytest
import torch

pytest.importorskip('mmengine')
from mmengine.logging import MMLogger

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.engine import optim_wrapper
from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.execution import compiling, processor
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.execution.inference import fuse
from hrformer_mmpose.execution.precision import autocast_dtype
from tests.backbones.weights import randomise
from tests.conftest import relative_error


@pytest.fixture
def logged(caplog):
    """Messages of MMEngine's logger."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture(scope='module')
def _compiler():
    """Skip where PyTorch's compiler does not run; to find that out takes seconds."""
    if reason := compiling._compiler_error(torch.device('cpu')):
        pytest.skip(reason)


needs_compiler = pytest.mark.usefixtures('_compiler')


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize('fused', [False, True])
def test_a_compiled_block_takes_other_sizes(fused):
    block = HRFormerBlock(8, 2, (3, 3), 2.0).eval()
    randomise(block)
    names = list(block.state_dict())
    twin = fuse(block) if fused else copy.deepcopy(block)
    compiled = compiling.compile_network(twin)
    for size in [(1, 8, 5, 7), (2, 8, 5, 7), (2, 8, 6, 9)]:
        x = torch.rand(size)
        with torch.no_grad():
            assert relative_error(compiled(x), block(x)) < 1e-5
    if not fused:
        assert list(compiled.state_dict()) == names


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize('fused', [False, True])
def test_a_compiled_network_takes_other_sizes(fused):
    model = HRFormer(arch='tiny').eval()
    randomise(model)
    twin = model.fuse_for_inference() if fused else copy.deepcopy(model)
    compiled = compiling.compile_network(twin)
    for size in [(2, 64, 64), (3, 64, 64), (1, 160, 224), (2, 384, 288), (1, 97, 65)]:
        image = torch.rand(size[0], 3, *size[1:])
        with torch.no_grad():
            assert relative_error(compiled(image)[0], model(image)[0]) < 1e-5


def test_without_a_compiler_one_line_says_so(monkeypatch, logged):
    def missing(*args, **kwargs):
        raise RuntimeError('No working C++ compiler found\nmore')

    monkeypatch.setattr(torch, 'compile', missing)
    block = HRFormerBlock(8, 2, (3, 3), 2.0).eval()
    x = torch.rand(1, 8, 5, 7)
    expected = block(x)
    assert torch.equal(compiling.compile_network(block)(x), expected)
    lines = [r.getMessage() for r in logged.records if r.levelno == logging.WARNING]
    assert len(lines) == 1
    assert 'No working C++ compiler found' in lines[0]
    assert '\n' not in lines[0]


@pytest.mark.parametrize(
    ('capability', 'wanted', 'expected'),
    [
        ((7, 0), 'auto', torch.float16),
        ((7, 0), 'bfloat16', torch.float16),
        ((8, 0), 'auto', torch.bfloat16),
        ((9, 0), 'float16', torch.float16),
        ({torch.bfloat16}, 'auto', torch.bfloat16),
        ({torch.bfloat16, torch.float16}, 'float16', None),
        (set(), 'auto', None),
        (set(), 'float16', None),
        (set(), 'bfloat16', torch.bfloat16),
    ],
)
def test_the_type_of_mixed_precision_is_one_that_the_hardware_has(
    monkeypatch, capability, wanted, expected
):
    """`capability`: of the GPU, or types for which the processor has instructions without a GPU."""
    if isinstance(capability, set):
        monkeypatch.setattr(processor, 'half_types', lambda types=capability: types)
        capability = None
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    assert autocast_dtype(wanted) == expected


def test_an_unknown_type_is_an_error():
    with pytest.raises(ConfigError, match='float64'):
        autocast_dtype('float64')


def test_on_a_cpu_bfloat16_trains():
    layer = torch.nn.Linear(4, 4)
    wrapper = optim_wrapper.AutoAmpOptimWrapper(
        dtype='bfloat16', optimizer=torch.optim.SGD(layer.parameters(), lr=0.1)
    )
    with wrapper.optim_context(layer):
        out = layer(torch.rand(2, 4))
    assert out.dtype is torch.bfloat16
    before = layer.weight.clone()
    wrapper.update_params(out.float().sum())
    assert not torch.equal(before, layer.weight)
