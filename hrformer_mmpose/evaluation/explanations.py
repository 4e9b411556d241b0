"""Reasons for a low AP, each with the numbers that it follows from.

A suspected cause is removed and the predictions are evaluated again: a sentence states the AP
without it.

Legend: M pairs of a person and a prediction, N annotations, K keypoints.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .box_readings import unfit_boxes
from .case import GAIN, LOW_AP, Case
from .error_analysis import persons_by_image
from .ground_truth import GroundTruth, box_area, with_area
from .keypoint_mistakes import better_mirrored, coinciding, exchanges, reorder

NO_AP, USABLE_AP = 0.001, 0.2
NORMALISED_EXTENT = 2  # pixels; a smaller extent of all keypoints suggests normalised coordinates
WIDE_SIGMA, SMALLEST_SIGMA = 0.072, 0.025  # median and smallest of COCO's


def explain(case: Case) -> list[str]:
    """Return a sentence for each reason of an AP of -1, 0 or below `LOW_AP`."""
    if case.ap >= LOW_AP:
        return []
    if not len(case.counted):
        return [_nobody(case.truth)]
    start = f'AP is {case.ap:.3f}: '
    if not len(case.predictions):
        return [start + 'there are no predictions']
    causes = (_unmet, _coordinates, _areas, _sigmas, unfit_boxes, _order, _exchanged, _coinciding)
    reasons = [reason for cause in causes for reason in cause(case)]
    if not reasons and case.ap <= NO_AP:
        reasons = [
            'categories, images and coordinates fit, but hardly any prediction is near a person '
            f'(best OKS {_best_oks(case):.2f}): is the network trained, and on this data?'
        ]
    return [start + reason for reason in reasons]


def _nobody(truth: GroundTruth) -> str:
    a = truth.annotations
    crowds = int(a.iscrowd[truth.rows].sum())
    unusable = f', {truth.unusable} unusable (NaN, or no image)' if truth.unusable else ''
    return (
        f"AP is -1: '{a.path}' has no person to find: {len(a.id)} annotations, of which {crowds} "
        f'are crowds (iscrowd), {len(truth.rows) - crowds} have no labelled keypoint (a visibility '
        f'above 0){unusable}'
    )


def _unmet(case: Case) -> Iterator[str]:
    """Yield categories and images that do not meet."""
    a, predictions = case.truth.annotations, case.predictions
    annotated = np.unique(a.category_id[case.counted])
    predicted = np.unique(predictions.category)
    if not np.isin(predicted, annotated).any():
        yield f'the predictions have category {_few(predicted)}, the persons {_few(annotated)}'
    images = np.unique(a.image[case.counted])
    shared = int(np.isin(images, predictions.image).sum())
    if not shared:
        yield 'no image with persons has a prediction'
    elif shared < len(images) / 2:
        yield f'only {shared} of {len(images)} images with persons have a prediction'


def _coordinates(case: Case) -> Iterator[str]:
    """Yield coordinates that are not pixels of the image, and missing scores."""
    a, predictions = case.truth.annotations, case.predictions
    place = a.rows_of(predictions.image)
    size = np.stack([a.width, a.height], 1)[place]
    center = predictions.keypoints.mean(1)
    outside = ((center < 0) | (center > size)).any(1).mean()
    extent = np.ptp(predictions.keypoints, axis=1).max()
    if outside > 0.5:
        yield (
            f'{100 * outside:.0f} % of the predictions lie outside their images; are they in '
            'pixels of the whole image?'
        )
    elif len(case.sigmas) > 1 and extent <= NORMALISED_EXTENT:
        yield f'all keypoints of a prediction lie within {NORMALISED_EXTENT} pixels'
    if not (predictions.keypoint_scores > 0).any():
        yield 'no keypoint has a score above 0'


def _areas(case: Case) -> Iterator[str]:
    """Yield areas below a pixel, with the AP for other areas."""
    truth, rows = case.truth, case.counted
    missing = truth.area < 1
    count = int(missing[rows].sum())
    if count < len(rows) / 2:
        return
    boxes = box_area(truth.annotations)
    if (boxes[rows][missing[rows]] >= 1).any():
        other, instead = boxes, '0.53 of the boxes (use_area=False of CocoMetric)'
        where = 'an area below one pixel'
    else:
        shown = truth.keypoints[..., 2:] > 0
        low = np.where(shown, truth.keypoints[..., :2], np.inf).min(1)
        high = np.where(shown, truth.keypoints[..., :2], -np.inf).max(1)
        other, instead = (high - low).clip(0).prod(1), 'the boxes around their keypoints'
        where = 'neither an area nor a box with an area'
    area = np.where(missing, other, truth.area)
    yield (
        f'{count} of {len(rows)} persons have {where}, and OKS divides errors by it; with '
        f'{instead} AP is {case.ap_with(truth=with_area(truth, area)):.3f}'
    )


def _sigmas(case: Case) -> Iterator[str]:
    """Yield sigmas below the smallest of COCO's, with the AP for their median."""
    median = float(np.median(case.sigmas))
    if median >= SMALLEST_SIGMA or not len(case.pairs):
        return
    ap = case.ap_with(sigmas=np.maximum(case.sigmas, WIDE_SIGMA))
    if ap < max(USABLE_AP, case.ap + GAIN):
        return
    pairs = case.pairs
    errors = np.diagonal(pairs.distance, axis1=1, axis2=2)[pairs.labelled]
    yield (
        f'the sigmas are small (median {median:.4f}; COCO has {SMALLEST_SIGMA} to 0.107): half of '
        f"the errors are below {100 * np.median(errors):.1f} % of the person's size, and with "
        f"{WIDE_SIGMA}, COCO's median, AP is {ap:.3f}"
    )


def _order(case: Case) -> Iterator[str]:
    """Yield another order of the keypoints, with the AP in it."""
    order = reorder(case.pairs)
    if order is None:
        return
    sources = np.argsort(order)  # the prediction of keypoint k is at sources[k]
    p = case.predictions
    ordered = replace(
        p, keypoints=p.keypoints[:, sources], keypoint_scores=p.keypoint_scores[:, sources]
    )
    ap = case.ap_with(predictions=ordered)
    if ap >= case.ap + GAIN:
        names = case.names()
        moved = [f'{names[k]} on {names[j]}' for k, j in enumerate(order) if k != j]
        yield (
            f'the predictions have the keypoints in another order than the annotations '
            f'({_few(moved)}): in the same order AP is {ap:.3f}'
        )


def _exchanged(case: Case) -> Iterator[str]:
    """Yield pairs of keypoints that are mistaken for each other, with the AP without that."""
    pairs = case.pairs
    if reorder(pairs) is not None:
        return
    mistaken = exchanges(pairs)
    if not mistaken:
        return
    corrected = case.predictions.keypoints.copy()
    for m, i, j in (entry for _, _, _, where in mistaken for entry in where):
        person = case.truth.keypoints[pairs.row[m], :, :2]
        corrected[pairs.prediction[m], i] += person[i] - person[j]
    names, mirror = case.names(), case.mirror()
    swapped = case.predictions.keypoints.copy()
    better = pairs.prediction[better_mirrored(pairs, mirror)]
    swapped[better] = swapped[better][:, mirror]
    ap = max(
        case.ap_with(predictions=replace(case.predictions, keypoints=keypoints))
        for keypoints in (corrected, swapped)
    )
    if ap < case.ap + GAIN:
        return
    listed = [
        f'{names[i]} and {names[j]} ({100 * share:.0f} % of the persons'
        f'{"" if mirror[i] == j else "; no flip pair of the metainfo"})'
        for i, j, share, _ in mistaken
    ]
    yield (
        f'keypoints are mistaken for each other: {_few(listed)}; with each on its own side AP is '
        f'{ap:.3f}: are flip pairs (metainfo) and the sides in the annotations right?'
    )


def _coinciding(case: Case) -> Iterator[str]:
    """Yield pairs that are predicted at the same place, and that the metainfo does not exchange."""
    if reorder(case.pairs) is not None:
        return
    names, mirror = case.names(), case.mirror()
    listed = [
        f'{names[i]} and {names[j]} ({100 * share:.0f} % of the persons)'
        for i, j, share in coinciding(case.pairs)
        if mirror[i] != j
    ]
    if listed:
        yield (
            f'keypoints are predicted at the same place, and are no flip pairs of the metainfo: '
            f'{_few(listed)}; if they are left and right, mirrored images mix them'
        )


def _best_oks(case: Case) -> float:
    """Return the highest OKS of any prediction with a person who is not ignored."""
    rows = persons_by_image(case.truth)
    counted = (
        np.asarray(oks)[:, ~case.truth.ignored[rows[key]]].max(initial=0)
        for key, oks in case.evaluation.oks.items()
    )
    return max(counted, default=0.0)


def _few(values: list | np.ndarray) -> str:
    return ', '.join(map(str, values[:5])) + (', ...' if len(values) > 5 else '')
