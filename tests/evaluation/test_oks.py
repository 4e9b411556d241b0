"""Similarity among predictions."""

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmpose.evaluation.functional import soft_oks_nms

from hrformer_mmpose.evaluation import oks

from .cases import SIGMAS


@pytest.mark.parametrize('dtype', [np.int64, np.int16, np.float32])
def test_pairwise_by_the_formula_for_every_type(dtype):
    """Whole numbers included, in which the sigmas would be 0."""
    keypoints = np.random.default_rng(0).integers(0, 200, (3, 17, 2))
    keypoints[1] = keypoints[0] + 3
    areas = np.array([4000, 5000, 6000])
    found = oks.pairwise(keypoints.astype(dtype), areas, SIGMAS)
    for i in range(3):
        for j in range(3):
            d2 = ((keypoints[i] - keypoints[j]) ** 2).sum(1)
            area = (areas[i] + areas[j]) / 2
            expected = np.mean(np.exp(-d2 / (2 * (2 * SIGMAS) ** 2 * area)))
            assert found[i, j] == pytest.approx(expected, rel=1e-4, abs=1e-12)
    assert 0.5 < found[0, 1] < 1


def test_soft_nms_is_mmposes():
    """30 overlapping persons, of which 20 are selected."""
    rng = np.random.default_rng(0)
    base, noise = rng.uniform(0, 200, (17, 2)), rng.normal(0, 15, (30, 17, 2))
    keypoints, areas, scores = base + noise, rng.uniform(3e3, 9e3, 30), rng.random(30)
    similarity = oks.pairwise(keypoints, areas, SIGMAS)
    people = [
        dict(keypoints=np.column_stack([xy, np.ones(17)]), area=area, score=score)
        for xy, area, score in zip(keypoints, areas, scores, strict=True)
    ]
    expected = soft_oks_nms(people, 0.3, sigmas=SIGMAS).tolist()
    assert oks.soft_nms(similarity, scores, 0.3).tolist() == expected
    assert len(expected) == 20
    assert {*expected} != {*scores.argsort()[-20:].tolist()}
