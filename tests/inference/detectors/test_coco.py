"""Boxes from files: those that MMPose loads, which count, and what is refused."""

import json

import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.inference.detectors import CocoDetections

from .helpers import VAL, annotated, annotation, detection, message, write

BOXES = 'person_detection_results/simulated_val2017_person.json'
NAN = float('nan')


def mmpose_boxes(root, **kwargs) -> dict[str, np.ndarray]:
    """Rows by file name, highest score first, of MMPose's own data set."""
    pytest.importorskip('mmpose')
    from mmpose.registry import DATASETS

    settings = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), data_mode='topdown')
    data = DATASETS.build(
        dict(type='mmpose.CocoDataset', data_root=str(root), test_mode=True, **settings, **kwargs)
    )
    rows = {}
    for index in range(len(data)):
        info = data.get_data_info(index)
        row = np.append(info['bbox'][0], info['bbox_score'])
        rows.setdefault(info['img_path'].split('/')[-1], []).append(row)
    return {name: np.array(sorted(r, key=lambda row: -row[4])) for name, r in rows.items()}


@pytest.mark.parametrize('with_annotations', [False, True])
def test_detections_are_those_that_mmpose_loads(synthetic_root, with_annotations):
    path, list_of_images = synthetic_root / BOXES, synthetic_root / VAL
    expected = mmpose_boxes(synthetic_root, bbox_file=str(path))
    found = CocoDetections(path, list_of_images if with_annotations else None)
    assert sum(map(len, expected.values())) > 5
    for name, boxes in expected.items():
        assert found[name].dtype == boxes.dtype == np.float32
        assert np.array_equal(found[name], boxes)
    if with_annotations:
        assert len(found) == len([*found]) == 5
    assert {name for name in found if len(found[name])} == set(expected)


def test_a_threshold_is_mmposes(synthetic_root):
    path = str(synthetic_root / BOXES)
    scores = sorted(entry['score'] for entry in json.loads((synthetic_root / BOXES).read_text()))
    threshold = scores[len(scores) // 2]
    expected = mmpose_boxes(
        synthetic_root, bbox_file=path, filter_cfg=dict(bbox_score_thr=threshold)
    )
    found = CocoDetections(path, threshold=threshold)
    assert set(found) == set(expected)
    assert all(np.array_equal(found[name], boxes) for name, boxes in expected.items())


def test_annotated_boxes_are_those_that_mmpose_loads(synthetic_root):
    expected = mmpose_boxes(synthetic_root)
    found = CocoDetections(synthetic_root / VAL)
    assert len(found) == len(expected) == 5
    assert all(np.array_equal(found[name], boxes) for name, boxes in expected.items())


def test_boxes_and_their_order_by_hand(tmp_path):
    entries = [
        detection(score=0.2),
        detection(score=0.9, bbox=[0.1, 0.2, 0.3, 0.4, 77]),
        detection(score=0.2, bbox=[1, 2, 3, 4]),
        detection(score=1.0, category_id=3),
        detection(score=1.0, image_id=5, bbox=[1, 1, 1, 1]),
    ]
    found = CocoDetections(write(tmp_path / 'dets.json', entries))
    x, y, w, h = np.float32([0.1, 0.2, 0.3, 0.4])
    rows = [[x, y, x + w, y + h, 0.9], [10, 20, 40, 60, 0.2], [1, 2, 4, 6, 0.2]]
    assert np.array_equal(found['000000000139.jpg'], np.float32(rows))
    assert set(found) == {'000000000139.jpg', '000000000005.jpg'}
    found['000000000139.jpg'][:] = 0
    assert found['000000000139.jpg'].any(), 'what is handed out is a copy'


def test_names_by_cocos_rule(tmp_path):
    found = CocoDetections(write(tmp_path / 'dets.json', [detection()]))
    for name in ('COCO_val2014_000000000139.jpg', '/a/b/000000000139.png', '139.jpg', 'x/139'):
        assert len(found[name]) == 1
    assert found.image_id('a/COCO_val2014_000000000139.jpg') == 139
    assert found['000000000140.jpg'].shape == (0, 5)
    assert found['000000000140.jpg'].dtype == np.float32
    text = message(KeyError, found.__getitem__, 'holiday.jpg')
    assert 'holiday.jpg' in text
    assert 'annotation file' in text
    assert 'holiday.jpg' not in found
    with pytest.raises(DataError):  # so that a command line shows it as a user's mistake
        found['holiday.jpg']


def test_names_of_an_annotation_file(tmp_path):
    names = ('a/one.jpg', 'b/one.jpg', 'z/b/one.jpg', 'two.jpg')
    images = write(tmp_path / 'ann.json', annotated(names=names))
    entries = [detection(image_id=n, score=n / 10) for n in (1, 2, 3)]
    found = CocoDetections(write(tmp_path / 'dets.json', entries), images)
    scores = {
        name: found[name][0, 4]
        for name in ('a/one.jpg', '/x/a/one.jpg', 'b/one.jpg', 'z/b/one.jpg')
    }
    assert scores == pytest.approx(dict(zip(scores, (0.1, 0.1, 0.2, 0.3), strict=True)))
    assert found['elsewhere/two.jpg'].shape == (0, 5), 'one of that name: the folder is free'
    assert list(found) == ['a/one.jpg', 'b/one.jpg', 'z/b/one.jpg', 'two.jpg']
    for unknown in ('one.jpg', '000000000001.jpg'):
        assert images in message(KeyError, found.__getitem__, unknown)
    assert found.get('one.jpg') is None
    assert found.image_id('x/z/b/one.jpg') == 3


def test_which_annotations_count(tmp_path):
    seen = [50, 40, 2] + [0] * 48
    entries = [
        annotation(bbox=[-5, -5, 200, 200]),  # clipped to 0 .. 99 and 0 .. 79
        annotation(id=8, bbox=[1, 1, 5, 5], keypoints=seen, num_keypoints=1),
        annotation(id=9, bbox=[2, 2, 5, 5], keypoints=seen),
        annotation(id=10, bbox=[3, 3, 5, 5], keypoints=[0] * 51, num_keypoints=0),
        annotation(id=11, bbox=[4, 4, 5, 5], keypoints=[0] * 51),
        annotation(id=12, bbox=[5, 5, 5, 5], iscrowd=1),
        annotation(id=17, bbox=[5, 5, 5, 5], iscrowd='1'),
        annotation(id=18, bbox=[9, 9, 5, 5], iscrowd='0'),
        annotation(id=13, bbox=[6, 6, 5, 5], category_id=2),
        annotation(id=14, bbox=[7, 7, 0, 5]),
        # No person is looked for in these, so that they may be broken.
        annotation(id=15, bbox=[NAN, 8, 5, 5], iscrowd=1),
        annotation(id=16, bbox=[NAN, 9, 5, 5], num_keypoints=0),
    ]
    found = CocoDetections(
        write(tmp_path / 'ann.json', annotated(*entries, names=('1.jpg', '2.jpg')))
    )
    rows = [[0, 0, 99, 79, 1], [1, 1, 6, 6, 1], [2, 2, 7, 7, 1], [9, 9, 14, 14, 1]]
    assert np.array_equal(found['1.jpg'], np.float32(rows))
    assert found['2.jpg'].shape == (0, 5)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('', 'is empty'),
        ('hello', 'is no JSON'),
        ('[{"image_id": 1', 'not a list of detections'),
        ('{"images": [', 'not in COCO'),
        ([], 'no box of a person'),
        ([1, 2], 'not a list of detections'),
        ([detection(category_id=2)], 'no box of a person'),
        ([detection(), detection(bbox=[1, 2, NAN, 4])], 'detection 1 (of image 139)'),
        ([detection(bbox=[1, 2, 'x', 4])], 'detection 0'),
        ([detection(bbox=[1, 2, 3])], 'no box of four numbers'),
        ([detection(bbox=[1, 2, 1e300, 4])], 'no box of four numbers'),
        ([detection(score=None), detection(score=NAN)], '(1 more such)'),
        ([detection(bbox=[1, 2, 0, 4])], 'without area'),
        ([detection(image_id='139')], 'not a list of detections'),
        ({}, 'lists no images'),
        (dict(images=[], annotations=[annotation()]), 'lists no images'),
        (dict(images=annotated()['images']), 'no annotations'),
        (annotated(), 'no box of a person'),
        (annotated(annotation(bbox=[1, 2, NAN, 4])), 'annotation 7'),
        (annotated(annotation(bbox=None)), 'no box of four numbers'),
        (annotated(annotation(image_id=2)), 'annotation 7'),
    ],
)
def test_broken_files_are_named(tmp_path, content, words):
    path = write(tmp_path / 'boxes.json', content)
    text = message(DataError, CocoDetections, path)
    assert path in text
    assert words in text


def test_files_that_do_not_go_together(tmp_path):
    dets = write(tmp_path / 'dets.json', [detection()])
    ann = write(tmp_path / 'ann.json', annotated(annotation()))
    text = message(DataError, CocoDetections, dets, ann)
    assert 'detection 0 (of image 139)' in text
    assert ann in text
    assert 'annotation file' in message(ConfigError, CocoDetections, ann, ann)
    assert 'is a list' in message(DataError, CocoDetections, dets, dets)
    missing = str(tmp_path / 'no.json')
    assert missing in message(DataError, CocoDetections, missing)
    assert missing in message(DataError, CocoDetections, dets, missing)


def test_real_files(shared):
    """COCO's own annotations; the first boxes of the detection file that everybody uses."""
    mini = shared / 'data/coco-mini'
    truth = CocoDetections(mini / VAL)
    assert len(truth) == 118
    assert sum(len(boxes) for boxes in truth.values()) == 192
    usual = shared / 'data/coco-eval/xtcocoapi_examples/test_coco_det_AP_H_56.json'
    entries = [entry for entry in json.loads(usual.read_text()) if entry['category_id'] == 1]
    found = CocoDetections(usual)
    assert sum(len(boxes) for boxes in found.values()) == len(entries)
