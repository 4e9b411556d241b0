"""Loading, memory and evaluation against MMPose's, side by side: `tools/benchmark_data.py`.

Times are of one loading worker; rounds of the two implementations alternate. Memory is
taken in a process of its own for each, which the operating system then tells about (Linux only).
"""

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import mmengine
import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import DATASETS, METRICS
from torch.utils.data import DataLoader

from ..coco.annotations import read as read_annotations
from ..datasets.coco import CocoDataset
from ..datasets.collate import pseudo_collate
from ..datasets.sampler import SampleIndex

SCOPES = ('mmpose', 'hrformer_mmpose')
TRAIN, VAL = (f'annotations/person_keypoints_{split}2017.json' for split in ('train', 'val'))


def _prepare() -> None:
    init_default_scope('mmpose')
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


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
    _prepare()
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
    for image, known in persons.items():
        for number in range(count):
            x, y, w, h = known[number % len(known)]
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


def compare_memory(ann_file: str, persons: int, workers: int, rounds: int) -> None:
    """Print the memory of the data set with loading workers.

    Args:
        ann_file: annotations, repeated up to the size.
        persons: number of annotated persons.
        workers: number of loading workers.
        rounds: number of measurements.

    Raises:
        DataError: the annotations cannot be read.
    """
    _prepare()
    read_annotations(ann_file)
    with tempfile.TemporaryDirectory() as root:
        persons = _repeat(Path(ann_file), Path(root), persons)
        size = Path(root, 'ann.json').stat().st_size / 2**20
        print(f'{persons} persons, annotation file of {size:.0f} MiB, {workers} workers')
        for _ in range(rounds):
            for scope in SCOPES:
                peak, total, before = _apart(_hold, scope, root, workers)
                print(
                    f'  {scope:<16} all processes {total:6.0f} MiB, of which '
                    f'{total - before:6.0f} for the data set and the workers; peak of the main '
                    f'process while reading {peak:6.0f} MiB',
                    flush=True,
                )


def _repeat(source: Path, root: Path, persons: int) -> int:
    """Write as many copies of the annotations as have `persons` to train on, and empty images."""
    data = json.loads(source.read_text())
    sample = [ann['num_keypoints'] > 0 and not ann['iscrowd'] for ann in data['annotations']]
    images, annotations, count = [], [], 0
    for copy in range(-(-persons // sum(sample))):
        shift = copy * 10**7
        names = {image['id']: f'{copy:04d}_{image["file_name"]}' for image in data['images']}
        images += [
            {**image, 'id': image['id'] + shift, 'file_name': names[image['id']]}
            for image in data['images']
        ]
        for ann, is_sample in zip(data['annotations'], sample, strict=True):
            if count < persons:
                number = shift + 10**9 + len(annotations)
                annotations.append({**ann, 'id': number, 'image_id': ann['image_id'] + shift})
                count += is_sample
    content = {**data, 'images': images, 'annotations': annotations}
    (root / 'ann.json').write_text(json.dumps(content))
    (root / 'images').mkdir()
    for image in images:
        (root / 'images' / image['file_name']).write_bytes(b'x')
    return count


def _hold(scope: str, root: str, workers: int) -> tuple[float, float, float]:
    """MiB: peak while reading, of all processes when each has seen its samples, and before."""
    init_default_scope('mmpose')
    before = _proportional()
    data = DATASETS.build(
        dict(
            type=f'{scope}.CocoDataset',
            data_root=root,
            ann_file='ann.json',
            data_prefix=dict(img='images/'),
            pipeline=[_only_id],
        )
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    loader = DataLoader(
        data, batch_size=64, shuffle=True, num_workers=workers, collate_fn=list,
        persistent_workers=True, multiprocessing_context='fork',
    )  # fmt: skip
    seen = sum(len(batch) for batch in loader)
    if seen != len(data):
        raise RuntimeError(f'{seen} of {len(data)} samples')
    return peak, _proportional(), before


def _only_id(sample: dict) -> int:
    return sample['id']


def _proportional() -> float:
    """MiB of this process and its children; what several share counts once."""
    pid = os.getpid()
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    total = 0
    for process in (str(pid), *children):
        text = Path(f'/proc/{process}/smaps_rollup').read_text()
        total += int(text.split('\nPss:')[1].split()[0])
    return total / 1024


def _apart(function: Callable, *arguments):
    """The function's result from a new process."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        raise RuntimeError(f'{function.__name__}{arguments} failed') from None
    process.join()
    return result


def _send(sender, function: Callable, arguments: tuple) -> None:
    sender.send(function(*arguments))


def time_evaluation(ann_file: str, detections: int, rounds: int) -> None:
    """Time the evaluation of simulated predictions and print seconds and memory.

    Args:
        ann_file: annotations that predictions are simulated from.
        detections: number of predictions.
        rounds: number of timed rounds.

    Raises:
        DataError: the annotations cannot be read.
    """
    _prepare()
    read_annotations(ann_file)
    times, figures = [], []
    for _ in range(rounds):
        results = [_apart(_evaluate, scope, ann_file, detections) for scope in SCOPES]
        for scope, (seconds, before, peak, _) in zip(SCOPES, results, strict=True):
            print(
                f'  {scope:<16} {seconds:7.1f} s, peak {peak:6.0f} MiB, '
                f'{peak - before:6.0f} above the predictions',
                flush=True,
            )
        times.append([result[0] for result in results])
        figures = [result[3] for result in results]
    ratios = sorted(theirs / ours for theirs, ours in times)
    worst = max(abs(figures[0][key] - figures[1][key]) for key in figures[0])
    print(
        f'{detections} detections: ratio {median(ratios):.1f} ({ratios[0]:.1f} to '
        f'{ratios[-1]:.1f} in {rounds} rounds); figures differ by {worst:.0e} at most'
    )


def _evaluate(scope: str, ann_file: str, count: int) -> tuple[float, float, float, dict]:
    """Seconds from predictions to figures, MiB before, peak MiB, figures."""
    samples = simulate(ann_file, count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    metric = METRICS.build(dict(type=f'{scope}.CocoMetric', ann_file=ann_file))
    metric.dataset_meta = parse_pose_metainfo(CocoDataset.METAINFO)
    for first in range(0, count, 32):
        metric.process({}, samples[first : first + 32])
    figures = metric.evaluate(count)
    seconds = time.perf_counter() - start
    return seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, figures


def simulate(ann_file: str, count: int) -> list[dict]:
    """Simulate predictions for `count` boxes: good, bad and random poses."""
    rng = np.random.default_rng(0)
    persons = json.loads(Path(ann_file).read_text())['annotations']
    samples = []
    for number, pick in enumerate(np.sort(rng.integers(0, len(persons), count))):
        x, y, w, h = persons[pick]['bbox']
        labelled = np.reshape(persons[pick]['keypoints'], (17, 3)).astype(float)
        anywhere = rng.uniform((x, y), (x + w + 1, y + h + 1), (17, 2))
        keypoints = np.where(labelled[:, 2:] > 0, labelled[:, :2], anywhere)
        if rng.random() < 0.3:
            keypoints = anywhere
        spread = rng.choice([0.01, 0.03, 0.1, 0.3]) * np.sqrt(w * h + 1)
        keypoints = keypoints + rng.normal(0, spread, (17, 2))
        samples.append(
            dict(
                id=number,
                img_id=persons[pick]['image_id'],
                pred_instances=dict(
                    keypoints=keypoints[None].astype(np.float32),
                    keypoint_scores=rng.random((1, 17)).astype(np.float32),
                    bboxes=np.array([[x, y, x + w, y + h]], np.float32),
                ),
                gt_instances=dict(
                    bbox_scores=rng.random(1).astype(np.float32),
                    bbox_scales=1.25 * np.array([[w, h]], np.float32),
                ),
            )
        )
    return samples
