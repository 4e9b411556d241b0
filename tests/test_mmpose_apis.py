"""MMPose's high-level entry points run our configs and give the poses of `PoseEstimator`."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpose.apis import inference_topdown, init_model
from mmpose.apis.inferencers import MMPoseInferencer, Pose2DInferencer
from mmpose.registry import DATASETS

from hrformer_mmpose import PoseEstimator
from hrformer_mmpose.engine.training_state import to_plain

from .conftest import ROOT

CONFIG = ROOT / 'configs/hrformer_tiny_coco_256x192.py'
OVERRIDES = {'model.backbone.init_cfg': None, 'model.backbone.norm_cfg.type': 'BN'}
TOLERANCE = 1e-2  # pixels; another box or crop moves keypoints by whole ones


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> str:
    """The published config, as users would save it for their own work."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(OVERRIDES)
    path = tmp_path_factory.mktemp('config') / 'config.py'
    cfg.dump(path)
    return str(path)


@pytest.fixture(scope='module')
def checkpoint(config, tmp_path_factory) -> str:
    """Random weights whose heatmaps differ from joint to joint."""
    torch.manual_seed(1)
    model = init_model(config, device='cpu')
    with torch.no_grad():
        model.head.final_layer.weight.normal_(std=1)
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta))
    torch.save(to_plain(content), path)  # as training saves it
    return str(path)


@pytest.fixture(scope='module')
def image(tmp_path_factory) -> str:
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 9, 3)).astype(np.uint8)
    path = tmp_path_factory.mktemp('image') / 'image.png'
    cv2.imwrite(str(path), cv2.resize(pixels, (180, 220), interpolation=cv2.INTER_CUBIC))
    return str(path)


@pytest.fixture(scope='module')
def estimator(config, checkpoint) -> PoseEstimator:
    return PoseEstimator(config, checkpoint, device='cpu')


def assert_same_poses(ours, keypoints, scores):
    assert len({tuple(point) for point in ours.keypoints}) > 10  # joints are told apart
    np.testing.assert_allclose(np.asarray(keypoints), ours.keypoints, atol=TOLERANCE)
    np.testing.assert_allclose(np.asarray(scores), ours.scores, rtol=1e-4, atol=1e-3)


def test_inference_topdown(config, checkpoint, image, estimator):
    boxes = np.array([[20, 10, 150, 200], [60, 40, 170, 160]], np.float32)
    model = init_model(config, checkpoint, device='cpu')
    results = inference_topdown(model, image, boxes, bbox_format='xyxy')
    for ours, result in zip(estimator(image, boxes=boxes), results, strict=True):
        instances = result.pred_instances
        assert_same_poses(ours, instances.keypoints[0], instances.keypoint_scores[0])


@pytest.mark.parametrize('inferencer', ['pose2d', 'mmpose'])
def test_inferencers(inferencer, config, checkpoint, image, estimator):
    settings = dict(device='cpu', det_model='whole_image', show_progress=False)
    if inferencer == 'pose2d':
        infer = Pose2DInferencer(config, checkpoint, **settings)
    else:
        infer = MMPoseInferencer(pose2d=config, pose2d_weights=checkpoint, **settings)
    (ours,) = estimator(image, boxes=[[0, 0, 180, 220]])
    results = [*infer([image, image], batch_size=2, return_vis=True)]
    assert len(results) == 2
    for result in results:
        assert result['visualization'][0].shape == (220, 180, 3)
        ((person,),) = result['predictions']
        assert_same_poses(ours, person['keypoints'], person['keypoint_scores'])


def test_the_inferencer_knows_that_persons_are_to_be_detected():
    """Without a detector's name, MMPose takes the one for its data sets of bodies."""
    cfg = Config.fromfile(CONFIG)
    assert DATASETS.get(cfg.dataset_type).__module__.startswith('mmpose.datasets.datasets.body.')
