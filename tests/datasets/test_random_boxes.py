"""Distributions of `RandomBBoxTransform` against MMPose's and the authors' code."""

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmpose.registry import TRANSFORMS

from hrformer_mmpose.errors import ConfigError


@pytest.fixture
def draws():
    """Shift (N, 2), scale (N,) and rotation (N,) of 20,000 boxes of 100x100 pixels."""

    def draw(scope: str, count: int = 20_000, **options):
        step = TRANSFORMS.build(dict(type=f'{scope}.RandomBBoxTransform', **options))
        np.random.seed(0)
        boxes = dict(bbox_center=np.zeros((count, 2)), bbox_scale=np.full((count, 2), 100.0))
        out = step(boxes)
        return out['bbox_center'], out['bbox_scale'][:, 0] / 100, out['bbox_rotation']

    return draw


def test_the_default_draws_what_mmpose_draws(draws):
    for ours, theirs in zip(draws('hrformer_mmpose'), draws('mmpose'), strict=True):
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_clipped_draws_what_the_authors_draw(draws):
    """Figures measured in their code; the shift is 20 % of a box before its padding."""
    shift, scale, rotation = draws('hrformer_mmpose', distribution='clipped')
    assert np.mean((scale == 0.5) | (scale == 1.5)) == pytest.approx(0.317, abs=0.01)
    assert scale.std() == pytest.approx(0.359, abs=0.004)
    rotated = rotation[rotation != 0]
    assert len(rotated) / len(rotation) == pytest.approx(0.6, abs=0.01)
    assert rotated.std() == pytest.approx(38.3, abs=0.5)
    assert np.mean(np.abs(rotated) > 60) == pytest.approx(0.134, abs=0.01)
    assert np.abs(rotated).max() == 80
    shifted = shift[(shift != 0).any(1)] / 100 * 1.25
    assert len(shifted) / len(shift) == pytest.approx(0.3, abs=0.01)
    assert np.abs(shifted).max() == pytest.approx(0.2, abs=1e-3)
    assert shifted.std() == pytest.approx(0.4 / 12**0.5, abs=0.003)  # uniform


def test_mmposes_own_figures_are_others(draws):
    _, scale, rotation = draws('mmpose')
    rotated = rotation[rotation != 0]
    assert scale.std() == pytest.approx(0.269, abs=0.004)
    assert np.mean((scale == 0.5) | (scale == 1.5)) < 1e-3
    assert rotated.std() == pytest.approx(43.1, abs=0.5)
    assert np.mean(np.abs(rotated) > 60) == pytest.approx(0.20, abs=0.01)


def test_a_distribution_that_is_neither_is_named():
    with pytest.raises(ConfigError, match="distribution='normal' of RandomBBoxTransform is not"):
        TRANSFORMS.build(dict(type='hrformer_mmpose.RandomBBoxTransform', distribution='normal'))
