"""The cases of `networks.benchmark` and their order."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkOptions:
    """Options of `benchmark`.

    Attributes:
        arch: names of architectures.
        size: image sizes, each (height, width), multiples of 32.
        batch_size: batch sizes of inference.
        train_batch_size: batch sizes of training steps.
        precision: keys of `steps.DTYPES`.
        device: name of a PyTorch device.
        threads: number of CPU threads.
        rounds: number of timed rounds, as far as time allows.
        minutes: time for all cases; None for no limit.
        with_cp: recompute the blocks in training.
        compile: also time the compiled network.
        no_hrnet: leave out HRNet-W32 and W48.
        markdown: file for the table, or None.
    """

    arch: Sequence[str]
    size: Sequence[tuple[int, int]]
    batch_size: Sequence[int]
    train_batch_size: Sequence[int]
    precision: Sequence[str]
    device: str
    threads: int
    rounds: int
    minutes: float | None
    with_cp: bool
    compile: bool
    no_hrnet: bool
    markdown: str | None


@dataclass(frozen=True)
class Case:
    """Settings that all networks of a table share."""

    arch: str
    size: tuple[int, int]
    precision: str
    training: bool
    batch: int

    def __str__(self) -> str:
        what = 'training step' if self.training else 'inference'
        return f'{what}, batch {self.batch}, {self.precision}'


def plan(args: NetworkOptions) -> list[Case]:
    """Return the cases in the order in which they run."""
    phases = [(False, batch) for batch in args.batch_size]
    phases += [(True, batch) for batch in args.train_batch_size]
    settings = itertools.product(args.arch, args.size, args.precision, phases)
    return [Case(arch, size, precision, *phase) for arch, size, precision, phase in settings]
