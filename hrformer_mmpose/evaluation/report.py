"""Report on the causes of an evaluation's metrics and on the errors behind them."""

import numpy as np

from .case import Case
from .error_analysis import KINDS, MATCH_OKS, errors_by_keypoint, match
from .evaluator import Evaluation
from .explanations import explain
from .ground_truth import GroundTruth
from .predictions import Predictions

FOUND_OKS = 0.5
MEDIUM, LARGE = 32**2, 96**2  # square pixels


def build(
    truth: GroundTruth,
    predictions: Predictions,
    scores: np.ndarray,
    evaluation: Evaluation,
    sigmas: np.ndarray,
    meta: dict,
) -> dict:
    """Build the report from numbers and strings.

    Args:
        truth: annotated persons.
        predictions: P predictions, sorted by image.
        scores: (P,).
        evaluation: of these predictions.
        sigmas: (K,) of OKS.
        meta: meta information of the data set, for names and mirror images of the keypoints.
    """
    pairs = match(truth, predictions, scores, evaluation, MATCH_OKS)
    a = truth.annotations
    counted = np.setdiff1d(truth.rows, np.flatnonzero(truth.ignored))
    predicted, with_persons = np.unique(predictions.image), np.unique(a.image[counted])
    found_rows = match(truth, predictions, scores, evaluation, FOUND_OKS)['row']
    report = dict(
        metrics=evaluation.metrics,
        images=dict(
            annotated=len(np.unique(a.image_id)),
            with_persons=len(with_persons),
            without_predictions=int((~np.isin(a.image_id, predicted)).sum()),
            with_persons_without_predictions=int((~np.isin(with_persons, predicted)).sum()),
        ),
        persons=dict(
            counted=len(counted),
            ignored=len(a.id) - len(counted) - truth.unusable,
            unusable=truth.unusable,
            area_of_box=int(truth.area_of_box[counted].sum()),
            found=int(np.isin(counted, found_rows).sum()),
        ),
        sizes=_sizes(truth, counted, found_rows, evaluation.metrics),
        keypoints=errors_by_keypoint(truth, predictions, pairs, sigmas, meta),
    )
    case = Case(truth, predictions, scores, evaluation, sigmas, meta)
    report['explanations'] = explain(case)
    return report


def summary(report: dict) -> str:
    """Format metrics, settings and counts for the log of every evaluation."""
    values = '  '.join(f'{name} {value:.3f}' for name, value in report['metrics'].items())
    lines = [values, *_settings_and_counts(report)]
    return '\n'.join([*lines, *(f'! {line}' for line in report['explanations'])])


def details(report: dict) -> str:
    """Format the tables of sizes and keypoints for the log of a test."""
    lines = ['persons by size (square pixels), found = OKS 0.5 or more:']
    lines.append(f'  {"":<22}{"persons":>8}{"found":>8}{"AP":>8}{"AR":>8}')
    for name, size in report['sizes'].items():
        ap, ar = (_format(size[key]) for key in ('AP', 'AR'))
        lines.append(f'  {name:<22}{size["persons"]:>8}{size["found"]:>8}{ap:>8}{ar:>8}')
    lines += ['', 'labelled keypoints of persons with a prediction (OKS 0.1 or more), percent:']
    lines.append(f'  {"":<18}{"count":>8}{"OKS":>7}' + ''.join(f'{kind:>11}' for kind in KINDS))
    for row in report['keypoints']:
        shares = ''.join(f'{100 * row[kind]:>11.1f}' for kind in KINDS)
        lines.append(f'  {row["name"]:<18}{row["count"]:>8}{row["oks"]:>7.3f}{shares}')
    lines.append(
        '  good: where it belongs; jitter: near; inversion: on the other side of the body;'
    )
    lines.append('  swap: on another person; miss: elsewhere (evaluation/error_analysis.py)')
    return '\n'.join(lines)


def _format(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'


def _settings_and_counts(report: dict) -> list[str]:
    s, counts, images = report['settings'], report['counts'], report['images']
    boxes = s['boxes']
    if boxes is None:
        origin = 'boxes: not reported by the data set'
    else:
        source = 'annotated' if boxes['source'] == 'annotated' else f"of '{boxes['source']}'"
        origin = f'boxes: {boxes["count"]}, {source}'
        if boxes['score_threshold'] is not None:
            below = f'{boxes["below_threshold"]} below score {boxes["score_threshold"]}'
            origin += f' ({below} left out)'
    score = s['score_mode']
    if score == 'bbox_keypoint':
        score += f' (keypoints above {s["keypoint_score_thr"]})'
    nms = s['nms_mode'] if s['nms_mode'] == 'none' else f'{s["nms_mode"]} at OKS {s["nms_thr"]}'
    dropped = f', {counts["not_finite"]} not finite' if counts['not_finite'] else ''
    persons = report['persons']
    unusable = f', {persons["unusable"]} unusable' if persons['unusable'] else ''
    area = 'annotated' if s['use_area'] else '0.53 of the box'
    if s['use_area'] and persons['area_of_box']:
        area += f' (0.53 of the box for {persons["area_of_box"]} persons without)'
    return [
        f'{origin}; score: {score}; nms: {nms}: {counts["kept"]} of {counts["predicted"]} '
        f'predictions kept{dropped}; sigmas: {"given" if s["own_sigmas"] else "of the data set"}; '
        f'area: {area}',
        f"{persons['counted']} persons of '{s['ann_file']}' count ({persons['ignored']} are "
        f'ignored: crowds or without labelled keypoints{unusable}), {persons["found"]} are found '
        f'at OKS 0.5; of {images["with_persons"]} images with persons '
        f'{images["with_persons_without_predictions"]} have no prediction',
    ]


def _sizes(truth: GroundTruth, counted: np.ndarray, found: np.ndarray, metrics: dict) -> dict:
    """Return persons and metrics by COCO's ranges of area."""
    area = truth.area[counted]
    is_found = np.isin(counted, found)
    ranges = {
        'small (below 32^2)': (area < MEDIUM, None),
        'medium (to 96^2)': ((area >= MEDIUM) & (area <= LARGE), ' (M)'),
        'large': (area > LARGE, ' (L)'),
        'all': (np.ones(len(area), bool), ''),
    }
    return {
        name: dict(
            persons=int(mask.sum()),
            found=int((mask & is_found).sum()),
            AP=None if key is None else metrics.get(f'AP{key}'),
            AR=None if key is None else metrics.get(f'AR{key}'),
        )
        for name, (mask, key) in ranges.items()
    }
