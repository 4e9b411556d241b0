"""Shared steps of detectors: checks of images, suppression of overlapping boxes."""

import numpy as np
import pytest

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.inference.detectors import HogDetector, nms

from .helpers import iou, message


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((5, 5, 3), np.float32),
        np.zeros((5, 5), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        None,
    ],
)
def test_an_image_has_to_be_one(image):
    assert 'uint8' in message(DataError, HogDetector(), image)


@pytest.mark.parametrize('overlap', [0.0, 0.3, 0.65, 1.0])
def test_nms_is_the_naive_loop(overlap):
    rng = np.random.default_rng(3)
    start = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([start, start + rng.uniform(1, 40, (80, 2))], 1)
    scores = rng.integers(0, 30, 80) / 30  # with ties
    expected = []
    for index in sorted(range(80), key=lambda i: -scores[i]):
        if all(iou(boxes[index], boxes[other]) <= overlap for other in expected):
            expected.append(index)
    assert nms(boxes, scores, overlap).tolist() == expected
    assert 1 < len(expected) <= 80


def test_nms_of_nothing():
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)
