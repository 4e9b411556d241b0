"""Figures of predictions by plain loops: AP, PCK, AUC, end-point error, PCKh.

They hold where each prediction is for one annotated person and resembles no other.
"""

import numpy as np


def oks(predicted, annotated, visible, area: float, sigmas) -> float:
    """Similarity of one prediction, (K, 2), with its person."""
    values = [
        np.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * area * (2 * sigma) ** 2))
        for (px, py), (x, y), v, sigma in zip(predicted, annotated, visible, sigmas, strict=True)
        if v > 0
    ]
    return sum(values) / len(values)


def ap(similarities, scores) -> float:
    """AP of one category whose persons each have one prediction."""
    ranked = [s for s, _ in sorted(zip(similarities, scores, strict=True), key=lambda x: -x[1])]
    averages = []
    for threshold in np.arange(0.5, 0.96, 0.05):
        right, precision, recall = 0, [], []
        for number, similarity in enumerate(ranked, 1):
            right += similarity >= threshold - 1e-10
            precision.append(right / number)
            recall.append(right / len(ranked))
        at = []
        for level in np.linspace(0, 1, 101):
            reached = [p for p, r in zip(precision, recall, strict=True) if r >= level]
            at.append(max(reached, default=0.0))
        averages.append(np.mean(at))
    return float(np.mean(averages))


def distances(people: list[dict]) -> list[list[float]]:
    """Distances of labelled keypoints by keypoint, each divided by its person's size."""
    result = []
    for k in range(len(people[0]['visible'])):
        result.append(
            [
                np.hypot(*(p['predicted'][k] - p['annotated'][k])) / p['size']
                for p in people
                if p['visible'][k] > 0
            ]
        )
    return result


def pck(people: list[dict], threshold: float) -> float:
    """Mean over keypoints of the share of distances below a threshold."""
    parts = [part for part in distances(people) if part]
    return float(np.mean([np.mean(np.array(part) < threshold) for part in parts]))


def auc(people: list[dict]) -> float:
    """Mean PCK at 20 thresholds up to 30 pixels."""
    people = [dict(p, size=30.0) for p in people]
    return float(np.mean([pck(people, k / 20) for k in range(20)]))


def epe(people: list[dict]) -> float:
    """Mean distance in pixels."""
    parts = distances([dict(p, size=1.0) for p in people])
    return float(np.mean([d for part in parts for d in part]))


def pckh(people: list[dict], threshold: float) -> float:
    """Percentage of distances below a threshold, without MPII's pelvis and thorax."""
    parts = distances(people)
    counted = [d for k, part in enumerate(parts) if k not in (6, 7) for d in part]
    return 100 * float(np.mean(np.array(counted) < threshold))
