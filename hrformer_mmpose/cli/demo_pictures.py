"""Pictures of the demo: predictions beside the ground truth, loss and AP over time."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..engine.work_dir import log_entries
from ..evaluation.report_pictures import save_plots
from ..imaging.poses import Pose
from ..imaging.sheet import comparison_sheet, pose_comparison
from ..imaging.skeleton import Skeleton
from ..owndata import flip_pairs


def prediction_sheet(
    predictions: list[dict], ann_file: str, path: str, count: int = 12, height: int = 240
) -> None:
    """Draw ground truth (left) and prediction (right) of evenly spaced persons.

    Args:
        predictions: output of `tools/test.py --dump`, one dictionary a person; `id` is the
            annotation's.
        ann_file: COCO annotations.
        path: PNG to write.
        count: number of persons.
        height: of a person's picture in pixels.
    """
    content = json.loads(Path(ann_file).read_text())
    annotations = {ann['id']: ann for ann in content['annotations']}
    skeleton = _skeleton(content['categories'][0])
    indices = np.unique(np.linspace(0, len(predictions) - 1, count).round().astype(int))
    comparison_sheet(
        [
            _comparison(predictions[index], annotations[predictions[index]['id']], skeleton, height)
            for index in indices
        ],
        path,
    )


def _skeleton(category: dict) -> Skeleton:
    """Return the keypoints of COCO's entry of a category; sides are guessed by their names."""
    names = tuple(category['keypoints'])
    links = tuple((a - 1, b - 1) for a, b in category['skeleton'])
    return Skeleton(names, links, flip_pairs.guess(names).indices)


def _comparison(prediction: dict, ann: dict, skeleton: Skeleton, height: int) -> np.ndarray:
    truth = Pose.from_annotation(np.reshape(ann['keypoints'], (-1, 3)), ann['bbox'], skeleton)
    instances = prediction['pred_instances']
    keypoints, scores = (np.asarray(instances[key])[0] for key in ('keypoints', 'keypoint_scores'))
    predicted = replace(truth, keypoints=keypoints, scores=scores)
    image = cv2.imread(prediction['img_path'])
    title = f'predicted {scores.mean():.2f}'
    return pose_comparison(image, (truth, 'truth'), (predicted, title), height)


def read_scalars(work_dir: str) -> tuple[dict[int, float], dict[int, float]]:
    """Read loss by iteration and AP by epoch from the logs of all runs in a work folder."""
    loss, ap = {}, {}
    for entry in log_entries(work_dir):
        if 'loss' in entry:
            loss[entry['step']] = entry['loss']
        elif 'coco/AP' in entry:
            ap[entry['step']] = entry['coco/AP']
    return loss, ap


def training_curves(work_dir: str, path: str) -> None:
    """Plot loss and validation AP of the runs in a work folder to `path` (PNG)."""
    from matplotlib.figure import Figure  # pyplot would need a window system

    loss, ap = read_scalars(work_dir)
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*sorted(loss.items()), strict=True), color='#d1603d')
    left.set(xlabel='iteration', ylabel='training loss (heatmap MSE)', yscale='log')
    if ap:
        right.plot(*zip(*sorted(ap.items()), strict=True), 'o-', color='#2a6f97')
        last = max(ap)
        right.annotate(f'{ap[last]:.3f}', (last, ap[last]), (0, 7), textcoords='offset points')
    right.set(xlabel='epoch', ylabel='AP on held-out people', ylim=(0, 1))
    save_plots(figure, path)
