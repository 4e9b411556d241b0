"""The cases of `tools/benchmark.py` with small networks: rows, tables, lack of memory or time."""

import json
import math

import pytest
import torch
from torch import nn

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.half_precision import HalfPrecision
from hrformer_mmpose.benchmark import baselines, networks, timing
from hrformer_mmpose.benchmark.plan import Case, NetworkOptions, plan
from hrformer_mmpose.benchmark.steps import UnderAutocast, for_inference, inference
from hrformer_mmpose.cli import benchmark as command
from hrformer_mmpose.execution import policy, processor

NAMES = ('mmpose', 'ours', 'hrnet_w32', 'hrnet_w48')


class Network(nn.Module):
    """A convolution; out of memory for `too_many` images in training or inference."""

    def __init__(self, too_many: int = 1000):
        super().__init__()
        self.conv, self.too_many = nn.Conv2d(3, 2, 3), too_many

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        if len(x) >= self.too_many:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB.\nMore.')
        return (self.conv(x),)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks by name; tests exchange them."""
    made = {name: Network() for name in NAMES}
    made['ours'].load_state_dict(made['mmpose'].state_dict())
    monkeypatch.setattr(baselines, 'networks', lambda arch, with_cp: dict(made))
    threads = torch.get_num_threads()
    yield made
    torch.set_num_threads(threads)


def options(**settings) -> NetworkOptions:
    defaults = dict(
        arch=['base'], size=[(32, 32)], batch_size=[1], train_batch_size=[2],
        precision=['float32'], device='cpu', threads=1, rounds=3, minutes=None, with_cp=False,
        compile=False, no_hrnet=False, markdown=None,
    )  # fmt: skip
    return NetworkOptions(**defaults | settings)


def test_the_plan():
    args = options(arch=['base', 'tiny'], batch_size=[1, 64], precision=['float16', 'float32'])
    cases = plan(args)
    assert len(cases) == 2 * 2 * 3
    assert cases[:3] == [
        Case('base', (32, 32), 'float16', False, 1),
        Case('base', (32, 32), 'float16', False, 64),
        Case('base', (32, 32), 'float16', True, 2),
    ]
    assert [case.arch for case in cases] == ['base'] * 6 + ['tiny'] * 6
    assert str(cases[2]) == 'training step, batch 2, float16'


def test_one_command_on_a_gpu_is_the_whole_plan(monkeypatch):
    """Three architectures, inference at 1, 8 and 64, training at 32, three types."""
    taken = []
    monkeypatch.setattr(networks, 'benchmark', lambda args: taken.append(args) or {})
    command.run_tool(command.tool_parser().parse_args(['--device', 'cuda']))
    args = taken[0]
    phases = {(case.training, case.batch) for case in plan(args)}
    assert phases == {(False, 1), (False, 8), (False, 64), (True, 32)}
    assert len(plan(args)) == 3 * 3 * 4
    assert args.minutes < 10
    assert args.markdown.endswith('.md')
    command.run_tool(command.tool_parser().parse_args(['--device', 'cuda', '--arch', 'tiny']))
    assert (taken[1].arch, taken[1].batch_size) == (['tiny'], [1, 8, 64])
    command.run_tool(command.tool_parser().parse_args(['--device', 'cpu']))
    assert (taken[2].precision, taken[2].minutes) == (['float32'], None)


@pytest.mark.slow
def test_every_network_has_a_row_in_every_case(tmp_path):
    file = tmp_path / 'speed.md'
    args = options(precision=['float32', 'bfloat16'], markdown=str(file))
    rows = networks.benchmark(args)['rows']
    half = [*NAMES, networks.IN_FLOAT32]
    assert [row['network'] for row in rows] == [*NAMES] * 2 + half * 2
    for row in rows:
        assert len(row['seconds']) == len(row['ratios']) == 3
        assert row['cuda_peak_bytes'] is None
    json.dumps(rows)
    shown = file.read_text()
    assert torch.__version__ in shown
    assert shown.count('| ours |') == 4
    assert shown.count('## HRFormer base, 32x32, ') == 2


def test_out_of_memory_in_one_case_does_not_end_the_others(small, tmp_path, capsys):
    small['mmpose'] = Network(too_many=8)
    file = tmp_path / 'speed.md'
    args = options(batch_size=[1, 8], train_batch_size=[8, 2], markdown=str(file))
    rows = networks.benchmark(args)['rows']
    failures = {(r['network'], r['training'], r['batch']) for r in rows if 'failure' in r}
    assert failures == {('mmpose', False, 8), ('mmpose', True, 8)}
    assert len(rows) == 4 * len(NAMES)
    assert '| inference, batch 8 | mmpose | out of memory |' in file.read_text()
    assert 'out of memory' in capsys.readouterr().out


def test_without_time_nothing_runs_but_every_row_says_so(small, tmp_path):
    file = tmp_path / 'speed.md'
    rows = networks.benchmark(options(minutes=1e-9, markdown=str(file)))['rows']
    assert [row['failure'] for row in rows] == ['not run: no time left'] * 8
    assert file.read_text().count('no time left') == 8


def test_bfloat16_on_a_gpu_that_lacks_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: False)
    case, gpu = Case('base', (32, 32), 'bfloat16', False, 1), torch.device('cuda')
    assert networks._unsupported(case, gpu) == 'not run: this GPU does not compute in bfloat16'
    assert networks._unsupported(case, torch.device('cpu')) is None
    case = Case('base', (32, 32), 'float16', False, 1)
    assert networks._unsupported(case, gpu) is None


@pytest.mark.slow
def test_the_peak_includes_the_weights(monkeypatch):
    def with_peak(timer, call):
        return timer.seconds(call), 1000

    monkeypatch.setattr(timing.Timer, 'seconds_and_peak', with_peak)
    weights = 2 * 3 * 9 + 2
    for row in networks.benchmark(options(precision=['float32', 'float16']))['rows']:
        is_half = row['precision'] == 'float16' and not row['training']  # autocast keeps float32
        assert row['cuda_peak_bytes'] == 1000 + weights * (2 if is_half else 4)


def test_a_network_that_cannot_be_built_is_a_row(small, monkeypatch):
    def no_half(network, dtype):
        if dtype is torch.float16 and network is small['ours']:
            raise RuntimeError('no kernel for Half\nat line 3')
        return network.to(dtype)

    monkeypatch.setattr(networks, 'for_inference', no_half)
    results = networks.benchmark(options(precision=['float16'], train_batch_size=[]))
    assert results['differences'][0]['difference'] == 'no kernel for Half'
    assert results['rows'][1]['failure'] == 'failed: no kernel for Half'
    assert all('failure' not in row for row in results['rows'] if row['network'] != 'ours')


@pytest.mark.slow
def test_the_compiled_network_is_a_row(monkeypatch):
    compiled = []
    monkeypatch.setattr(networks, 'compile_network', lambda net: compiled.append(net) or net)
    rows = networks.benchmark(options(compile=True))['rows']
    assert [row['network'] for row in rows].count('ours, compiled') == len(compiled) == 2
    assert [net.training for net in compiled] == [False, True]


@pytest.mark.slow
def test_differences_from_mmpose(small):
    args = options(precision=['float32', 'float16'], train_batch_size=[])
    errors = [float(row['difference']) for row in networks.benchmark(args)['differences']]
    assert errors[0] < 1e-6 < errors[1] < 1e-2
    assert not math.isnan(sum(errors))


@pytest.mark.parametrize(
    ('half_types', 'kind'), [([torch.bfloat16], HalfPrecision), ([], UnderAutocast)]
)
def test_bfloat16_is_that_of_the_estimator(half_types, kind, monkeypatch):
    monkeypatch.setattr(processor, 'half_types', lambda: frozenset(half_types))
    monkeypatch.setattr(policy, 'use_onednn', lambda x: False)  # lacks the type on some processors
    network = for_inference(HRFormer(arch='tiny'), torch.bfloat16)
    assert type(network) is kind
    image = torch.rand(1, 3, 64, 64)
    assert inference(network, image)().shape == (1, 18, 16, 16)
