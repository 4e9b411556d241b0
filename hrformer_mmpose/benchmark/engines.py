"""Precisions and engines side by side: `tools/benchmark.py engines`.

All networks in all engines take turns on the same crops, from normalized images to the head's
output, both in the CPU's memory. Accuracy is that of a trained network, in all engines of a CPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ..errors import ConfigError
from ..export.files import require
from . import engine_steps, report
from .engine_networks import HRNET_W48, SIZE
from .timing import Timer, device_of, line, time_in_turns

# Section of a Markdown file with the table of a kind of device.
SECTIONS = {'cpu': 'engines', 'cuda': 'gpu-engines'}
PACKAGES = {'cpu': ('onnx', 'openvino', 'onnxruntime', 'nncf'), 'cuda': ('onnx', 'onnxruntime')}
# Seconds; the threads of one library spin and would take the processor from the next.
PAUSE = {'cpu': 0.3, 'cuda': 0.0}


@dataclass(frozen=True)
class EngineOptions:
    """Options of `benchmark`.

    Attributes:
        networks: names from `engine_networks.NETWORKS`.
        batch_size: crops in a batch.
        threads: number of CPU threads.
        rounds: number of timed rounds.
        folder: exported files, which are reused if they exist.
        markdown: file for the table, or None.
        update: Markdown file whose section (`SECTIONS`) is replaced, or None.
        device: 'cpu', 'cuda', 'cuda:1', ...
    """

    networks: Sequence[str]
    batch_size: int
    threads: int
    rounds: int
    folder: str
    markdown: str | None
    update: str | None = None
    device: str = 'cpu'


def engine_device(name: str) -> torch.device:
    """Return a device that has engines.

    Raises:
        ConfigError: no such device, or neither a CPU nor a CUDA device.
    """
    device = device_of(name)
    if device.type not in engine_steps.ENGINES:
        raise ConfigError(f'--device {name}: engines are measured on cpu, cuda, cuda:1, ...')
    return device


def benchmark(args: EngineOptions, accuracies: dict[str, dict] | None = None) -> dict:
    """Time the networks in all engines and print a table.

    Args:
        args: the options.
        accuracies: of a trained network by engine, see `engine_accuracy.measure`.

    Returns:
        `environment`, names of `engines`, `rows` of the timing and `accuracies`.
    """
    device = engine_device(args.device)
    require('the benchmark of engines', *PACKAGES[device.type])
    torch.set_num_threads(args.threads)
    engines = engine_steps.ENGINES[device.type]
    h, w = SIZE
    images = np.random.default_rng(0).normal(0, 1, (args.batch_size, 3, h, w)).astype(np.float32)
    steps: dict[str, Callable] = {}
    for name in args.networks:
        for engine, step in engine_steps.build(
            name, images, engines, Path(args.folder), args.threads, device
        ).items():
            steps[f'{name}, {engine}'] = step
    reference = f'{args.networks[0]}, {engines[0]}'
    rows = time_in_turns(
        f'batch {args.batch_size}',
        steps,
        args.rounds,
        Timer(torch.device('cpu')),  # a call ends with its result in the CPU's memory
        warm_up=engine_steps.WARM_UP[device.type],
        pause=PAUSE[device.type],
        tolerate=(RuntimeError, ImportError),
        reference=reference,
    )
    for row in rows:
        print(line(row))
    environment = report.environment(device, args.threads)
    results = dict(
        environment=environment | dict(instructions=instructions()),
        engines=[str(engine) for engine in engines],
        batch_size=args.batch_size,
        rows=rows,
        accuracies=accuracies or {},
    )
    table = lines(results, args.networks)
    print('\n' + '\n'.join(table))
    if args.markdown:
        report.write(args.markdown, '\n'.join([*table, '']))
    report.update(args.update, SECTIONS[device.type], table)
    return results


def lines(results: dict, networks: Sequence[str]) -> list[str]:
    """Return the table in Markdown: a row an engine and precision, a column a network.

    Times are ms an image, the median of the rounds; in brackets relative to HRNet-W48 in the same
    row. An engine in which no network runs is a line below the table.
    """
    rows = {row['network']: row for row in results['rows']}
    columns = ['engine, precision', *networks]
    columns += ['AP lost', 'shift, 95 %'] if results['accuracies'] else []
    cells, failures = [], []
    for name in results['engines']:
        if all('failure' in rows[f'{network}, {name}'] for network in networks):
            failures += ['', f'{name}: {rows[f"{networks[0]}, {name}"]["failure"]}']
            continue
        reference = rows.get(f'{HRNET_W48}, {name}')
        row = [name]
        for network in networks:
            row.append(_cell(rows[f'{network}, {name}'], reference, results['batch_size']))
        if results['accuracies']:
            accuracy = results['accuracies'].get(name)
            row += [f'{accuracy[key]:.2f}' for key in ('ap_lost', 'p95')] if accuracy else ['', '']
        cells.append(row)
    return report.table(columns, cells) + failures


def _cell(row: dict, reference: dict | None, batch: int) -> str:
    if 'failure' in row:
        return row['failure'].replace('|', '/')
    milliseconds = 1e3 * row['median_s'] / batch
    text = f'{milliseconds:.0f}' if milliseconds >= 10 else f'{milliseconds:.2f}'
    if reference is None or 'failure' in reference:
        return text
    pairs = zip(row['seconds'], reference['seconds'], strict=True)
    return f'{text} ({median(a / b for a, b in pairs):.2f})'


def instructions() -> str:
    """Return the processor's name and the instructions that matter for precision (Linux)."""
    try:
        text = Path('/proc/cpuinfo').read_text()
    except OSError:
        return 'unknown'
    entries = dict(part.split(':', 1) for part in text.splitlines() if ':' in part)
    values = {key.strip(): value.strip() for key, value in entries.items()}
    flags = values.get('flags', '').split()
    wanted = ('avx2', 'avx512f', 'avx512_vnni', 'avx_vnni', 'avx512_bf16', 'amx_bf16', 'amx_int8')
    present = [name for name in wanted if name in flags]
    return f'{values.get("model name", "unknown")}: {", ".join(present) or "none of these"}'
