"""Boxes in every form, matched to their images."""

import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.inference.estimator import Estimator

from .helpers import ARRAYS, BOXES, WHERE, Brightest, where


def test_detectors(paths):
    seen = []

    def detector(image):
        seen.append(image.shape)
        return BOXES[len(seen) - 1]

    assert [where(p) for p in Estimator(Brightest())(paths, detector)] == WHERE
    assert seen == [array.shape for array in ARRAYS]
    for nobody in ([], np.zeros((0, 5)), np.zeros((0, 4)), ()):
        assert Estimator(Brightest())(ARRAYS, lambda image, rows=nobody: rows) == [[]] * 7
        assert Estimator(Brightest())(ARRAYS[0], lambda image, rows=nobody: rows) == []
    with pytest.raises(DataError, match='the boxes of image 0 are None'):
        Estimator(Brightest())(ARRAYS[0], lambda image: None)
    # One for each image is fine, too.
    rows = [lambda image: BOXES[0], BOXES[1], 'whole-image']
    found = Estimator(Brightest())(ARRAYS[:3], rows)
    assert [len(poses) for poses in found] == [1, 0, 1]


def test_whole_image():
    image = np.zeros((64, 48, 3), np.uint8)
    image[20, 10] = 200
    (pose,) = Estimator(Brightest())(image, 'whole-image')
    np.testing.assert_array_equal(pose.box, [0, 0, 48, 64])
    assert pose.box_score == 1
    # The crop is a quarter larger than the image.
    assert np.abs(pose.keypoints[0] - (10, 20)).max() < 1
    assert [len(poses) for poses in Estimator(Brightest())(ARRAYS, 'whole-image')] == [1] * 7


def test_boxes_by_file_name(paths, tmp_path):
    by_base = {Path(path).name: table for path, table in zip(paths, BOXES, strict=True)}
    by_path = dict(zip(paths, BOXES, strict=True))
    by_object = {Path(path): table for path, table in by_path.items()}
    empty_by_default = defaultdict(list, by_base)
    estimator = Estimator(Brightest())
    for boxes in (by_base, by_path, by_object, empty_by_default, types.MappingProxyType(by_base)):
        assert [where(poses) for poses in estimator([*map(Path, paths)], boxes)] == WHERE
        assert where(estimator(Path(paths[2]), boxes)) == WHERE[2]
    assert [where(poses) for poses in estimator(paths, by_path)] == WHERE
    # The path counts for more than the base name.
    for path in (paths[0], Path(paths[0])):
        assert where(estimator(path, {'0.png': [], paths[0]: BOXES[0]})) == WHERE[0]
    del by_base['5.png']
    with pytest.raises(DataError, match=r"there are no boxes for image '.*5\.png'"):
        estimator(paths, by_base)
    found = list(Estimator(Brightest(), on_error='skip').stream(paths, by_base))
    assert [one.problems != [] for one in found] == [False] * 5 + [True, False]
    assert not found[5].failed
    with pytest.raises(ConfigError, match='need images given as paths: image 1 is a ndarray'):
        estimator([paths[0], ARRAYS[0]], by_base)


def test_what_a_file_of_boxes_says_of_an_unknown_image_is_passed_on(paths):
    class Known(dict):
        def __missing__(self, key):
            raise type('Unknown', (DataError, KeyError), {'__str__': Exception.__str__})('not mine')

    with pytest.raises(DataError, match='not mine'):
        Estimator(Brightest())(paths[0], Known())


def test_box_threshold():
    estimator = Estimator(Brightest(), box_threshold=0.8)
    assert where(estimator(ARRAYS[2], BOXES[2])) == WHERE[2][:2]  # of 0.9, 0.8, 0.7
    assert where(estimator(ARRAYS[2], BOXES[2][:, :4])) == WHERE[2]
    # What is left out need not be a box.
    assert estimator(ARRAYS[2], [[5, 5, 5, 5, 0.1]]) == []


@pytest.mark.parametrize(
    ('images', 'boxes', 'line'),
    [
        (ARRAYS, BOXES[:-1], r'there are 7 images, but boxes for 6 \(give one array'),
        (ARRAYS[:2], BOXES, 'there are 2 images, but boxes for 7'),
        (iter(ARRAYS[:2]), BOXES[:1], 'more images than boxes: number 1, from 0, has no'),
        (ARRAYS[:1], iter(BOXES[:2]), 'more boxes than images: number 1, from 0, has no'),
    ],
)
def test_counts_that_differ(images, boxes, line):
    network = Brightest()
    with pytest.raises(DataError, match=line):
        Estimator(network)(images, boxes)
    if hasattr(images, '__len__') and hasattr(boxes, '__len__'):
        assert network.batches == []  # nothing was done in vain


@pytest.mark.parametrize(
    ('boxes', 'kind', 'line'),
    [
        ('whole', ConfigError, "boxes='whole' is not boxes, a detector or 'whole-image'"),
        (None, DataError, 'the boxes of image 0 are None'),
        ([10, 20, 30, 40], DataError, r'image 0 have the shape \(4,\)'),
        ([[10, 20, 30, 40, 1, 0]], DataError, r'have the shape \(1, 6\)'),
        ([['whole-image']], DataError, 'are not rows of x0'),
        ([[10, 20, 5, 40]], DataError, 'box 0 of image 0 has no area'),
        ([[1, 2, 9, 9], [1, np.nan, 3, 4]], DataError, 'box 1 of image 0 holds NaN'),
        ([[1, 2, 9, 9], [500, 2, 600, 9]], DataError, 'box 1 of image 0 lies outside the image'),
    ],
)
def test_boxes_that_are_none(boxes, kind, line):
    with pytest.raises(kind, match=line) as caught:
        Estimator(Brightest())(ARRAYS[0], boxes)
    assert '\n' not in str(caught.value)


def test_text_in_place_of_boxes_is_no_whole_image():
    with pytest.raises(DataError, match='the boxes of image 0 are not rows of x0'):
        Estimator(Brightest())([ARRAYS[0]], ['10 20 30 40'])
    with pytest.raises(ConfigError, match='boxes=3 is not boxes of each image'):
        Estimator(Brightest())(ARRAYS, 3)
