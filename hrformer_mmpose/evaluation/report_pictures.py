"""Pictures of an evaluation: precision-recall curves and the persons with the lowest OKS.

Legend: T OKS thresholds, R recalls, C categories, A ranges of area.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..imaging.poses import Pose
from ..imaging.sheet import comparison_sheet, pose_comparison
from ..imaging.skeleton import Skeleton
from . import report
from .evaluator import Evaluation
from .outcome import Outcome

SIZES = {'all': 0, 'medium': 1, 'large': 2}  # ranges of area, in the evaluator's order


def precision_recall(evaluation: Evaluation, path: str) -> None:
    """Plot precision and recall to a PNG: each OKS threshold (left), each size range (right)."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # pyplot would need a window system

    figure = Figure(figsize=(10, 4.2), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    colors = colormaps['viridis'](np.linspace(0, 0.9, len(evaluation.thresholds)))
    for t, threshold in enumerate(evaluation.thresholds):
        curve = _mean_over_categories(evaluation.precision[t, ..., 0])
        label = f'OKS {threshold:.2f}: AP {_mean(curve)}'
        left.plot(evaluation.recalls, curve, color=colors[t], label=label)
    for (name, a), color in zip(SIZES.items(), ('#222222', '#2a6f97', '#d1603d'), strict=True):
        for t, style in ((0, '-'), (5, '--')):
            curve = _mean_over_categories(evaluation.precision[t, ..., a])
            label = f'{name}, OKS {evaluation.thresholds[t]:.2f}: AP {_mean(curve)}'
            right.plot(evaluation.recalls, curve, style, color=color, label=label)
    left.set(title='all persons', ylabel='precision')
    right.set(title='by size of persons')
    for axes in (left, right):
        axes.set(xlabel='recall', xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(fontsize=7, loc='lower left')
    save_plots(figure, path)


def save_plots(figure, path: str) -> None:
    """Add grids to all plots of a figure, remove their frames and write the figure to a PNG."""
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120)


def _mean_over_categories(precision: np.ndarray) -> np.ndarray:
    """Average (R, C) to (R,) over the categories with persons; NaN without any."""
    present = precision[:, (precision > -1).all(0)]
    return present.mean(1) if present.size else np.full(len(precision), np.nan)


def _mean(curve: np.ndarray) -> str:
    return 'none' if np.isnan(curve).any() else f'{curve.mean():.3f}'


def worst_cases(
    outcome: Outcome, meta: dict, folder: str, count: int = 24, height: int = 240
) -> list[str]:
    """Draw the matched persons with the lowest OKS and the largest persons without a match.

    Args:
        outcome: of the metric.
        meta: of the data set, with its `image_folder`.
        folder: output folder, created if missing.
        count: maximum number of persons of each kind.
        height: of a person's picture in pixels.

    Returns:
        Names of the written files: `results.json`, and `worst.png` and `missed.png` if there are
        such persons.
    """
    os.makedirs(folder, exist_ok=True)
    truth, predictions = outcome.truth, outcome.predictions
    pairs = report.match(truth, predictions, outcome.scores, outcome.evaluation, report.MATCH_OKS)
    order = np.argsort(pairs['oks'], kind='stable')[:count]
    worst = [
        _case(truth, int(pairs['row'][i]), float(pairs['oks'][i]), int(pairs['prediction'][i]))
        for i in order
    ]
    missed = np.setdiff1d(truth.rows[~truth.ignored[truth.rows]], pairs['row'])
    missed = missed[np.argsort(-truth.area[missed], kind='stable')][:count]
    cases = dict(worst=worst, missed=[_case(truth, int(row), 0.0) for row in missed])
    Path(folder, 'results.json').write_text(json.dumps(cases, indent=1))
    names = ['results.json']
    skeleton = Skeleton.from_metainfo(meta, truth.keypoints.shape[1])
    for name, listed in cases.items():
        if listed:
            images = meta['image_folder']
            drawn = [_draw(case, outcome, skeleton, images, height) for case in listed]
            comparison_sheet(drawn, os.path.join(folder, f'{name}.png'))
            names.append(f'{name}.png')
    return names


def _case(truth, row: int, oks: float, prediction: int | None = None) -> dict:
    a = truth.annotations
    image = a.rows_of(a.image[[row]])[0]
    return dict(
        annotation=int(a.id[row]),
        image=int(a.image[row]),
        file_name=a.file_name[image].decode(),
        bbox=a.bbox[row].tolist(),
        oks=oks,
        row=row,
        prediction=prediction,
    )


def _draw(
    case: dict, outcome: Outcome, skeleton: Skeleton, image_folder: str, height: int
) -> np.ndarray:
    image = cv2.imread(os.path.join(image_folder, case['file_name']))
    if image is None:  # unreadable, reported by the data set
        image = np.full((480, 640, 3), 40, np.uint8)
    truth = Pose.from_annotation(outcome.truth.keypoints[case['row']], case['bbox'], skeleton)
    predicted, title = replace(truth, scores=np.zeros(len(truth.scores))), 'not found'
    if case['prediction'] is not None:
        number, title = case['prediction'], f'OKS {case["oks"]:.2f}'
        predictions = outcome.predictions
        keypoints, scores = predictions.keypoints[number], predictions.keypoint_scores[number]
        predicted = replace(truth, keypoints=keypoints, scores=scores)
    return pose_comparison(
        image, (truth, f'truth {case["annotation"]}'), (predicted, title), height
    )
