"""Pictures of an evaluation: precision and recall, and the persons found worst.

Legend: T OKS thresholds, R recalls, C categories, A ranges of area.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np

from ..imaging import contact_sheet as pictures
from . import report
from .coco_metric import Outcome
from .evaluator import Evaluation

SIZES = {'all': 0, 'medium': 1, 'large': 2}  # ranges of area, in the evaluator's order


def precision_recall(found: Evaluation, path: str) -> None:
    """Write curves for each OKS threshold (left) and each size of persons (right) to a PNG."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure  # without pyplot: no window system is asked for

    figure = Figure(figsize=(10, 4.2), layout='constrained')
    left, right = figure.subplots(1, 2, sharey=True)
    colors = colormaps['viridis'](np.linspace(0, 0.9, len(found.thresholds)))
    for t, threshold in enumerate(found.thresholds):
        curve = mean_over_categories(found.precision[t, ..., 0])
        label = f'OKS {threshold:.2f}: AP {_mean(curve)}'
        left.plot(found.recalls, curve, color=colors[t], label=label)
    for (name, a), color in zip(SIZES.items(), ('#222222', '#2a6f97', '#d1603d'), strict=True):
        for t, style in ((0, '-'), (5, '--')):
            curve = mean_over_categories(found.precision[t, ..., a])
            label = f'{name}, OKS {found.thresholds[t]:.2f}: AP {_mean(curve)}'
            right.plot(found.recalls, curve, style, color=color, label=label)
    left.set(title='all persons', ylabel='precision')
    right.set(title='by size of persons')
    for axes in (left, right):
        axes.set(xlabel='recall', xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc='lower left')
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=120)


def mean_over_categories(precision: np.ndarray) -> np.ndarray:
    """(R, C) -> (R,), of the categories that have persons; NaN without any."""
    present = precision[:, (precision > -1).all(0)]
    return present.mean(1) if present.size else np.full(len(precision), np.nan)


def _mean(curve: np.ndarray) -> str:
    return 'none' if np.isnan(curve).any() else f'{curve.mean():.3f}'


def worst_cases(
    outcome: Outcome, meta: dict, folder: str, count: int = 24, height: int = 240
) -> list[str]:
    """Write the persons found with the lowest OKS, and the largest of those not found.

    Args:
        outcome: of the metric. meta: of the data set, with its `image_folder`. folder: made if
            needed. count: at most so many persons of each. height: of a picture, in pixels.

    Returns:
        Names of the files written: `worst.png`, `missed.png` (where there are such persons and
        17 keypoints to draw) and `results.json`.
    """
    os.makedirs(folder, exist_ok=True)
    truth, predictions = outcome.truth, outcome.predictions
    args = truth, predictions, outcome.scores, outcome.evaluation, report.MATCH_OKS
    pairs = report.match(*args)
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
    for name, listed in cases.items():
        if listed and truth.keypoints.shape[1] == 17:
            drawn = [_draw(case, outcome, meta['image_folder'], height) for case in listed]
            pictures.write_sheet(drawn, os.path.join(folder, f'{name}.png'))
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


def _draw(case: dict, outcome: Outcome, image_folder: str, height: int) -> np.ndarray:
    image = cv2.imread(os.path.join(image_folder, case['file_name']))
    if image is None:  # it was left out, and told so
        image = np.full((480, 640, 3), 40, np.uint8)
    person = outcome.truth.keypoints[case['row']]
    left = person[:, :2], person[:, 2] > 0, f'truth {case["annotation"]}'
    right = np.zeros((17, 2)), np.zeros(17, bool), 'not found'
    if case['prediction'] is not None:
        number = case['prediction']
        shown = outcome.predictions.keypoint_scores[number] > 0.2
        right = outcome.predictions.keypoints[number], shown, f'OKS {case["oks"]:.2f}'
    return pictures.pair(image, case['bbox'], left, right, height)
