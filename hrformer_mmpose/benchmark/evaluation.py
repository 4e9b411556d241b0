"""Time evaluation against MMPose's: `tools/benchmark_data.py evaluation`."""

import json
import resource
import time
from pathlib import Path
from statistics import median

import numpy as np
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import METRICS

from ..coco.annotations import read as read_annotations
from ..datasets.coco import CocoDataset
from .isolation import SCOPES, in_own_process, use_one_thread


def time_evaluation(ann_file: str, detections: int, rounds: int) -> None:
    """Time the evaluation of simulated predictions and print seconds and memory.

    Args:
        ann_file: annotations that predictions are simulated from.
        detections: number of predictions.
        rounds: number of timed rounds.

    Raises:
        DataError: the annotations cannot be read.
    """
    use_one_thread()
    read_annotations(ann_file)
    times, metrics = [], []
    for _ in range(rounds):
        results = [in_own_process(_evaluate, scope, ann_file, detections) for scope in SCOPES]
        for scope, (seconds, before, peak, _) in zip(SCOPES, results, strict=True):
            print(
                f'  {scope:<16} {seconds:7.1f} s, peak {peak:6.0f} MiB, '
                f'{peak - before:6.0f} above the predictions',
                flush=True,
            )
        times.append([result[0] for result in results])
        metrics = [result[3] for result in results]
    ratios = sorted(theirs / ours for theirs, ours in times)
    worst = max(abs(metrics[0][key] - metrics[1][key]) for key in metrics[0])
    print(
        f'{detections} detections: ratio {median(ratios):.1f} ({ratios[0]:.1f} to '
        f'{ratios[-1]:.1f} in {rounds} rounds); metrics differ by {worst:.0e} at most'
    )


def _evaluate(scope: str, ann_file: str, count: int) -> tuple[float, float, float, dict]:
    """Seconds from predictions to metrics, MiB before, peak MiB, metrics."""
    samples = simulate(ann_file, count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    metric = METRICS.build(dict(type=f'{scope}.CocoMetric', ann_file=ann_file))
    metric.dataset_meta = _metainfo(samples[0]['pred_instances']['keypoints'].shape[1])
    for first in range(0, count, 32):
        metric.process({}, samples[first : first + 32])
    metrics = metric.evaluate(count)
    seconds = time.perf_counter() - start
    return seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, metrics


def _metainfo(K: int) -> dict:
    """Return COCO's metainfo, for other keypoints with the median of COCO's sigmas."""
    metainfo = parse_pose_metainfo(CocoDataset.METAINFO)
    if metainfo['num_keypoints'] == K:
        return metainfo
    sigmas = np.full(K, np.median(metainfo['sigmas']))
    return dict(metainfo, num_keypoints=K, keypoint_id2name={}, sigmas=sigmas)


def simulate(ann_file: str, count: int) -> list[dict]:
    """Simulate predictions for `count` boxes: good, bad and random poses."""
    rng = np.random.default_rng(0)
    persons = json.loads(Path(ann_file).read_text())['annotations']
    samples = []
    for number, pick in enumerate(np.sort(rng.integers(0, len(persons), count))):
        x, y, w, h = persons[pick]['bbox']
        labelled = np.reshape(persons[pick]['keypoints'], (-1, 3)).astype(float)
        K = len(labelled)
        anywhere = rng.uniform((x, y), (x + w + 1, y + h + 1), (K, 2))
        keypoints = np.where(labelled[:, 2:] > 0, labelled[:, :2], anywhere)
        if rng.random() < 0.3:
            keypoints = anywhere
        spread = rng.choice([0.01, 0.03, 0.1, 0.3]) * np.sqrt(w * h + 1)
        keypoints = keypoints + rng.normal(0, spread, (K, 2))
        samples.append(
            dict(
                id=number,
                img_id=persons[pick]['image_id'],
                pred_instances=dict(
                    keypoints=keypoints[None].astype(np.float32),
                    keypoint_scores=rng.random((1, K)).astype(np.float32),
                    bboxes=np.array([[x, y, x + w, y + h]], np.float32),
                ),
                gt_instances=dict(
                    bbox_scores=rng.random(1).astype(np.float32),
                    bbox_scales=1.25 * np.array([[w, h]], np.float32),
                ),
            )
        )
    return samples
