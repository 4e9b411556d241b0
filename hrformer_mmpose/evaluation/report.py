"""Report on the causes of an evaluation's metrics and on the errors behind them.

Predictions are matched to persons as in "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation" (Ronchi and Perona, ICCV 2017): in order of decreasing score, each prediction takes the
remaining person with the highest OKS, at least 0.1. The labelled keypoints of a pair are classified
by the similarity ks = exp(-d^2 / (2 (2 sigma)^2 area)):

    good       ks >= 0.85 to the annotated keypoint
    jitter     0.5 <= ks < 0.85
    inversion  ks < 0.5, but ks >= 0.5 to the mirrored keypoint of the same person
    swap       otherwise, ks >= 0.5 to this or the mirrored keypoint of another person
    miss       otherwise

Legend: M pairs, K keypoints, N annotations.
"""

from collections import defaultdict

import numpy as np

from .evaluator import Evaluation, GroundTruth
from .predictions import Predictions

MATCH_OKS, FOUND_OKS = 0.1, 0.5
GOOD, CLOSE = 0.85, 0.5
KINDS = ('good', 'jitter', 'inversion', 'swap', 'miss')
MEDIUM, LARGE = 32**2, 96**2  # square pixels
NORMALISED_EXTENT = 2  # pixels; a smaller extent of all keypoints suggests normalised coordinates


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
        figures=evaluation.metrics,
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
            found=int(np.isin(counted, found_rows).sum()),
        ),
        sizes=_sizes(truth, counted, found_rows, evaluation.metrics),
        keypoints=_keypoints(truth, predictions, pairs, sigmas, meta),
    )
    report['explanations'] = _explanations(truth, predictions, counted, evaluation)
    return report


def match(
    truth: GroundTruth,
    predictions: Predictions,
    scores: np.ndarray,
    evaluation: Evaluation,
    threshold: float,
) -> dict[str, np.ndarray]:
    """Match predictions to persons that are not ignored.

    Args:
        truth: annotated persons.
        predictions: P predictions, sorted by image.
        scores: (P,).
        evaluation: of these predictions.
        threshold: minimum OKS of a pair.

    Returns:
        `row` (M,) of the annotations, `prediction` (M,) indices, and `oks` (M,).
    """
    pairs = dict(row=[], prediction=[], oks=[])
    rows_of_image = _persons_by_image(truth)
    evaluated = _group(evaluation.evaluated, predictions.image, predictions.category)
    for key, oks in evaluation.oks.items():
        rows = rows_of_image[key]
        numbers = evaluated[key][np.argsort(-scores[evaluated[key]], kind='stable')]
        free = ~truth.ignored[rows]
        for number, similarity in zip(numbers, np.asarray(oks), strict=True):
            similarity = np.where(free, similarity, 0)
            best = similarity.argmax()
            if similarity[best] >= threshold:
                free[best] = False
                pairs['row'].append(rows[best])
                pairs['prediction'].append(number)
                pairs['oks'].append(similarity[best])
    types = dict(row=np.intp, prediction=np.intp, oks=np.float64)
    return {name: np.array(values, types[name]) for name, values in pairs.items()}


def _persons_by_image(truth: GroundTruth) -> dict[tuple[int, int], np.ndarray]:
    return _group(truth.rows, truth.annotations.image, truth.annotations.category_id)


def _group(
    rows: np.ndarray, image: np.ndarray, category: np.ndarray
) -> dict[tuple[int, int], np.ndarray]:
    """Group `rows` by image and category."""
    groups = defaultdict(list)
    keys = zip(image[rows].tolist(), category[rows].tolist(), strict=True)
    for row, key in zip(rows, keys, strict=True):
        groups[key].append(row)
    return {key: np.array(value) for key, value in groups.items()}


def summary(report: dict) -> str:
    """Format metrics, settings and counts for the log of every evaluation."""
    values = '  '.join(f'{name} {value:.3f}' for name, value in report['figures'].items())
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
    lines.append('  swap: on another person; miss: elsewhere (evaluation/report.py)')
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
    return [
        f'{origin}; score: {score}; nms: {nms}: {counts["kept"]} of {counts["predicted"]} '
        f'predictions kept{dropped}; sigmas: {"given" if s["own_sigmas"] else "of the data set"}; '
        f'area: {"annotated" if s["use_area"] else "0.53 of the box"}',
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


def _similarity(predicted: np.ndarray, annotated: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute ks of keypoints (..., 2); `scale` is 2 (2 sigma)^2 area."""
    return np.exp(-np.square(predicted - annotated).sum(-1) / (scale + np.spacing(1)))


def _classify_errors(
    truth: GroundTruth,
    predictions: Predictions,
    pairs: dict,
    sigmas: np.ndarray,
    mirror: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Classify the keypoints of matched pairs.

    Args:
        truth: annotated persons.
        predictions: P predictions.
        pairs: from `match`.
        sigmas: (K,) of OKS.
        mirror: (K,) index of the keypoint on the other side of the body.

    Returns:
        (M, K) indices in `KINDS`, -1 if not labelled, and (M, K) ks.
    """
    rows = pairs['row']
    person, labelled = truth.keypoints[rows, :, :2], truth.keypoints[rows, :, 2] > 0
    predicted = predictions.keypoints[pairs['prediction']].astype(np.float64)
    scale = 2 * np.square(2 * np.asarray(sigmas, np.float64))
    own = scale * truth.area[rows, None]
    ks = _similarity(predicted, person, own)
    kind = np.select([ks >= GOOD, ks >= CLOSE], [0, 1], 4)
    inverted = (_similarity(predicted, person[:, mirror], own) >= CLOSE) & labelled[:, mirror]
    kind[(kind == 4) & inverted] = 2

    neighbours = _persons_by_image(truth)
    for m in np.flatnonzero(((kind == 4) & labelled).any(1)):
        key = truth.annotations.image[rows[m]], truth.annotations.category_id[rows[m]]
        others = neighbours[key]
        others = others[(others != rows[m]) & ~truth.ignored[others]]
        place, visible = truth.keypoints[others, :, :2], truth.keypoints[others, :, 2] > 0
        theirs = scale * truth.area[others, None]
        near = (_similarity(predicted[m], place, theirs) >= CLOSE) & visible
        mirrored = _similarity(predicted[m], place[:, mirror], theirs) >= CLOSE
        near |= mirrored & visible[:, mirror]
        kind[m, (kind[m] == 4) & near.any(0)] = 3
    kind[~labelled] = -1
    return kind, ks


def _keypoints(
    truth: GroundTruth, predictions: Predictions, pairs: dict, sigmas: np.ndarray, meta: dict
) -> list[dict]:
    """Return the number of labelled pairs, mean ks and share of each kind for each keypoint."""
    count = len(sigmas)
    names = meta.get('keypoint_id2name', {})
    mirror = np.asarray(meta.get('flip_indices', range(count)))
    if len(mirror) != count:  # converted to another definition
        names, mirror = {}, np.arange(count)
    kind, ks = _classify_errors(truth, predictions, pairs, sigmas, mirror)
    rows = []
    for k in range(count):
        labelled = kind[:, k] >= 0
        total = int(labelled.sum())
        shares = [(kind[:, k] == number).sum() / max(total, 1) for number in range(len(KINDS))]
        rows.append(
            dict(
                name=names.get(k, str(k)),
                count=total,
                oks=float(ks[labelled, k].mean()) if total else 0.0,
                **{name: float(share) for name, share in zip(KINDS, shares, strict=True)},
            )
        )
    return rows


def _explanations(
    truth: GroundTruth, predictions: Predictions, counted: np.ndarray, evaluation: Evaluation
) -> list[str]:
    """Return probable reasons for an AP of -1 or (almost) 0."""
    a, ap = truth.annotations, evaluation.metrics['AP']
    if ap > 0.001:
        return []
    if not len(counted):
        crowds = int(a.iscrowd.sum())
        return [
            f"AP is -1: '{a.path}' has no person to find: {len(a.id)} annotations, of which "
            f'{crowds} are crowds and {len(a.id) - crowds} have no labelled keypoint'
        ]
    start = f'AP is {ap:.3f}: '
    if not len(predictions):
        return [start + 'there are no predictions']
    reasons = []
    annotated, predicted = np.unique(a.category_id[counted]), np.unique(predictions.category)
    if not np.isin(predicted, annotated).any():
        reasons.append(
            f'{start}the predictions have category {_few(predicted)}, the persons {_few(annotated)}'
        )
    overlap = np.isin(np.unique(a.image[counted]), predictions.image).sum()
    if not overlap:
        reasons.append(f'{start}no image with persons has a prediction')
    place = a.rows_of(predictions.image)
    size = np.stack([a.width, a.height], 1)[place]
    center = predictions.keypoints.mean(1)
    outside = ((center < 0) | (center > size)).any(1).mean()
    if outside > 0.5:
        reasons.append(
            f'{start}{100 * outside:.0f} % of the predictions lie outside their images; are they '
            'in pixels of the whole image?'
        )
    elif np.ptp(predictions.keypoints, axis=1).max() <= NORMALISED_EXTENT:
        reasons.append(
            f'{start}all keypoints of a prediction lie within {NORMALISED_EXTENT} pixels'
        )
    if not (predictions.keypoint_scores > 0).any():
        reasons.append(f'{start}no keypoint has a score above 0')
    if not reasons:
        reasons.append(
            f'{start}categories, images and coordinates fit, but hardly any prediction is near a '
            f'person (best OKS {_best_oks(truth, evaluation):.2f}): is the network trained, and on '
            'this data?'
        )
    return reasons


def _best_oks(truth: GroundTruth, evaluation: Evaluation) -> float:
    """Return the highest OKS of any prediction with a person who is not ignored."""
    rows = _persons_by_image(truth)
    counted = (
        np.asarray(oks)[:, ~truth.ignored[rows[key]]].max(initial=0)
        for key, oks in evaluation.oks.items()
    )
    return max(counted, default=0.0)


def _few(values: np.ndarray) -> str:
    return ', '.join(map(str, values[:5].tolist())) + (', ...' if len(values) > 5 else '')
