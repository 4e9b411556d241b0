"""Precisions and engines side by side: `tools/benchmark.py engines`.

All networks in all engines take turns on the same crops, from normalized images to the head's
output. OpenVINO computes the crops of a batch one by one on its streams, as in `hrformer predict`.
Int8 files are calibrated on noise: that costs accuracy, not time. Accuracy is that of a trained
network, in all engines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import torch

from .. import io
from ..errors import ConfigError
from ..export.layers import quantizable
from ..export.nncf_quantizer import NncfQuantizer, require
from ..export.onnx_quantizer import OnnxQuantizer
from ..inference.onnx_session import OnnxSession
from ..inference.openvino_session import OpenVinoSession
from . import engine_networks, report
from .engine_networks import HRNET_W48, SIZE
from .timing import Timer, device_of, line, time_in_turns

TORCH, OPENVINO, ONNXRUNTIME = 'PyTorch', 'OpenVINO', 'onnxruntime'
ENGINES = (
    (TORCH, 'float32'),
    (TORCH, 'bfloat16'),
    (OPENVINO, 'float32'),
    (OPENVINO, 'bfloat16'),
    (OPENVINO, 'int8'),
    (ONNXRUNTIME, 'float32'),
    (ONNXRUNTIME, 'int8'),
)
SECTION = 'engines'  # of a Markdown file
CALIBRATED_ON = 8  # crops of noise
PAUSE = 0.3  # seconds; the threads of one library spin and would take the processor from the next


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
        update: Markdown file whose section `engines` is replaced, or None.
    """

    networks: Sequence[str]
    batch_size: int
    threads: int
    rounds: int
    folder: str
    markdown: str | None
    update: str | None = None


def benchmark(args: EngineOptions, accuracies: dict[str, dict] | None = None) -> dict:
    """Time the networks in all engines and print a table.

    Args:
        args: the options.
        accuracies: of a trained network by engine, see `engine_accuracy.measure`.

    Returns:
        `environment`, `rows` of the timing and `accuracies`.
    """
    require('onnx', 'openvino', 'onnxruntime', 'nncf')
    torch.set_num_threads(args.threads)
    h, w = SIZE
    images = np.random.default_rng(0).normal(0, 1, (args.batch_size, 3, h, w)).astype(np.float32)
    steps: dict[str, Callable] = {}
    for name in args.networks:
        for engine, step in _steps(name, images, args).items():
            steps[f'{name}, {engine}'] = step
    reference = f'{args.networks[0]}, {title(*ENGINES[0])}'
    rows = time_in_turns(
        f'batch {args.batch_size}',
        steps,
        args.rounds,
        Timer(device_of('cpu')),
        warm_up=1,
        pause=PAUSE,
        tolerate=(RuntimeError,),
        reference=reference,
    )
    for row in rows:
        print(line(row))
    environment = report.environment(torch.device('cpu'), args.threads)
    results = dict(
        environment=environment | dict(instructions=instructions()),
        batch_size=args.batch_size,
        rows=rows,
        accuracies=accuracies or {},
    )
    table = lines(results, args.networks)
    print('\n' + '\n'.join(table))
    if args.markdown:
        with io.replacing(args.markdown) as partial:
            Path(partial).write_text('\n'.join([*table, '']))
    report.update(args.update, SECTION, table)
    return results


def title(engine: str, precision: str) -> str:
    """Return the name of a row of the table."""
    return f'{engine} {precision}'


def lines(results: dict, networks: Sequence[str]) -> list[str]:
    """Return the table in Markdown: a row an engine and precision, a column a network.

    Times are ms an image, the median of the rounds; in brackets relative to HRNet-W48 in the same
    row.
    """
    rows = {row['network']: row for row in results['rows']}
    columns = ['engine, precision', *networks, 'AP lost', 'shift, 95 %']
    cells = []
    for engine in ENGINES:
        name = title(*engine)
        reference = rows.get(f'{HRNET_W48}, {name}')
        row = [name]
        for network in networks:
            row.append(_cell(rows[f'{network}, {name}'], reference, results['batch_size']))
        accuracy = results['accuracies'].get(name)
        row += [f'{accuracy["ap_lost"]:.2f}', f'{accuracy["p95"]:.2f}'] if accuracy else ['', '']
        cells.append(row)
    return report.table(columns, cells)


def _cell(row: dict, reference: dict | None, batch: int) -> str:
    if 'failure' in row:
        return row['failure'].replace('|', '/')
    text = f'{1e3 * row["median_s"] / batch:.0f}'
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
    found = [name for name in wanted if name in flags]
    return f'{values.get("model name", "unknown")}: {", ".join(found) or "none of these"}'


def _steps(name: str, images: np.ndarray, args: EngineOptions) -> dict[str, Callable]:
    """Return a function for each engine that runs a network once."""
    files = _files(name, Path(args.folder))
    poses = engine_networks.network(name)
    tensor = torch.from_numpy(images)
    steps: dict[str, Callable] = {}
    for engine, precision in ENGINES:
        if engine == TORCH:
            step = _torch_step(poses, tensor, precision)
        elif engine == OPENVINO:
            session = OpenVinoSession(files[engine, precision], args.threads)
            session.precision = precision
            step = _session_step(session, images)
        else:
            session = OnnxSession(files[engine, precision], args.threads, 'cpu')
            step = _session_step(session, images)
        steps[title(engine, precision)] = step
    return steps


def _torch_step(poses: torch.nn.Module, images: torch.Tensor, precision: str) -> Callable:
    images = images.contiguous(memory_format=torch.channels_last)
    is_half = precision == 'bfloat16'
    poses = engine_networks.for_torch(poses, torch.bfloat16 if is_half else torch.float32)

    def step() -> None:
        with torch.inference_mode(), torch.autocast('cpu', torch.bfloat16, enabled=is_half):
            poses(images)

    return step


def _session_step(session, images: np.ndarray) -> Callable:
    return lambda: session.run(images)


def _files(name: str, folder: Path) -> dict[tuple[str, str], Path]:
    """Export a network in all precisions; existing files are reused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--folder '{folder}': {error.strerror}") from error
    source = folder / f'{name}.onnx'
    quantized = {OPENVINO: folder / f'{name}-int8.xml', ONNXRUNTIME: folder / f'{name}-int8.onnx'}
    if not source.exists():
        print(f'exporting {name}')
        engine_networks.write_onnx(engine_networks.network(name), source)
    h, w = SIZE
    noise = np.random.default_rng(1).normal(0, 1, (CALIBRATED_ON, 3, h, w)).astype(np.float32)
    for engine, quantizer in ((OPENVINO, NncfQuantizer), (ONNXRUNTIME, OnnxQuantizer)):
        if not quantized[engine].exists():
            print(f'quantizing {name} for {engine}')
            _, products = quantizable(onnx.load(source))
            quantizer(source, noise, products).save(quantized[engine], {})
    return {
        (engine, precision): quantized[engine] if precision == 'int8' else source
        for engine, precision in ENGINES
        if engine != TORCH
    }
