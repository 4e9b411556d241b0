"""Crops are MMPose's to the bit, and boxes that hold no person are told."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.structures import InstanceData
from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.structures import PoseDataSample

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.imaging import crops

BOXES = np.array(
    [
        [30, 20, 90, 140],  # higher than the input
        [10, 60, 150, 80],  # wider
        [-25.5, -10.25, 61.125, 77.7],  # over the edge
        [100.3, 33.3, 100.9, 34.1],  # less than a pixel
        [0, 0, 160, 150],  # all of it
        [-500, -900, 2000, 3000],
    ],
    np.float32,
)


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (150, 160, 3), np.uint8)


@pytest.mark.parametrize('udp', [False, True])
@pytest.mark.parametrize('input_size', [(192, 256), (64, 48), (50, 50)])
@pytest.mark.parametrize('padding', [1.25, 1.1])
def test_centres_scales_and_crops_are_those_of_mmpose(image, udp, input_size, padding):
    centers, scales = crops.centers_and_scales(BOXES, input_size, padding)
    assert centers.dtype == scales.dtype == np.float32
    for box, center, scale in zip(BOXES, centers, scales, strict=True):
        results = dict(img=image, bbox=box[None])
        results = GetBBoxCenterScale(padding).transform(results)
        results = TopdownAffine(input_size, use_udp=udp).transform(results)
        np.testing.assert_array_equal(center, results['input_center'])
        np.testing.assert_array_equal(scale, results['input_scale'])
        matrix = crops.crop_matrix(center, scale, input_size, udp)
        np.testing.assert_array_equal(crops.crop(image, matrix, input_size), results['img'])


def test_udp_and_plain_crops_differ(image):
    """So that the comparison above tells them apart."""
    (center,), (scale,) = crops.centers_and_scales(BOXES[:1], (64, 48))
    matrices = [crops.crop_matrix(center, scale, (64, 48), udp) for udp in (False, True)]
    assert np.abs(matrices[0] - matrices[1]).max() > 1e-3


def test_the_way_back_is_mmpose_s():
    rng = np.random.default_rng(1)
    keypoints = rng.uniform(-5, 260, (len(BOXES), 17, 2)).astype(np.float32)
    centers, scales = crops.centers_and_scales(BOXES, (192, 256))
    samples = [
        PoseDataSample(
            metainfo=dict(input_center=center, input_scale=scale, input_size=(192, 256)),
            gt_instances=InstanceData(bboxes=np.zeros((1, 4)), bbox_scores=np.ones(1)),
        )
        for center, scale in zip(centers, scales, strict=True)
    ]
    found = [
        InstanceData(keypoints=rows[None].copy(), keypoint_scores=np.ones((1, 17), np.float32))
        for rows in keypoints
    ]
    estimator = SimpleNamespace(test_cfg={})
    TopdownPoseEstimator.add_pred_to_datasample(estimator, found, None, samples)
    expected = np.concatenate([sample.pred_instances.keypoints for sample in samples])
    ours = crops.to_image(keypoints, centers, scales, (192, 256)).astype(np.float32)
    np.testing.assert_array_equal(ours, expected)


def test_one_box_by_hand():
    # 40 x 60 around (50, 100), a quarter larger: 50 x 75. The input is as high as wide, so 75 x 75.
    centers, scales = crops.centers_and_scales(np.float32([[30, 70, 70, 130]]), (100, 100))
    np.testing.assert_array_equal(centers, [[50, 100]])
    np.testing.assert_array_equal(scales, [[75, 75]])
    back = crops.to_image(np.float32([[[0, 0], [50, 50], [100, 20]]]), centers, scales, (100, 100))
    np.testing.assert_allclose(back, [[[12.5, 62.5], [50, 100], [87.5, 77.5]]], atol=1e-5)


@pytest.mark.parametrize(
    'boxes',
    [
        [[1, 2, 3, 4], [5, 6, 7, 8]],
        [(1, 2, 3, 4), np.array([5, 6, 7, 8])],
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float64),
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.uint8),
        np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int64)[:, :4],
    ],
)
def test_boxes_without_scores_count_in_full(boxes):
    table = crops.as_boxes(boxes, 'a.jpg')
    np.testing.assert_array_equal(table, [[1, 2, 3, 4, 1], [5, 6, 7, 8, 1]])
    assert table.dtype == np.float32


def test_boxes_with_scores_are_a_copy():
    boxes = np.array([[1, 2, 3, 4, 0.25]], np.float32)
    table = crops.as_boxes(boxes, 'a.jpg')
    np.testing.assert_array_equal(table, boxes)
    boxes[:] = 0
    assert table[0, 4] == 0.25


@pytest.mark.parametrize('boxes', [[], (), np.zeros((0, 4)), np.zeros((0, 5)), [[]]])
def test_nobody(boxes):
    assert crops.as_boxes(boxes, 'a.jpg').shape == (0, 5)


@pytest.mark.parametrize(
    ('boxes', 'line'),
    [
        ([1, 2, 3, 4], r'the boxes of a\.jpg have the shape \(4,\)'),
        ([[1, 2, 3]], r'have the shape \(1, 3\), not \(n, 4\) or \(n, 5\)'),
        (np.zeros((2, 2, 4)), r'have the shape \(2, 2, 4\)'),
        (7, r'have the shape \(\)'),
        (None, 'are None, not rows of x0, y0, x1, y1'),
        ('1 2 3 4', 'are not rows of x0'),
        ([['1', '2', '3', '4']], 'are not rows of x0'),
        ([[1, 2, 3, 4], [1, 2]], 'are not rows of x0'),
        ([dict(bbox=[1, 2, 3, 4])], 'are not rows of x0'),
        ([[10**400, 2, 3, 4]], 'are not rows of x0'),
        (np.array([[1j, 2, 3, 4]]), 'are not rows of x0'),
    ],
)
def test_what_is_no_table_of_boxes(boxes, line):
    with pytest.raises(DataError, match=line) as caught:
        crops.as_boxes(boxes, 'a.jpg')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('box', 'line'),
    [
        ([np.nan, 2, 3, 4, 1], 'holds NaN or infinite values'),
        ([1, 2, np.inf, 4, 1], 'holds NaN or infinite values'),
        ([1, 2, 3, 4, np.nan], 'holds NaN or infinite values'),
        ([-3e38, 2, 3e38, 4, 1], 'holds NaN or infinite values'),
        ([1e300, 2, 1e301, 4, 1], 'holds NaN or infinite values'),
        ([5, 2, 5, 4, 1], r'has no area: 5, 2, 5, 4 \(x0, y0, x1, y1\)'),
        ([5, 9, 8, 4, 1], 'has no area: 5, 9, 8, 4'),
        ([40, 2, 45, 4, 1], 'lies outside the image of 40x30: 40, 2, 45, 4'),
        ([1, 30, 2, 34, 1], 'lies outside the image of 40x30'),
        ([-9, 2, 0, 4, 1], 'lies outside the image of 40x30'),
        ([1, -5, 2, -1, 1], 'lies outside the image of 40x30'),
    ],
)
def test_boxes_without_a_person(box, line):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        table = crops.as_boxes([[1, 2, 3, 4, 1], box], 'a.jpg')
        ((row, why),) = crops.invalid_boxes(table, (30, 40, 3))
    assert row == 1

    assert re.match(line, why), why


def test_boxes_over_the_edge_are_fine():
    table = crops.as_boxes([[-9, -9, 1, 1], [39, 29, 90, 90], [-9, -9, 99, 99]], 'a.jpg')
    assert crops.invalid_boxes(table, (30, 40)) == []
