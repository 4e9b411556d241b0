"""Compile the kernels for all GPUs that they are chosen for: none spills registers to memory."""

import re
import sys

import pytest
import torch

from hrformer_mmpose.execution import cuda

pytest.importorskip('triton')
pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason="Triton's compiler is built for Linux"
)
OPERATORS = sorted(cuda._FILES)


@pytest.fixture(scope='module')
def compilation():
    from tests.execution.cuda import compilation

    return compilation


def spills(compilation, name, widths, dtype, capabilities, window=7) -> list[str]:
    """Describe the kernels of an operator that spill."""
    found = []
    for width in widths:
        for launch in compilation.launches(name, width, dtype, window):
            for capability in capabilities:
                if name not in cuda.kernels(divmod(capability, 10)):
                    continue
                used = compilation.usage(launch, capability)
                assert used.registers >= 16
                if used.spilled or used.shared > 99 * 1024:  # sm_86 and sm_89 have no more
                    found.append(f'{launch.kernel.__name__} C={width} sm_{capability}: {used}')
    return found


# Compiling attention's backward pass takes as long as all others together.
@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.slow) if name == 'window_attention_backward' else name
        for name in OPERATORS
    ],
)
def test_no_kernel_spills(name, compilation):
    assert not spills(compilation, name, (78,), torch.float16, (80,))


def test_an_old_gpu(compilation):
    """A representative of 7.5, which has no bfloat16 instructions."""
    assert not spills(compilation, 'gelu_dwconv_backward', (78,), torch.bfloat16, (75,))


def test_the_loop_carries_two_rows_of_gradients(compilation):
    """Triton's frontend took the row above for a constant, which its interpreter does not show."""
    launch, *_ = compilation.launches('gelu_dwconv_backward', 78, torch.float16)
    (loop,) = re.findall(r'scf\.for .*', compilation.compiled(launch, 80).asm['ttir'])
    rows, taps, sums = 2 * 6, 9, 2
    assert len(re.findall(r'tensor<\d+x\d+xf32>', loop)) == rows + taps + sums


def test_spilling_is_seen(compilation):
    launch, *_ = compilation.launches('bn_gelu_backward', 78, torch.float16)
    launch.options['maxnreg'] = 32
    used = compilation.usage(launch, 80)
    assert used.registers == 32
    assert used.spilled > 16


@pytest.mark.slow
@pytest.mark.parametrize('name', OPERATORS)
def test_no_kernel_spills_at_any_width(name, compilation):
    capabilities = compilation.CAPABILITIES
    assert not spills(compilation, name, compilation.WIDTHS, torch.float16, capabilities)


@pytest.mark.slow
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('name', OPERATORS)
def test_no_kernel_spills_in_other_types(name, dtype, compilation):
    if dtype is torch.float32 and name in cuda._LINEAR:
        pytest.skip("PyTorch's products are chosen")
    assert not spills(compilation, name, (78, 32), dtype, compilation.CAPABILITIES)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['window_attention', 'window_attention_backward'])
def test_no_kernel_spills_in_large_windows(name, compilation):
    capabilities = compilation.CAPABILITIES
    assert not spills(compilation, name, (78, 32), torch.float16, capabilities, window=15)


def test_the_table_of_registers(compilation, monkeypatch, capsys):
    options = '--widths 78 --capabilities 75 80 --operators window_attention bn_statistics'
    monkeypatch.setattr(sys, 'argv', ['compilation', *options.split()])
    compilation.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *['window_attention'] * 2,
        *['bn_statistics'] * 4,
    ]
    assert '75: ' not in lines[0]
    assert '75: ' in lines[2]
