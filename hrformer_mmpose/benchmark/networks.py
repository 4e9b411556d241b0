"""HRFormer against MMPose's classes, in turns: `tools/benchmark.py`.

Each case (architecture, image size, precision, inference or training, batch size) times all
networks in turns on the same images. Reported are medians over the rounds and the spread of the
rounds' ratios. A network that runs out of memory is a row that says so. In half precision on a CPU
MMPose's networks run under autocast, and ours in float32, too.
"""

import copy
import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

import torch
from torch import nn

from ..errors import first_line
from ..execution import memory
from ..execution.compiling import compile_network
from ..execution.cuda_graph import CudaGraphs, TrainingGraphs
from . import baselines, complexity, report
from .baselines import MMPOSE, OURS
from .plan import Case, NetworkOptions, plan
from .steps import (
    DTYPES,
    UnderAutocast,
    for_inference,
    inference,
    set_training,
    training_step,
)
from .timing import Budget, MiB, Timer, device_of, line, time_in_turns

COMPILED, GRAPH = 'ours, compiled', 'ours, CUDA graph'
IN_FLOAT32 = 'ours, float32'


def benchmark(args: NetworkOptions) -> dict:
    """Time the networks and print tables.

    Returns:
        `environment`, `matmul_rates` by precision, in multiply-adds a second, `differences` from
        MMPose's network, and `rows` of the tables.
    """
    torch.set_num_threads(args.threads)
    timer = Timer(device_of(args.device))
    if timer.device.type == 'cpu':
        memory.keep_for_training()  # for all networks: page faults are not what is compared
    return _Benchmark(args, timer).run()


class _Benchmark:
    def __init__(self, args: NetworkOptions, timer: Timer):
        self.args, self.timer, self.cases = args, timer, plan(args)
        seconds = None if args.minutes is None else 60 * args.minutes
        self.budget = Budget(timer, seconds, len(self.cases))
        self.rates: dict[str, float] = {}
        self.results = dict(
            environment=report.environment(timer.device, args.threads),
            matmul_rates=self.rates,
            differences=[],
            rows=[],
        )

    def run(self) -> dict:
        for key, value in self.results['environment'].items():
            print(f'{key}: {value}')
        for name in self.args.precision:
            self.rates[name] = _matmul_rate(self.timer, DTYPES[name])
            print(f'matrix products, {name}: {self.rates[name] / 1e9:.0f} G multiply-adds/s')
        for (arch, size), cases in itertools.groupby(self.cases, lambda c: (c.arch, c.size)):
            self._run_architecture(arch, size, cases)
        return self.results

    def _run_architecture(self, arch: str, size: tuple[int, int], cases: Iterable[Case]) -> None:
        print(f'\nHRFormer {arch}, {size[0]}x{size[1]}')
        networks = baselines.networks(arch, self.args.with_cp)
        if self.args.no_hrnet:
            networks = {k: v for k, v in networks.items() if k not in baselines.HRNETS}
        image = torch.rand(2, 3, *size)
        flops = _print_counts(networks, image)
        reference = inference(set_training(networks[MMPOSE], False), image)()
        networks = {name: network.to(self.timer.device) for name, network in networks.items()}
        for precision in self.args.precision:
            self._compare(arch, precision, networks[OURS], image, reference)
        for case in cases:
            self._run_case(case, networks, flops)

    def _compare(
        self,
        arch: str,
        precision: str,
        network: nn.Module,
        image: torch.Tensor,
        reference: torch.Tensor,
    ) -> None:
        """Record how far the network for inference is from `reference`, MMPose's on the CPU."""
        dtype = DTYPES[precision]
        try:
            step = inference(for_inference(network, dtype), image.to(self.timer.device))
            error = (step().float().cpu() - reference).norm() / reference.norm()
            difference = f'{error:.1e}'
        except RuntimeError as failure:
            difference = first_line(failure)
        row = dict(arch=arch, network=OURS, precision=precision, difference=difference)
        self.results['differences'].append(row)
        print(f"  {precision} for inference against MMPose's: relative L2 difference {difference}")

    def _run_case(self, case: Case, networks: dict[str, nn.Module], flops: dict) -> None:
        for row in self._time(case, networks):
            row |= asdict(case)
            if 'failure' not in row and row['network'] != IN_FLOAT32:
                work = flops[row['network'].split(',')[0]] * case.batch
                rate = work * (3 if case.training else 1) / row['median_s']
                row['share_of_matmul_rate'] = rate / self.rates[case.precision]
            print(line(row))
            self.results['rows'].append(row)
        if self.args.markdown:  # after each case: an interruption loses nothing
            report.write(self.args.markdown, report.markdown(self.results))

    def _time(self, case: Case, networks: dict[str, nn.Module]) -> list[dict]:
        failure = _unsupported(case, self.timer.device)
        if self.budget.is_spent():
            failure = 'not run: no time left'
        deadline = self.budget.next_deadline()
        if failure is not None:
            print(f'  {case}')
            return [dict(network=name, failure=failure) for name in networks]
        steps = _steps(case, networks, self.timer.device, self.args.compile)
        rows = time_in_turns(
            str(case),
            steps,
            self.args.rounds,
            self.timer,
            deadline=deadline,
            tolerate=(RuntimeError,),
        )
        for row in rows:
            if row['network'] == GRAPH and 'failure' not in row:
                row['cuda_peak_bytes'] = None  # taken at the capture
            if row.get('cuda_peak_bytes') is not None:  # a step's own, without the weights
                network = networks[row['network'].split(',')[0]]
                row['cuda_peak_bytes'] += _weight_bytes(network, case)
        return rows


def _unsupported(case: Case, device: torch.device) -> str | None:
    if case.precision != 'bfloat16' or device.type != 'cuda':
        return None
    is_supported = torch.cuda.is_bf16_supported(including_emulation=False)
    return None if is_supported else 'not run: this GPU does not compute in bfloat16'


def _weight_bytes(network: nn.Module, case: Case) -> int:
    size = 4 if case.training else DTYPES[case.precision].itemsize
    tensors = itertools.chain(network.parameters(), network.buffers())
    return sum(x.numel() * (size if x.is_floating_point() else x.element_size()) for x in tensors)


def _matmul_rate(timer: Timer, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a large square matrix product, the best of ten.

    As large as takes 50 ms: processors without instructions for bfloat16 need minutes for what
    others do in a blink.
    """
    n, largest, best = 128, 8192 if timer.is_cuda else 2048, 0.0
    while n < largest and best < 0.05:
        n *= 2
        a = torch.rand(n, n, device=timer.device).to(dtype)
        best = min(timer.seconds(lambda a=a: a @ a) for _ in range(10))
    return n**3 / best


def _print_counts(networks: dict[str, nn.Module], image: torch.Tensor) -> dict[str, float]:
    """Print what does not depend on the device, for one image in float32.

    Args:
        networks: by name, on the CPU.
        image: (2, 3, H, W).

    Returns:
        Multiply-adds of an image by network, as the plain layers compute it.
    """
    print(
        f'  {"an image":<34}{"M params":>9}{"GFLOPs":>8}{"calls":>7}{"traffic MiB":>13}'
        f'{"kept for backward MiB":>24}'
    )
    flops = {}
    for name, network in networks.items():
        flops[name] = complexity.count(set_training(network, False), image[:1]).flops
        fused = for_inference(network, torch.float32)
        inference(fused, image[:1])()  # brings the weights into oneDNN's layout, once
        in_use = complexity.count(fused, image[:1])
        kept = complexity.saved_bytes(set_training(network, True), image) / 2 / MiB
        parameters = sum(p.numel() for p in network.parameters()) / 1e6
        print(
            f'  {name:<34}{parameters:9.3f}{flops[name] / 1e9:8.2f}{in_use.calls:7d}'
            f'{in_use.traffic / MiB:13.0f}{kept:24.0f}'
        )
    return flops


def _steps(
    case: Case, networks: dict[str, nn.Module], device: torch.device, compiled: bool
) -> dict[str, Callable]:
    image = torch.rand(case.batch, 3, *case.size, device=device)
    is_half_on_cpu = device.type == 'cpu' and case.precision != 'float32'
    steps = {
        name: _step(case, network, image, autocast=is_half_on_cpu and name != OURS)
        for name, network in networks.items()
    }
    if is_half_on_cpu:
        steps[IN_FLOAT32] = _step(replace(case, precision='float32'), networks[OURS], image)
    if compiled:
        steps[COMPILED] = _step(case, networks[OURS], image, compile_network)
    if device.type == 'cuda':
        steps[GRAPH] = _step(case, networks[OURS], image, _Graphed)
    return steps


class _Graphed(nn.Module):
    """Network that is replayed as CUDA graphs, as tests and `--cuda-graph` do."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self._run = (TrainingGraphs if network.training else CudaGraphs)(network)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._run(x)


def _step(
    case: Case,
    network: nn.Module,
    image: torch.Tensor,
    build: Callable | None = None,
    autocast: bool = False,
) -> Callable:
    dtype = DTYPES[case.precision]
    try:
        if case.training:
            network = set_training(network, True)
            network = network if build is None else build(copy.deepcopy(network))
            return training_step(network, image, dtype)
        if autocast:
            return inference(UnderAutocast(network, dtype), image)
        network = for_inference(network, dtype)
        return inference(network if build is None else build(network), image)
    except RuntimeError as error:  # a row of the table, like one of the step itself
        return functools.partial(_raise, error.with_traceback(None))


def _raise(error: Exception) -> None:
    raise error
