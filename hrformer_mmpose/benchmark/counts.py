"""Count training steps and inferences of HRFormer beside MMPose's class: `... counts`.

Counted on the CPU, under its autocast. Its rules differ from a GPU's in few operators, above all in
LayerNorm, which a GPU's computes in float32.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..backbones import HRFormer
from ..execution import processor
from . import baselines, report
from .complexity import Counts, count, count_step, extrapolate
from .steps import DTYPES, for_inference, inference
from .timing import MiB

MOST = 3  # images that are counted, not extrapolated
COLUMNS = ('step', 'network', 'kept for backward', 'operators', 'read and written', 'multiply-adds')


@dataclass(frozen=True)
class CountOptions:
    """Options of `run`.

    Attributes:
        arch: names of architectures.
        size: image sizes, each (height, width).
        precision: keys of `steps.DTYPES`.
        batch_size: images in a step.
        norm: BatchNorm layers of our network, 'BN' or 'SyncBN'.
        operators: number of operators to list for each network.
        update: Markdown file whose section is replaced, or None.
    """

    arch: Sequence[str]
    size: Sequence[tuple[int, int]]
    precision: Sequence[str]
    batch_size: int
    norm: Sequence[str]
    operators: int
    update: str | None


@dataclass(frozen=True)
class Row:
    """Counts of one network, and of MMPose's in the same step."""

    step: str
    network: str
    counts: Counts
    reference: Counts

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        names = ('kept', MiB, 'MiB'), ('calls', 1, ''), ('traffic', MiB, 'MiB'), ('flops', 1e9, 'G')
        return [self.step, self.network, *(self._cell(*name) for name in names)]

    def _cell(self, name: str, unit: float, symbol: str) -> str:
        value, reference = getattr(self.counts, name), getattr(self.reference, name)
        if not reference:
            return ''
        return f'{value / unit:.0f} {symbol}'.strip() + f' ({value / reference:.3f})'


def run(args: CountOptions) -> list[Row]:
    """Count, print a table for each architecture, size and precision, and update a file."""
    lines, rows = [], []
    for arch, size, precision in itertools.product(args.arch, args.size, args.precision):
        title = f'HRFormer {arch}, {size[0]}x{size[1]}, batch {args.batch_size}, {precision}'
        counted = [*count_networks(arch, size, precision, args.batch_size, args.norm)]
        section = [f'{title}:', '', *report.table(COLUMNS, [row.cells() for row in counted]), '']
        print('\n'.join(section))
        for row in counted if args.operators else ():
            print('\n'.join(_operators(row, args.operators)))
        lines, rows = lines + section, rows + counted
    report.update(args.update, 'counts', lines)
    return rows


def count_networks(
    arch: str, size: tuple[int, int], precision: str, batch: int, norms: Sequence[str] = ('BN',)
) -> Iterator[Row]:
    """Count MMPose's network and ours, in training with and without checkpoints, and inference."""
    dtype, step = DTYPES[precision], f'training step, {precision}'
    theirs = baselines.mmpose_hrformer(arch)
    reference = training_counts(theirs, size, dtype, batch)
    yield Row(step, 'MMPose', reference, reference)
    for norm, with_cp in itertools.product(norms, (False, True)):
        ours = HRFormer(arch=arch, norm_cfg=dict(type=norm), with_cp=with_cp)
        name = f'ours, {norm}{", with_cp" if with_cp else ""}'
        yield Row(step, name, training_counts(ours, size, dtype, batch), reference)
    step = f'inference, {precision}'
    reference = inference_counts(theirs, size, dtype, batch)
    yield Row(step, 'MMPose', reference, reference)
    yield Row(step, 'ours', inference_counts(HRFormer(arch=arch), size, dtype, batch), reference)


def training_counts(
    network: nn.Module, size: tuple[int, int], dtype: torch.dtype, batch: int
) -> Counts:
    """Count a training step."""
    with processor.without_half_types():
        return _at_batch(lambda n: count_step(network, torch.rand(n, 3, *size), dtype), batch)


def inference_counts(
    network: nn.Module, size: tuple[int, int], dtype: torch.dtype, batch: int
) -> Counts:
    """Count an inference with weights and images of a type."""
    network = for_inference(network, torch.float32).to(dtype)  # a GPU's form
    images = [torch.rand(n, 3, *size).to(dtype) for n in range(MOST + 1)]
    with processor.without_half_types():
        inference(network, images[1])()  # prepares weights, once
        return _at_batch(lambda n: count(network, images[n]), batch)


def _at_batch(count_images: Callable[[int], Counts], batch: int) -> Counts:
    if batch <= MOST:
        return count_images(batch)
    return extrapolate(count_images(2), count_images(3), batch)


def _operators(row: Row, number: int) -> Iterator[str]:
    yield f'{row.step}, {row.network}: calls, MiB read and written'
    ranked = sorted(row.counts.operators.items(), key=lambda item: -item[1].calls)
    for name, counts in ranked[:number]:
        yield f'  {name:<60}{counts.calls:7d}{counts.traffic / MiB:10.0f}'
