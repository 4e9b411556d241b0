"""Measure a data set's memory against MMPose's: `tools/benchmark_data.py memory`.

Each data set has a process of its own, whose memory the operating system reports (Linux only).
"""

import json
import os
import resource
import tempfile
from pathlib import Path

from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS
from torch.utils.data import DataLoader

from ..coco.annotations import read as read_annotations
from .isolation import SCOPES, in_own_process, use_one_thread

TRAIN = 'annotations/person_keypoints_train2017.json'


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
    use_one_thread()
    read_annotations(ann_file)
    with tempfile.TemporaryDirectory() as root:
        persons = _repeat(Path(ann_file), Path(root), persons)
        size = Path(root, 'ann.json').stat().st_size / 2**20
        print(f'{persons} persons, annotation file of {size:.0f} MiB, {workers} workers')
        for _ in range(rounds):
            for scope in SCOPES:
                peak, total, before = in_own_process(_hold, scope, root, workers)
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
