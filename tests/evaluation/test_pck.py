"""PCKh of any keypoints, worked out by hand, and MMPose's other metrics beside it."""

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmpose.registry import METRICS

import hrformer_mmpose  # noqa: F401
from hrformer_mmpose.errors import ConfigError

NAMES = ['top', 'neck', 'tail']


def sample(errors, visible=(1, 1, 1)) -> dict:
    """A person whose head is 10 pixels long, predicted with errors in pixels."""
    truth = np.array([[[50.0, 20], [50, 30], [90, 60]]])
    predicted = truth + np.array(errors, float)[None, :, None] * [1, 0]
    return dict(
        gt_instances=dict(keypoints=truth, keypoints_visible=np.array([visible], np.float32)),
        pred_instances=dict(keypoints=predicted),
    )


def built(**settings):
    metric = METRICS.build(dict(type='hrformer_mmpose.PCKAccuracy', **settings))
    metric.dataset_meta = dict(keypoint_name2id={name: k for k, name in enumerate(NAMES)})
    return metric


@pytest.mark.parametrize(('thr', 'expected'), [(0.5, 2 / 3), (0.3, 1 / 3), (0.7, 1.0)])
def test_errors_count_in_sizes_of_the_head(thr, expected):
    metric = built(head=('top', 'neck'), thr=thr)
    metric.process({}, [sample([2, 4, 6])])
    assert metric.evaluate(1)['PCKh'] == pytest.approx(expected)


@pytest.mark.parametrize('visible', [(0, 1, 1), (1, 0, 1)])
def test_persons_without_a_head_do_not_count(visible):
    metric = built(head=('top', 'neck'))
    metric.process({}, [sample([2, 4, 6]), sample([0, 0, 0], visible)])
    assert metric.evaluate(2)['PCKh'] == pytest.approx(2 / 3)


@pytest.mark.parametrize('head', ['top', ('top',), ('top', 'top')])
def test_a_head_of_other_than_two_keypoints(head):
    with pytest.raises(ConfigError, match='names of two keypoints'):
        built(head=head)


def test_names_of_another_set():
    with pytest.raises(ConfigError, match="no keypoint 'ear', but top, neck, tail"):
        built(head=('top', 'ear')).process({}, [sample([0, 0, 0])])
