"""Each sample once, in one piece a process; MMEngine's counts; random numbers by sample."""

import itertools
import pickle
import random

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
import mmengine.dataset
from mmcv.transforms import BaseTransform
from mmengine.dataset import sampler as mmengine_sampler

from hrformer_mmpose.datasets.image_folder import ImageFolder
from hrformer_mmpose.datasets.mask_folder import MaskFolder
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
    assert all(b - a in (1, 1 - size) for part in parts for a, b in itertools.pairwise(part))
    # As `mmengine.dist.collect_results` cuts off what was added.
    rows = itertools.zip_longest(*parts)
    collected = [index for row in rows for index in row if index is not None][:size]
    assert sorted(collected) == [*range(size)]


def test_shuffled_indices_are_mmengines_and_carry_their_origin():
    settings = dict(dataset=range(20), shuffle=True, seed=3)
    ours, theirs = DefaultSampler(**settings), mmengine.dataset.DefaultSampler(**settings)
    for sampler in (ours, theirs):
        sampler.set_epoch(2)
    indices = [*ours]
    assert indices == [*theirs]
    assert indices[0].entropy == (3, 2, indices[0])


def test_an_index_reaches_a_worker_with_its_entropy():
    index = SampleIndex(5, (3, 2))
    copy = pickle.loads(pickle.dumps(index))
    assert copy == 5
    assert copy.entropy == index.entropy == (3, 2, 5)


class Noise(BaseTransform):
    """Random numbers in place of a sample."""

    def transform(self, results: dict) -> dict:
        """Draw a number from Python's, NumPy's and PyTorch's generators."""
        return dict(drawn=(random.random(), np.random.rand(), torch.rand(()).item()))


def image_folder(root):
    for name in ('a', 'b'):
        (root / name).mkdir()
        cv2.imwrite(str(root / name / '0.png'), np.zeros((4, 4, 3), np.uint8))
    return ImageFolder(str(root), pipeline=[Noise()])


def mask_folder(root):
    for name in ('images', 'masks'):
        (root / name).mkdir()
        for number in range(2):
            cv2.imwrite(str(root / name / f'{number}.png'), np.zeros((4, 4), np.uint8))
    return MaskFolder(str(root), dict(img='images', mask='masks'), pipeline=[Noise()])


@pytest.mark.parametrize('build', [image_folder, mask_folder])
def test_augmentation_depends_on_the_sample_alone(build, tmp_path):
    data = build(tmp_path)
    sampler = DefaultSampler(data, shuffle=True, seed=3)
    drawn = {int(index): data[index]['drawn'] for index in sampler}
    assert drawn[0] != drawn[1]
    random.random(), np.random.rand(), torch.rand(())
    assert drawn == {int(index): data[index]['drawn'] for index in reversed([*sampler])}
    sampler.set_epoch(1)
    assert all(data[index]['drawn'] != drawn[int(index)] for index in sampler)
