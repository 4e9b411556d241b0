"""Training samples in an order, and with random numbers, that a resumed run repeats exactly."""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import DefaultSampler as _DefaultSampler

from ..registry import DATA_SAMPLERS
from ..seeding import temporary_seed


class SampleIndex(int):
    """Index of a sample that also says from what its random numbers are drawn.

    Args:
        index: in the data set. entropy: further numbers to draw from, such as (seed, epoch).
    """

    def __new__(cls, index: int, entropy: tuple[int, ...]) -> 'SampleIndex':  # noqa: D102
        self = super().__new__(cls, index)
        self.entropy = (*entropy, index)
        return self

    def __getnewargs__(self) -> tuple[int, tuple[int, ...]]:  # worker processes get it pickled
        return int(self), self.entropy[:-1]


@DATA_SAMPLERS.register_module()
class DefaultSampler(_DefaultSampler):
    """MMEngine's `DefaultSampler` for training that resumes, and for tests that share images.

    With `shuffle`, indices carry (seed, epoch) and an epoch can begin later. Without, each process
    gets a part of the data set in one piece, not every n-th sample, so that the boxes of an image
    are cropped by the process that decoded it; the number of samples a process is MMEngine's.

    Args:
        args, kwargs: dataset, shuffle, seed, round_up, as MMEngine's class takes them.

    Attributes:
        start: samples of this process that the next epoch leaves out, because an interrupted run
            has had them; goes back to 0.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        start, self.start = self.start, 0
        if not self.shuffle:
            return iter(self._piece()[start:])
        indices = [*super().__iter__()][start:]
        return iter([SampleIndex(index, (self.seed, self.epoch)) for index in indices])

    def _piece(self) -> list[int]:
        """This process's part; with `round_up` the last one goes on at the beginning."""
        size = len(self.dataset)
        if self.round_up:
            first, count = self.rank * self.num_samples, self.num_samples
        else:
            share, rest = divmod(size, self.world_size)
            first = self.rank * share + min(self.rank, rest)
            count = share + (self.rank < rest)
        return [index % size for index in range(first, first + count)]


class ReproducibleSamples:
    """Mixin of a data set: a `SampleIndex` gets the same augmentation wherever it is made."""

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, SampleIndex):
            return super().__getitem__(index)
        with temporary_seed(*index.entropy):
            return super().__getitem__(int(index))
