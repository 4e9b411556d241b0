"""Sampling whose order and random numbers a resumed run repeats exactly."""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import DefaultSampler as _DefaultSampler

from ..registry import DATA_SAMPLERS
from ..seeding import temporary_seed


class SampleIndex(int):
    """Index of a sample, with the entropy of its random numbers.

    Args:
        index: index in the data set.
        entropy: further seeds, such as (seed, epoch).
    """

    def __new__(cls, index: int, entropy: tuple[int, ...]) -> 'SampleIndex':  # noqa: D102
        self = super().__new__(cls, index)
        self.entropy = (*entropy, index)
        return self

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:  # pickled for worker processes
        return int(self), self.entropy[:-1]


@DATA_SAMPLERS.register_module()
class DefaultSampler(_DefaultSampler):
    """MMEngine's `DefaultSampler` with resumable epochs and contiguous parts.

    With `shuffle`, indices carry (seed, epoch), and an epoch can start in the middle. Without, each
    process gets one contiguous part of the data set instead of every n-th sample, and so decodes an
    image once for all its boxes. The number of samples of a process is MMEngine's.

    Args:
        args: arguments of MMEngine's class: dataset, shuffle, seed, round_up.
        kwargs: likewise.

    Attributes:
        start: number of samples of this process to skip in the next epoch, because an interrupted
            run has processed them; reset to 0 afterwards.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        if not self.shuffle:
            return iter(self._contiguous_part()[start:])
        indices = [*super().__iter__()][start:]
        return iter([SampleIndex(index, (self.seed, self.epoch)) for index in indices])

    def _contiguous_part(self) -> list[int]:
        """Return this process's indices.

        Parts differ by one sample at most. With `round_up` the shorter parts end with the sample
        that follows, which MMEngine's `collect_results` cuts off.
        """
        size = len(self.dataset)
        share, rest = divmod(size, self.world_size)
        first = self.rank * share + min(self.rank, rest)
        return [index % size for index in range(first, first + self.num_samples)]


class ReproducibleSamples:
    """Mixin of data sets: seed the augmentation of a sample from its `SampleIndex`."""

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, SampleIndex):
            return super().__getitem__(index)
        with temporary_seed(*index.entropy):
            return super().__getitem__(int(index))
