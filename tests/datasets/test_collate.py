"""A batch arrives from a worker as it left."""

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
import mmengine.dataset
from mmengine.registry import FUNCTIONS
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample
from torch.utils.data import DataLoader, Dataset

from hrformer_mmpose.datasets import collate
from hrformer_mmpose.engine.runner import Runner


class Samples(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        sample = PoseDataSample(metainfo=dict(id=index, img_path=f'{index}.jpg', flip=None))
        sample.gt_instances = InstanceData(
            keypoints=np.full((1, 17, 2), index, np.float32), visible=np.ones((1, 17), bool)
        )
        labels = InstanceData(weights=torch.full((1, 17), index / 7, dtype=torch.float16))
        sample.gt_instance_labels = labels
        image = torch.arange(60).reshape(4, 5, 3).permute(2, 0, 1) + index  # not contiguous
        return dict(inputs=image.to(torch.uint8), data_samples=sample, none=None, number=index)


def load(num_workers: int) -> list[dict]:
    loader = DataLoader(
        Samples(), batch_size=2, num_workers=num_workers, collate_fn=collate.pseudo_collate
    )
    return [*loader]


@pytest.mark.parametrize('num_workers', [1, 2])
def test_a_worker_changes_nothing(num_workers):
    for expected, batch in zip(load(0), load(num_workers), strict=True):
        assert type(batch) is type(expected) is dict
        assert batch.keys() == expected.keys()
        assert batch['number'] == expected['number']
        for ours, theirs in zip(batch['inputs'], expected['inputs'], strict=True):
            assert ours.dtype == theirs.dtype
            assert torch.equal(ours, theirs)
        for ours, theirs in zip(batch['data_samples'], expected['data_samples'], strict=True):
            assert type(ours) is PoseDataSample
            assert ours.metainfo == theirs.metainfo
            assert np.array_equal(ours.gt_instances.keypoints, theirs.gt_instances.keypoints)
            weights = ours.gt_instance_labels.weights
            assert weights.dtype == torch.float16
            assert torch.equal(weights, theirs.gt_instance_labels.weights)


def test_what_arrives_can_be_changed():
    batch = load(1)[0]
    batch['inputs'][0] += 1
    batch['data_samples'][0].gt_instances.keypoints[:] = 3


def test_one_shared_block_a_batch(monkeypatch):
    shared = []
    original = torch.Tensor.share_memory_
    monkeypatch.setattr(torch.Tensor, 'share_memory_', lambda t: shared.append(t) or original(t))
    batch = collate._pseudo_collate([Samples()[index] for index in range(5)])
    pickled = pickle.dumps(collate._Packed(batch))
    assert len(shared) == 1
    again = pickle.loads(pickled)
    assert torch.equal(again['inputs'][4], batch['inputs'][4])


@pytest.mark.parametrize(
    'value',
    [
        [],
        'text',
        torch.zeros(0, 4),
        torch.tensor(2.5),
        torch.ones(3, dtype=torch.bfloat16),
        torch.ones(2, requires_grad=True),
        np.array(['a', None], object),
    ],
    ids=str,
)
def test_any_content(value):
    again = pickle.loads(pickle.dumps(collate._Packed([value])))[0]
    assert type(again) is type(value)
    if isinstance(value, torch.Tensor):
        assert again.dtype == value.dtype
        assert again.requires_grad == value.requires_grad
    assert np.array_equal(_plain(again), _plain(value))


def _plain(value):
    return value.detach().float().numpy() if isinstance(value, torch.Tensor) else value


def test_it_is_registered():
    assert FUNCTIONS.get('hrformer_mmpose.pseudo_collate') is collate.pseudo_collate


@pytest.mark.parametrize(
    ('stated', 'taken'),
    [
        ({}, collate.pseudo_collate),
        (dict(collate_fn=dict(type='pseudo_collate')), mmengine.dataset.pseudo_collate),
    ],
)
def test_the_runner_takes_it_where_the_config_names_none(stated, taken):
    cfg = dict(dataset=Samples(), sampler=dict(type='DefaultSampler'), batch_size=2, **stated)
    loader = Runner.build_dataloader(cfg)
    assert getattr(loader.collate_fn, 'func', loader.collate_fn) is taken
    assert ('collate_fn' in cfg) == bool(stated)  # the caller's dict stays as it was
