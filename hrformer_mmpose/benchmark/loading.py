"""Time loading against MMPose's: `tools/benchmark_data.py loading`.

Times are of one loading worker; rounds of the two implementations alternate.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

import mmengine
import numpy as np
from mmpose.registry import DATASETS
from torch.utils.data import DataLoader

from ..coco.annotations import read as read_annotations
from ..datasets.collate import pseudo_collate
from ..datasets.sampler import SampleIndex
from .isolation import SCOPES, use_one_thread

TRAIN, VAL = (f'annotations/person_keypoints_{split}2017.json' for split in ('train', 'val'))


def time_loading(data_root: str, boxes: int, samples: int, rounds: int) -> None:
    """Time loading by one worker and print persons a second.

    Args:
        data_root: folder in COCO's layout.
        boxes: boxes an image, in the test.
        samples: persons a round.
        rounds: number of timed rounds.

    Raises:
        DataError: the validation annotations cannot be read.
    """
    use_one_thread()
    read_annotations(os.path.join(data_root, VAL))  # raises before the long work
    with tempfile.TemporaryDirectory() as folder:
        bbox_file = Path(folder, 'boxes.json')
        bbox_file.write_text(json.dumps(_boxes(Path(data_root, VAL), boxes)))
        for name, settings, crop in (
            ('test', dict(ann_file=VAL, bbox_file=str(bbox_file), test_mode=True), None),
            ('training', dict(ann_file=TRAIN), _augmentation),
        ):
            path = os.path.join(data_root, settings['ann_file'])
            if not os.path.isfile(path):
                print(f"{name}: not timed, since '{path}' does not exist")
                continue
            data = [_data_set(scope, data_root, settings, crop) for scope in SCOPES]
            order = np.arange(len(data[0]))
            if name == 'training':
                order = np.random.default_rng(0).permutation(order)
            order = np.resize(order, samples).tolist()
            _compare(f'{name}, persons a second', data, order, rounds)


def _boxes(ann_file: Path, count: int) -> list[dict]:
    """`count` boxes an image, each near an annotated person."""
    rng = np.random.default_rng(0)
    persons: dict[int, list] = {}
    for ann in json.loads(ann_file.read_text())['annotations']:
        if not ann['iscrowd'] and min(ann['bbox'][2:]) > 0:
            persons.setdefault(ann['image_id'], []).append(ann['bbox'])
    result = []
    for image, boxes in persons.items():
        for number in range(count):
            x, y, w, h = boxes[number % len(boxes)]
            x, y = x + rng.normal(0, 0.05 * w), y + rng.normal(0, 0.05 * h)
            box = dict(image_id=image, category_id=1, bbox=[x, y, w, h], score=rng.random())
            result.append(box)
    return result


def _augmentation(scope: str) -> list[dict]:
    return [
        dict(type='RandomFlip', direction='horizontal'),
        dict(type='RandomHalfBody'),
        dict(type=f'{scope}.RandomBBoxTransform'),
    ]


def _data_set(scope: str, root: str, settings: dict, augmentation):
    codec = dict(input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
    target = dict(type='GenerateTarget', encoder=dict(type=f'{scope}.MSRAHeatmap', **codec))
    pipeline = [
        dict(type=f'{scope}.LoadImage'),
        dict(type='GetBBoxCenterScale'),
        *(augmentation(scope) if augmentation else []),
        dict(type=f'{scope}.TopdownAffine', input_size=(192, 256)),
        *([target] if augmentation else []),
        dict(type='PackPoseInputs'),
    ]
    folder = 'val2017/' if settings.get('test_mode') else 'train2017/'
    return DATASETS.build(
        dict(
            type=f'{scope}.CocoDataset',
            data_root=root,
            data_prefix=dict(img=folder),
            pipeline=pipeline,
            **settings,
        )
    )


def _compare(name: str, data: list, order: list[int], rounds: int) -> None:
    loaders = [
        DataLoader(
            data_set, sampler=indices, batch_size=32, num_workers=1, persistent_workers=True,
            collate_fn=collate,
        )
        for data_set, indices, collate in (
            (data[0], order, mmengine.dataset.pseudo_collate),
            (data[1], _as_trained(order), pseudo_collate),
        )
    ]  # fmt: skip

    def seconds(loader) -> float:
        start = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - start

    for loader in loaders:
        seconds(loader)
    times = [[seconds(loader) for loader in loaders] for _ in range(rounds)]
    ratios = sorted(theirs / ours for theirs, ours in times)
    rates = [len(order) / median(column) for column in zip(*times, strict=True)]
    print(
        f'{name}: MMPose {rates[0]:.0f}, here {rates[1]:.0f}; ratio {median(ratios):.2f} '
        f'({ratios[0]:.2f} to {ratios[-1]:.2f} in {rounds} rounds of {len(order)})'
    )


def _as_trained(order: list[int]) -> list[int]:
    """Indices as our sampler gives them: each sample's random numbers are drawn anew."""
    return [SampleIndex(index, (0, 0)) for index in order]
