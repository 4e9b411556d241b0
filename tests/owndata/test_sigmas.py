"""Sigmas: estimated from a second annotator, COCO's by name, or the default."""

import copy

import numpy as np
import pytest

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.owndata import sigmas
from hrformer_mmpose.owndata.category import Category
from hrformer_mmpose.owndata.repair import KeypointSet

NAMES = ('Nose', 'L_Eye', 'hip left', 'tail')
TRUE = (0.03, 0.02, 0.1, 0.06)


def annotated(count: int, seed: int, jitter: tuple = TRUE) -> KeypointSet:
    """`count` persons of area 100 x 200 at fixed places, annotated with normal errors."""
    places = np.random.default_rng(0).uniform(50, 150, (count, len(NAMES), 2))
    noise = np.random.default_rng(seed).normal(size=places.shape)
    # sigma^2 = E[d^2 / area], and d^2 is the sum of two squared errors.
    errors = noise * np.array(jitter)[:, None] * np.sqrt(100 * 200 / 2)
    visible = np.full((count, len(NAMES), 1), 2)
    keypoints = np.concatenate([places + errors, visible], -1).reshape(count, -1)
    category = Category('x', frozenset([1]), NAMES, (0, 1, 2, 3), 4, (), None, ())
    images = [dict(id=k, file_name=f'{k}.jpg', width=300, height=300) for k in range(count)]
    annotations = [
        dict(
            id=k, image_id=k, bbox=[0, 0, 200, 200], area=20000.0, iscrowd=0, num_keypoints=4,
            keypoints=row.tolist(), category_id=1,
        )
        for k, row in enumerate(keypoints)
    ]  # fmt: skip
    return KeypointSet(category, images, annotations, [])


def test_estimates_are_the_annotators_sigmas():
    first, second = annotated(2000, 1), annotated(2000, 2)
    np.testing.assert_allclose(sigmas.estimate(first, second), TRUE, rtol=0.08)


def test_exchanged_sides_do_not_move_the_estimate():
    first, second = annotated(2000, 1), annotated(2000, 2)
    for annotation in second.annotations[:200]:  # a tenth
        k = annotation['keypoints']
        k[0:3], k[9:12] = k[9:12], k[0:3]
    np.testing.assert_allclose(sigmas.estimate(first, second), TRUE, rtol=0.2)


def test_persons_are_matched_by_box_and_image():
    first, second = annotated(200, 1), annotated(200, 2)
    shuffled = copy.deepcopy(second)
    shuffled.annotations.reverse()
    for image in shuffled.images:
        image['id'] += 1000
    for annotation in shuffled.annotations:
        annotation['image_id'] += 1000
    assert sigmas.estimate(first, shuffled) == sigmas.estimate(first, second)


def test_origins():
    few = annotated(5, 1), annotated(5, 2)
    values, lines = sigmas.choose(NAMES, few[0], few[1])
    assert values == [0.026, 0.025, 0.107, sigmas.DEFAULT], 'five pairs are too few'
    assert any("COCO's" in line and 'hip left' in line for line in lines)
    assert any('median' in line and 'tail' in line for line in lines)
    values, lines = sigmas.choose(NAMES, annotated(500, 1), annotated(500, 2))
    np.testing.assert_allclose(values, TRUE, rtol=0.2)
    assert len(lines) == 1
    assert 'second' in lines[0]


def test_the_default_is_the_median_of_cocos():
    from hrformer_mmpose.imaging import sides
    from hrformer_mmpose.imaging.skeleton import COCO

    of_coco = [sigmas.PUBLISHED[sides.part(name)] for name in COCO.names]
    assert np.median(of_coco) == sigmas.DEFAULT
    pytest.importorskip('mmpose')
    from hrformer_mmpose.datasets.coco import CocoDataset

    stated = CocoDataset._load_metainfo()['sigmas']
    np.testing.assert_allclose(of_coco, stated, atol=1e-6)


def test_second_annotations_that_tell_nothing():
    first = annotated(20, 1)
    with pytest.raises(DataError, match='the same annotations'):
        sigmas.choose(NAMES, first, annotated(20, 1))
    elsewhere = copy.deepcopy(first)
    for annotation in elsewhere.annotations:
        annotation['bbox'] = [250, 250, 20, 20]
    with pytest.raises(DataError, match='none of its persons'):
        sigmas.choose(NAMES, first, elsewhere)
