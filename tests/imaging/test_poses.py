"""Records of poses against answers worked out by hand."""

import json
import sys
import warnings

import numpy as np
import pytest

from hrformer_mmpose.imaging.poses import Pose, to_supervision
from hrformer_mmpose.imaging.skeleton import COCO, Skeleton

THREE = Skeleton(
    names=('nose', 'left_eye', 'right_eye'), links=((0, 1), (0, 2)), flip_indices=(0, 2, 1)
)


def three(box_score: float = 0.5) -> Pose:
    return Pose(
        keypoints=np.array([[10.5, 20.25], [1 / 3, 2], [-4, 7.00004]], np.float32),
        scores=np.array([0.9, 0.5, 0.2], np.float32),
        box=np.array([1, 2, 31.5, 44], np.float32),
        box_score=box_score,
        skeleton=THREE,
    )


def test_the_score_is_that_of_the_box_times_the_mean_of_the_sure_keypoints():
    # 0.2 is not above 0.2: (0.9 + 0.5) / 2 * 0.5.
    assert three().score == pytest.approx(0.35, rel=1e-6)
    nobody = Pose(np.zeros((3, 2)), np.full(3, 0.1), np.zeros(4), 0.9, THREE)
    assert nobody.score == 0.0


def test_coco_has_keypoints_in_a_row_and_width_and_height_of_the_box():
    entry = three().to_coco(image_id=7, category_id=3)
    assert entry['image_id'] == 7
    assert entry['category_id'] == 3
    # Coordinates to 4 decimals, in float64: no 0.33329999446868896.
    assert entry['keypoints'] == [10.5, 20.25, 0.9, 0.3333, 2.0, 0.5, -4.0, 7.0, 0.2]
    assert entry['bbox'] == [1.0, 2.0, 30.5, 42.0]
    assert entry['score'] == pytest.approx(0.35, rel=1e-6)
    assert json.loads(json.dumps(entry)) == entry
    assert three().to_coco()['category_id'] == 1


def test_dict_and_back():
    values = three().to_dict()
    assert values['keypoints']['left_eye'] == [0.3333, 2.0, 0.5]
    assert values['score'] == 0.35
    back = Pose.from_dict(json.loads(json.dumps(values)), THREE)
    np.testing.assert_allclose(back.keypoints, three().keypoints, atol=5.1e-5)
    np.testing.assert_allclose(back.scores, three().scores, atol=5.1e-7)
    np.testing.assert_allclose(back.box, three().box, atol=5.1e-5)
    assert back.keypoints.dtype == back.scores.dtype == back.box.dtype == np.float32
    assert (back.box_score, back.skeleton) == (0.5, THREE)
    assert back.to_dict() == values


def test_coco_s_skeleton_is_its_own_mirror_image():
    for k, mirrored in enumerate(COCO.flip_indices):
        assert COCO.flip_indices[mirrored] == k
        swapped = {'left': 'right', 'right': 'left', 'middle': 'middle'}
        assert COCO.side(mirrored) == swapped[COCO.side(k)]
    links = {frozenset(link) for link in COCO.links}
    assert {frozenset(COCO.flip_indices[k] for k in link) for link in links} == links


def test_supervision_gets_coordinates_and_scores():
    supervision = pytest.importorskip('supervision')
    poses = [three(), three(1.0)]
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # of fields that the next version will not have
        points = to_supervision(poses)
    assert isinstance(points, supervision.KeyPoints)
    assert len(points) == 2
    np.testing.assert_array_equal(points.xy, np.stack([three().keypoints] * 2))
    if hasattr(points, 'keypoint_confidence'):
        confidence = points.keypoint_confidence
        np.testing.assert_allclose(points.detection_confidence, [0.35, 0.7], rtol=1e-6)
    else:
        confidence = points.confidence
    np.testing.assert_array_equal(confidence, np.stack([three().scores] * 2))
    image = np.zeros((60, 60, 3), np.uint8)
    assert supervision.VertexAnnotator(radius=2).annotate(image, points)[20, 10].any()
    assert len(to_supervision([])) == 0


def test_without_supervision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ImportError, match='pip install supervision'):
        to_supervision([three()])
