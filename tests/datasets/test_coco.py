"""The COCO data set: MMPose's samples, checks at the start."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmpose.registry import DATASETS

from hrformer_mmpose.datasets import files
from hrformer_mmpose.errors import DataError

TRAIN = 'annotations/person_keypoints_train2017.json'
VAL = 'annotations/person_keypoints_val2017.json'
BOXES = 'person_detection_results/simulated_val2017_person.json'


def build(root, scope='hrformer_mmpose', **kwargs):
    settings = dict(ann_file=TRAIN, data_prefix=dict(img='train2017/'), data_mode='topdown')
    settings.update(kwargs)
    return DATASETS.build(dict(type=f'{scope}.CocoDataset', data_root=str(root), **settings))


@pytest.fixture
def root(synthetic_root, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(synthetic_root, tmp_path / 'coco')


def same(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return a == b


def without_masks(sample: dict) -> dict:
    if 'raw_ann_info' in sample:
        sample['segmentation'] = None
        raw = sample['raw_ann_info']
        raw.pop('segmentation', None)
        raw['keypoints'] = np.float32(raw['keypoints']).tolist()
    return sample


@pytest.mark.parametrize('boxes', ['annotated', 'detected'])
def test_samples_are_mmposes(synthetic_root, boxes):
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True)
    if boxes == 'annotated':
        ours, theirs = (build(synthetic_root, scope) for scope in ('hrformer_mmpose', 'mmpose'))
    else:
        ours = build(synthetic_root, bbox_file=BOXES, **val)
        theirs = build(synthetic_root, 'mmpose', bbox_file=str(synthetic_root / BOXES), **val)
    assert len(ours) == len(theirs) > 5
    for index in range(len(ours)):
        assert same(ours.get_data_info(index), without_masks(theirs.get_data_info(index)))


def test_the_detection_file_is_found_from_the_data_root(synthetic_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True)
    relative = build(synthetic_root, bbox_file=BOXES, **val)
    absolute = build(synthetic_root, bbox_file=str(synthetic_root / BOXES), **val)
    assert len(relative) == len(absolute)
    assert relative.bbox_file == absolute.bbox_file


def message(root, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        build(root, **kwargs)
    text = str(caught.value)
    assert '\n' not in text
    return text


def test_a_missing_data_root_names_the_variable(tmp_path):
    text = message(tmp_path / 'nowhere')
    assert 'nowhere' in text
    assert 'COCO_ROOT' in text


@pytest.mark.parametrize('which', ['annotation', 'detection'])
def test_a_missing_file_is_named(root, which):
    file = TRAIN if which == 'annotation' else BOXES
    (root / file).unlink()
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True, bbox_file=BOXES)
    text = message(root, **(val if which == 'detection' else {}))
    assert file in text
    assert f'{which} file' in text
    assert 'COCO_ROOT' in text


def test_a_missing_image_is_named_before_training(root):
    image = sorted((root / 'train2017').iterdir())[3]
    image.unlink()
    assert f"{image.name}' does not exist" in message(root)


def test_a_link_to_nowhere_is_a_missing_image(root):
    image = sorted((root / 'train2017').iterdir())[3]
    image.unlink()
    image.symlink_to(root / 'nowhere.jpg')
    assert f"{image.name}' does not exist" in message(root)


def test_an_empty_image_is_named_and_others_are_counted(root):
    first, second = sorted((root / 'train2017').iterdir())[:2]
    first.write_bytes(b'')
    second.unlink()
    text = message(root)
    assert f"{first.name}' is empty" in text
    assert '(1 more of 8 are missing or empty)' in text


def test_a_missing_image_folder_is_named(root):
    shutil.rmtree(root / 'train2017')
    assert "train2017' does not exist" in message(root)


def test_names_relative_to_the_working_folder_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ['a.jpg', './b.jpg', 's//c.jpg', 's/c.jpg']
    (tmp_path / 's').mkdir()
    for name in names:
        (tmp_path / name).write_text(name[-5])
    assert files.sizes_of([*names, 'd.jpg']) == dict.fromkeys(names, 1)


@pytest.mark.parametrize(
    ('path', 'expected'),
    [('data_boxes.json', 'data/data_boxes.json'), ('data/boxes.json', 'data/boxes.json')],
)
def test_a_path_includes_the_data_root_as_a_folder(path, expected):
    assert files.join_data_root(path, 'data') == expected
    assert files.join_data_root(path, '') == path


@pytest.mark.parametrize('keep', ['none', 'crowds'])
def test_an_annotation_list_without_persons_says_so(root, keep):
    data = json.loads((root / TRAIN).read_text())
    data['annotations'] = [dict(ann, iscrowd=1) for ann in data['annotations'] if keep != 'none']
    (root / TRAIN).write_text(json.dumps(data))
    assert 'holds no person to train on' in message(root)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('', 'is empty'),
        ('[]', 'does not hold a JSON dict'),
        ('<html>', 'does not hold a JSON dict'),
        ('{"images": [', 'is not in COCO'),
        ('{"images": [{"id": 1}], "annotations": []}', 'is not in COCO'),
        ('{"annotations": [{"id": 1}]}', 'is not in COCO'),
        ('{"images": [], "annotations": [], "categories": []}', 'it lists no images'),
        ('{"images": {"id": 1}}', 'images is not a list of objects'),
        ('{"images": [], "annotations": null}', 'annotations is not a list of objects'),
        ('{"images": [], "categories": ["person"]}', 'categories is not a list of objects'),
        ('{"images": [], "categories": null}', 'categories is not a list of objects'),
        ('{"images": [], "categories": [{"name": "person"}]}', 'id None of the entry at place 1'),
        ('{"images": [], "categories": [{"id": "1"}]}', "id '1' of entry 1"),
        ('{"images": [], "categories": [{"id": 1e400}]}', 'id inf of entry inf'),
    ],
)
def test_a_file_of_another_kind_is_named(root, content, words):
    (root / TRAIN).write_text(content)
    text = message(root)
    assert TRAIN in text
    assert words in text


def test_detections_of_other_images_are_named(root):
    detections = json.loads((root / BOXES).read_text())
    detections[2]['image_id'] = 123456
    (root / BOXES).write_text(json.dumps(detections))
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True, bbox_file=BOXES)
    text = message(root, **val)
    assert 'detection 2 (of image 123456)' in text
    assert BOXES in text
