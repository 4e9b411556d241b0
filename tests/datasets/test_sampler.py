"""Each sample once, in one piece a process; MMEngine's counts."""

import pytest

pytest.importorskip('mmpose')
import mmengine.dataset
from mmengine.dataset import sampler as mmengine_sampler

from hrformer_mmpose.datasets.sampler import DefaultSampler, SampleIndex


@pytest.mark.parametrize('round_up', [True, False])
@pytest.mark.parametrize(('size', 'processes'), [(10, 1), (10, 3), (3, 4), (8, 4), (101, 8)])
def test_without_shuffling_each_process_has_a_piece(monkeypatch, size, processes, round_up):
    parts = []
    for rank in range(processes):
        monkeypatch.setattr(mmengine_sampler, 'get_dist_info', lambda rank=rank: (rank, processes))
        settings = dict(dataset=range(size), shuffle=False, seed=0, round_up=round_up)
        ours = DefaultSampler(**settings)
        theirs = mmengine.dataset.DefaultSampler(**settings)
        part = [*ours]
        assert len(part) == len(ours) == len(theirs) == len([*theirs])
        assert not any(isinstance(index, SampleIndex) for index in part)
        parts.append(part)
    together = [index for part in parts for index in part]
    if round_up:
        assert together == [*range(size), *range(len(together) - size)]
    else:
        assert together == [*range(size)]


def test_shuffled_indices_are_mmengines_and_carry_their_origin():
    settings = dict(dataset=range(20), shuffle=True, seed=3)
    ours, theirs = DefaultSampler(**settings), mmengine.dataset.DefaultSampler(**settings)
    for sampler in (ours, theirs):
        sampler.set_epoch(2)
    indices = [*ours]
    assert indices == [*theirs]
    assert indices[0].entropy == (3, 2, indices[0])
