"""Least times that memory and tensor cores of GPUs allow for the counted work: `... roofline`.

Nothing is measured. Bytes are counted as if no operator found its input in a cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..backbones import HRFormer
from . import baselines, report
from .complexity import Counts
from .counts import inference_counts, training_counts
from .steps import DTYPES

COUNTED = ('HRFormer', 'operators', 'GB read and written', 'G multiply-adds')
LEAST = ('GPU', 'step', 'HRFormer', 'memory ms', 'products ms', 'images/s at most')


class GPU(NamedTuple):
    """Peak rates of a GPU, from its vendor's data sheet."""

    name: str
    bandwidth: float  # bytes/s
    peak: float  # FLOP/s of float16 tensor cores without sparsity; two per multiply-add


GPUS = (
    GPU('V100 SXM2', 0.9e12, 125e12),
    GPU('A100 SXM, 80 GB', 2.039e12, 312e12),
    GPU('H100 SXM', 3.35e12, 989e12),
    GPU('H200 SXM', 4.8e12, 989e12),
)


@dataclass(frozen=True)
class RooflineOptions:
    """Options of `run`.

    Attributes:
        arch: name of an architecture.
        size: (height, width).
        batch_size: images in an inference.
        train_batch_size: images in a training step.
        update: Markdown file whose section is replaced, or None.
    """

    arch: str
    size: tuple[int, int]
    batch_size: int
    train_batch_size: int
    update: str | None


class Work(NamedTuple):
    """A step of a network."""

    step: str
    network: str
    batch: int
    counts: Counts


def run(args: RooflineOptions) -> list[str]:
    """Count, print the tables, and update a file; return the lines of the tables."""
    work = [*count_work(args)]
    lines = [
        f'HRFormer {args.arch}, {args.size[0]}x{args.size[1]}, half precision:',
        '',
        *report.table(COUNTED, [_counted(one) for one in work]),
        '',
        *report.table(LEAST, [_least(gpu, one) for gpu in GPUS for one in work]),
        '',
    ]
    print('\n'.join(lines))
    report.update(args.update, 'roofline', lines)
    return lines


def count_work(args: RooflineOptions) -> Iterator[Work]:
    """Count both steps of both networks; bfloat16 is faster on CPUs and counts as float16 does."""
    networks = {'MMPose': baselines.mmpose_hrformer(args.arch), 'ours': HRFormer(arch=args.arch)}
    for name, network in networks.items():
        step, batch = f'training step, batch {args.train_batch_size}', args.train_batch_size
        counts = training_counts(network, args.size, DTYPES['bfloat16'], batch)
        yield Work(step, name, batch, counts)
    for name, network in networks.items():
        step, batch = f'inference, batch {args.batch_size}', args.batch_size
        counts = inference_counts(network, args.size, DTYPES['bfloat16'], batch)
        yield Work(step, name, batch, counts)


def least_seconds(gpu: GPU, counts: Counts) -> tuple[float, float]:
    """Return the least seconds that memory, and that tensor cores, need."""
    return counts.traffic / gpu.bandwidth, 2 * counts.flops / gpu.peak


def _counted(work: Work) -> Sequence[str]:
    counts = work.counts
    traffic, flops = f'{counts.traffic / 1e9:.1f}', f'{counts.flops / 1e9:.0f}'
    return f'{work.step}, {work.network}', f'{counts.calls:.0f}', traffic, flops


def _least(gpu: GPU, work: Work) -> Sequence[str]:
    memory, products = least_seconds(gpu, work.counts)
    rate = work.batch / max(memory, products)
    times = (f'{1e3 * memory:.1f}', f'{1e3 * products:.1f}', f'{rate:.0f}')
    return gpu.name, work.step, work.network, *times
