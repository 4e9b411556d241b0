"""Coordinates as labels, against MMPose's codec where both agree, and by hand."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.codecs import RegressionLabel

from hrformer_mmpose.codecs import CoordinateLabel
from hrformer_mmpose.errors import ConfigError

SIZE = 48, 64


def test_inside_the_crop_it_is_mmposes():
    keypoints = np.random.default_rng(0).uniform(0, 47, (2, 17, 2))
    ours, theirs = (
        codec(SIZE).encode(keypoints, np.ones((2, 17)))
        for codec in (CoordinateLabel, RegressionLabel)
    )
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        np.testing.assert_array_equal(ours[key], values)
        assert ours[key].dtype == np.float32


def test_outside_and_without_a_label():
    keypoints = np.array([[[-24, 96], [24, 32], [np.nan, 3], [60, 16]]], np.float32)
    encoded = CoordinateLabel(SIZE).encode(keypoints, np.array([[1, 0, 1, 1]], np.float32))
    assert encoded['keypoint_weights'].tolist() == [[1, 0, 0, 1]]
    assert encoded['keypoint_labels'].tolist() == [[[-0.5, 1.5], [0, 0], [0, 0], [1.25, 0.25]]]
    assert CoordinateLabel(SIZE).encode(keypoints)['keypoint_weights'].sum() == 3


def test_decoding_goes_back():
    keypoints = np.random.default_rng(0).uniform(-9, 70, (3, 17, 2)).astype(np.float32)
    labels = CoordinateLabel(SIZE).encode(keypoints)['keypoint_labels']
    scores = np.linspace(0, 1, 51, dtype=np.float32).reshape(3, 17)
    encoded = np.concatenate([labels, scores[..., None]], 2)
    batch, batch_scores = CoordinateLabel(SIZE).batch_decode(torch.from_numpy(encoded))
    np.testing.assert_allclose(batch.numpy(), keypoints, atol=1e-4)
    np.testing.assert_array_equal(batch_scores.numpy(), scores)
    one, one_scores = CoordinateLabel(SIZE).decode(encoded[1])
    assert one.shape == (1, 17, 2)
    np.testing.assert_array_equal(one[0], batch[1].numpy())
    np.testing.assert_array_equal(one_scores[0], scores[1])


@pytest.mark.parametrize('size', [(48,), (0, 64)])
def test_a_wrong_size_is_named(size):
    with pytest.raises(ConfigError, match='CoordinateLabel: input_size='):
        CoordinateLabel(size)
