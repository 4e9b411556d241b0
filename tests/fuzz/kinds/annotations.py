"""Annotation files as training and testing read them, and whether `check_dataset` agrees."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import init_default_scope

from hrformer_mmpose.cli import check_dataset
from hrformer_mmpose.datasets.coco import CocoDataset
from hrformer_mmpose.errors import UserError
from hrformer_mmpose.evaluation.coco_metric import CocoMetric
from tests.fuzz.materials import Materials
from tests.fuzz.mutate import mutate_json
from tests.fuzz.worker import Refused, run_command

CONFIG = """
default_scope = 'mmpose'
pipeline = [dict(type='hrformer_mmpose.LoadImage'), dict(type='GetBBoxCenterScale'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=(48, 64)), dict(type='PackPoseInputs')]
model = dict(type='TopdownPoseEstimator')
val_cfg = dict()
val_dataloader = dict(batch_size=1, sampler=dict(type='DefaultSampler'), dataset=dict(
    type='hrformer_mmpose.CocoDataset', data_root={root!r}, ann_file={file!r},
    data_mode='topdown', data_prefix=dict(img='val2017/'), pipeline=pipeline, test_mode={test}))
val_evaluator = dict(type='hrformer_mmpose.CocoMetric', ann_file={root!r} + '/' + {file!r})
"""


class Annotations:
    """Files read by `CocoDataset` with every sample, by `CocoMetric`, and by `check_dataset`."""

    name = 'annotations'
    isolate = executes = False

    def __init__(self, materials: Materials):
        self.root = materials.data
        file = self.root / 'annotations/person_keypoints_val2017.json'
        self.content = json.loads(file.read_text())
        for entry in self.content['annotations']:
            entry.pop('segmentation', None)

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A file, with the same images."""
        name, data = mutate_json(rng, self.content)
        (folder / 'annotations.json').write_bytes(data)
        os.symlink(self.root / 'val2017', folder / 'val2017')
        test = rng.random() < 0.5
        config = folder / 'config.py'
        config.write_text(CONFIG.format(root=str(folder), file='annotations.json', test=test))
        return name, (config, test)

    def judge(self, given: tuple[Path, bool]) -> None:
        """Samples are finite; the check reports a problem exactly where a run is refused."""
        config, test = given
        refusal = _error(lambda: self._use(config.parent, test))
        parsed = check_dataset.parser().parse_args([str(config), '--full', '--splits', 'val'])
        complaint = _error(lambda: run_command(lambda: _exit(check_dataset.run(parsed))))
        assert complaint is None or refusal is not None, f'the check alone complains: {complaint}'
        assert refusal is None or complaint is not None, f'the run alone complains: {refusal}'
        if refusal is not None:
            raise refusal

    def _use(self, root: Path, test: bool) -> None:
        init_default_scope('mmpose')
        dataset = CocoDataset(
            data_root=str(root), ann_file='annotations.json', data_prefix=dict(img='val2017/'),
            data_mode='topdown', test_mode=test, pipeline=PIPELINE,
        )  # fmt: skip
        assert len(dataset) > 0
        for index in range(len(dataset)):
            sample = dataset[index]
            inputs, gt = sample['inputs'], sample['data_samples'].gt_instances
            assert inputs.dtype == torch.uint8
            assert inputs.shape == (3, 64, 48)
            for key in ('bboxes', 'bbox_scores', 'keypoints'):
                assert np.isfinite(gt[key]).all(), f'{key} is not finite'
        if test:
            self._evaluate(root, dataset)

    def _evaluate(self, root: Path, dataset: CocoDataset) -> None:
        """The ground truth as its own prediction."""
        metric = CocoMetric(ann_file=str(root / 'annotations.json'))
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            points = np.asarray(info['keypoints'], np.float64)
            pred = dict(keypoints=points, keypoint_scores=np.ones(points.shape[:2]))
            sample = dict(id=info['id'], img_id=info['img_id'], pred_instances=pred)
            metric.process({}, [sample])
        found = metric.evaluate(len(dataset))
        assert np.isfinite([*found.values()]).all(), 'figures that are not finite'
        assert found['coco/AP'] == -1 or found['coco/AP'] > 0.99, 'AP of the truth'


PIPELINE = [
    dict(type='hrformer_mmpose.LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='hrformer_mmpose.TopdownAffine', input_size=(48, 64)),
    dict(type='PackPoseInputs'),
]


def _error(call: Callable[[], Any]) -> Exception | None:
    try:
        call()
    except (UserError, Refused) as error:
        return error
    return None


def _exit(status: int) -> None:
    if status:
        raise SystemExit(status)
