"""HRFormer against MMPose's classes, interleaved: `tools/benchmark.py`.

In every round each network takes its turn on the same images, so that what else the machine does
meets all of them; reported are medians over the rounds and the spread of the rounds' ratios.
"""

import copy
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import nn

from ..errors import ConfigError
from ..execution.compiling import compile_network
from . import baselines as rivals
from . import complexity

MiB = 2**20
WARM_UP = 2  # rounds: the first ones pay for memory that the machine has not handed out yet
DTYPES = dict(float32=None, float16=torch.float16, bfloat16=torch.bfloat16)


@dataclass(frozen=True)
class NetworkOptions:
    """Options of `benchmark`.

    Attributes:
        arch: names of architectures.
        size: image sizes, each (height, width), multiples of 32.
        batch_size: batch sizes of inference.
        train_batch_size: batch sizes of training steps.
        precision: keys of `DTYPES`.
        device: name of a PyTorch device.
        threads: number of CPU threads.
        rounds: number of timed rounds.
        with_cp: recompute the blocks in training.
        compile: also time the compiled network.
        no_hrnet: leave out HRNet-W32 and W48.
    """

    arch: Sequence[str]
    size: Sequence[tuple[int, int]]
    batch_size: Sequence[int]
    train_batch_size: Sequence[int]
    precision: Sequence[str]
    device: str
    threads: int
    rounds: int
    with_cp: bool
    compile: bool
    no_hrnet: bool


def benchmark(args: NetworkOptions) -> dict:
    """Time the networks and print tables.

    Returns:
        `matmul_rates` by precision, in multiply-adds a second, and `rows` of the tables.
    """
    device = device_of(args.device)
    torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if device.type == 'cuda' else f'{args.threads} threads'
    print(f'torch {torch.__version__}, {device.type} ({where}), {args.rounds} rounds in turns')
    rates = {name: _matmul_rate(device, name) for name in args.precision}
    for name, rate in rates.items():
        print(f'matrix products, {name}: {rate / 1e9:.0f} G multiply-adds/s')
    rows = []
    for arch, size in itertools.product(args.arch, args.size):
        print(f'\nHRFormer {arch}, {size[0]}x{size[1]}')
        made = rivals.networks(arch, args.with_cp)
        if args.no_hrnet:
            made = {name: net for name, net in made.items() if name not in rivals.HRNETS}
        counts = _counts(made, size)
        made = {name: net.to(device) for name, net in made.items()}
        for precision in args.precision:
            for training, batches in ((False, args.batch_size), (True, args.train_batch_size)):
                for batch in batches:
                    image = torch.rand(batch, 3, *size, device=device)
                    steps = _steps(made, image, precision, training, args.compile)
                    what = f'{"training step" if training else "inference"}, batch {batch}'
                    found = time_in_turns(f'{what}, {precision}', steps, args.rounds, device)
                    for row in found:
                        flops = (
                            counts[row['network'].split(',')[0]].flops
                            * batch
                            * (3 if training else 1)
                        )
                        row['share_of_matmul_rate'] = flops / row['median_s'] / rates[precision]
                        row |= dict(arch=arch, size=size, batch=batch, training=training)
                        row |= dict(precision=precision)
                        print(line(row))
                    rows += found
    return dict(matmul_rates=rates, rows=rows)


def device_of(name: str) -> torch.device:
    """A device by name; a `ConfigError` where it is not there."""
    device = torch.device(name)
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ConfigError(f'--device {name}: there is no CUDA device here')
    return device


def _matmul_rate(device: torch.device, precision: str) -> float:
    """Multiply-adds a second of a large square matrix product, the best of ten.

    As large as takes 50 ms: processors without instructions for bfloat16 need minutes for what
    others do in a blink.
    """
    dtype = DTYPES[precision] or torch.float32
    n, largest, best = 128, 8192 if device.type == 'cuda' else 2048, 0.0
    while n < largest and best < 0.05:
        n *= 2
        a = torch.rand(n, n, device=device).to(dtype)
        best = min(_seconds(lambda a=a: a @ a, device) for _ in range(10))
    return n**3 / best


def _counts(made: dict[str, nn.Module], size: tuple[int, int]) -> dict[str, complexity.Counts]:
    """Print what does not depend on the machine; on one image."""
    print(
        f'  {"an image":<34}{"M params":>9}{"GFLOPs":>8}{"calls":>7}{"traffic MiB":>13}'
        f'{"kept for backward MiB":>24}'
    )
    image, counts = torch.rand(2, 3, *size), {}
    for name, network in made.items():
        found = counts[name] = complexity.count(_mode(network, False), image[:1])
        in_use = found
        if name == 'ours':
            fused = network.fuse_for_inference()
            with torch.no_grad():
                fused(image[:1])  # which brings the weights into oneDNN's layout, once
            in_use = complexity.count(fused, image[:1])
        kept = complexity.saved_bytes(_mode(network, True), image) / 2 / MiB
        parameters = sum(p.numel() for p in network.parameters()) / 1e6
        print(
            f'  {name:<34}{parameters:9.3f}{found.flops / 1e9:8.2f}{in_use.calls:7d}'
            f'{in_use.traffic / MiB:13.0f}{kept:24.0f}'
        )
    with torch.no_grad():
        ours, theirs = made['ours'].eval().fuse_for_inference(), _mode(made[rivals.MMPOSE], False)
        error = (ours(image)[0] - theirs(image)[0]).norm() / theirs(image)[0].norm()
    print(f"  ours for inference against MMPose's: relative L2 difference {error:.1e}")
    return counts


def _mode(network: nn.Module, training: bool) -> nn.Module:
    network.train(training)  # MMPose's classes return nothing
    return network


def _steps(
    made: dict[str, nn.Module], image: torch.Tensor, precision: str, training: bool, compiled: bool
) -> dict[str, Callable]:
    steps = {}
    for name, network in made.items():
        if training:
            steps[name] = _training_step(_mode(network, True), image, precision)
        else:
            network = _mode(network, False)
            fused = network.fuse_for_inference() if name == 'ours' else network
            steps[name] = _inference(fused, image, precision)
    if compiled:
        network = copy.deepcopy(made['ours']).train(training)
        network = compile_network(network if training else network.fuse_for_inference())
        step = _training_step if training else _inference
        steps['ours, compiled'] = step(network, image, precision)
    return steps


def _autocast(image: torch.Tensor, precision: str) -> torch.autocast:
    dtype = DTYPES[precision]
    return torch.autocast(image.device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def _inference(network: nn.Module, image: torch.Tensor, precision: str) -> Callable:
    def step() -> None:
        with torch.no_grad(), _autocast(image, precision):
            network(image)

    return step


def _training_step(network: nn.Module, image: torch.Tensor, precision: str) -> Callable:
    def step() -> None:
        network.zero_grad(set_to_none=True)
        with _autocast(image, precision):
            out = network(image)[0]
        out.float().square().mean().backward()

    return step


def _seconds(step: Callable, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_in_turns(
    what: str,
    steps: dict[str, Callable],
    rounds: int,
    device: torch.device,
    warm_up: int = WARM_UP,
    pause: float = 0.0,
) -> list[dict]:
    """Time functions, one call of each a round; `steps` must hold MMPose's.

    Args:
        what: title. steps: by name. rounds: that count; `warm_up` of them go before.
        pause: seconds before each call, where several libraries take turns: the threads of one go
            on spinning for a while and would take the processor from the next.

    Returns:
        For each its name (`network`), `seconds` by round, `median_s`, sorted `ratios` of MMPose's
        time over its own, `cuda_peak_bytes`.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    peaks: dict[str, int | None] = dict.fromkeys(steps)
    for index in range(warm_up + rounds):
        print(f'\r\x1b[K  {what}: round {index + 1} of {warm_up + rounds}', end='', flush=True)
        for name, step in steps.items():
            if device.type == 'cuda':
                torch.cuda.reset_peak_memory_stats()
            time.sleep(pause)
            seconds = _seconds(step, device)
            if index >= warm_up:
                times[name].append(seconds)
            if device.type == 'cuda':
                peaks[name] = torch.cuda.max_memory_allocated()
    print(
        f'\r\x1b[K  {what:<34}{"ms":>9}{"(lowest to highest)":>24}'
        f'{"times MMPose":>14}{"(lowest to highest)":>21}'
    )
    rows = []
    for name, seconds in times.items():
        pairs = zip(times[rivals.MMPOSE], seconds, strict=True)
        ratios = sorted(theirs / ours for theirs, ours in pairs)
        rows.append(
            dict(network=name, median_s=median(seconds), seconds=seconds, ratios=ratios)
            | dict(cuda_peak_bytes=peaks[name])
        )
    return rows


def line(row: dict) -> str:
    """A row of `time_in_turns` for the table."""
    low, high = 1e3 * min(row['seconds']), 1e3 * max(row['seconds'])
    ratios = row['ratios']
    peak = row['cuda_peak_bytes']
    return (
        f'  {row["network"]:<34}{1e3 * row["median_s"]:9.1f}{f"({low:.1f} to {high:.1f})":>24}'
        f'{median(ratios):14.2f}{f"({ratios[0]:.2f} to {ratios[-1]:.2f})":>21}'
        + (f'{row["share_of_matmul_rate"]:16.0%}' if 'share_of_matmul_rate' in row else '')
        + ('' if peak is None else f'   peak {peak / MiB:.0f} MiB')
    )
