"""Each kind of bad input: named by file and id; left out, counted and reported with 'skip'."""

import json
import math
import shutil

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS

from hrformer_mmpose.errors import ConfigError, DataError

TRAIN = 'annotations/person_keypoints_train2017.json'
VAL = 'annotations/person_keypoints_val2017.json'
BOXES = 'person_detection_results/simulated_val2017_person.json'


@pytest.fixture
def root(synthetic_root, tmp_path):
    """A copy that a test may break."""
    return shutil.copytree(synthetic_root, tmp_path / 'coco')


def edit(path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def build(root, **kwargs):
    settings = dict(ann_file=TRAIN, data_prefix=dict(img='train2017/')) | kwargs
    return DATASETS.build(dict(type='hrformer_mmpose.CocoDataset', data_root=str(root), **settings))


def set_(place, **values):
    return lambda data: data['annotations'][place].update(values)


def without(place, key):
    return lambda data: data['annotations'][place].pop(key)


def keypoint(place, number, value):
    return lambda data: data['annotations'][place]['keypoints'].__setitem__(number, value)


def widen(data):
    """Make the image of the second person, who has it alone, too wide."""
    person, image = data['annotations'][1], data['images'][0]
    data['images'].append({**image, 'id': 10**6, 'width': 40000})
    person['image_id'] = 10**6


BAD_PERSONS = {
    'no keypoints': (without(1, 'keypoints'), 'has no keypoints'),
    'other length': (set_(1, keypoints=[5, 5, 2] * 14), 'does not have 17 keypoints'),
    'NaN': (keypoint(1, 4, math.nan), 'no numbers'),
    'null': (keypoint(1, 4, None), 'no numbers'),
    'category': (set_(1, category_id=7), 'category that the file does not list'),
    'other image': (set_(1, image_id=999), 'of an image that the file does not list'),
    'no box': (without(1, 'bbox'), 'no box of four numbers'),
    'box of three': (set_(1, bbox=[1, 2, 3]), 'no box of four numbers'),
    'NaN in box': (set_(1, bbox=[1, 2, math.nan, 3]), 'no box of four numbers'),
    'flat box': (set_(1, bbox=[10, 10, 0, 50]), 'box without area inside its image'),
    'box outside': (set_(1, bbox=[5000, 10, 40, 50]), 'box without area inside its image'),
    'area': (set_(1, area=-1), 'area that is no size'),
    'large image': (widen, 'more than the 32766 pixels a side'),
}


@pytest.mark.parametrize('kind', BAD_PERSONS)
def test_a_bad_person_is_named_or_left_out(root, kind):
    change, words = BAD_PERSONS[kind]
    good = build(root)
    edit(root / TRAIN, change)
    name = json.loads((root / TRAIN).read_text())['annotations'][1]['id']
    with pytest.raises(DataError, match=words) as caught:
        build(root)
    text = str(caught.value)
    assert text.startswith(f"annotation {name} in '{root / TRAIN}'")
    assert '\n' not in text
    data = build(root, on_error='skip')
    assert len(data) == len(good) - 1
    assert name not in data.data_list.id
    assert data.skipped() == [text.split(': tools/')[0]]


def test_a_repeated_id_is_named_and_the_first_stays(root):
    good = build(root)

    def repeat(data):
        data['annotations'][1]['id'] = data['annotations'][0]['id']

    edit(root / TRAIN, repeat)
    with pytest.raises(DataError, match='has the id of an earlier annotation'):
        build(root)
    data = build(root, on_error='skip')
    assert len(data) == len(good) - 1
    assert data.get_data_info(0)['id'] == good.get_data_info(0)['id']


@pytest.mark.parametrize(('value', 'crowd'), [('0', 0), ('1', 1), (None, 0), (True, 1), (0.0, 0)])
def test_a_crowd_is_read_from_every_spelling(root, value, crowd):
    """Of which only some are persons: `bool('0')` is True."""
    good = build(root)
    edit(root / TRAIN, set_(1, iscrowd=value))
    assert len(build(root)) == len(good) - crowd


@pytest.mark.parametrize('change', [without(1, 'keypoints'), set_(1, keypoints=[])])
def test_a_crowd_needs_no_keypoints(root, change):
    good = build(root)
    edit(root / TRAIN, set_(1, iscrowd=1))
    edit(root / TRAIN, change)
    assert len(build(root)) == len(good) - 1


def test_a_crowd_of_no_number_is_a_line(root):
    edit(root / TRAIN, set_(1, iscrowd='no'))
    with pytest.raises(DataError, match=r"train2017\.json' is not in COCO's keypoint format.*'no'"):
        build(root)


def test_crowds_and_persons_without_labels_may_have_any_box(root):
    """They are no samples; COCO has such."""
    good = build(root)

    def add(data):
        ann = data['annotations'][0]
        none = dict(keypoints=[0] * 51, num_keypoints=0, bbox=[0, 0, 0, 0])
        data['annotations'] += [
            {**ann, **none, 'id': 10**8},
            {**ann, 'id': 10**8 + 1, 'iscrowd': 1},
        ]

    edit(root / TRAIN, add)
    assert len(build(root)) == len(good)


BAD_BOXES = {
    'other image': (dict(image_id=31), 'of an image that'),
    'NaN': (dict(bbox=[1, 2, math.nan, 4]), 'no box of four numbers and a score'),
    'no score': (dict(score=None), 'no box of four numbers and a score'),
    'flat': (dict(bbox=[1, 2, 0, 4]), 'has a box without area'),
}


@pytest.mark.parametrize('kind', BAD_BOXES)
def test_a_bad_detection_is_named_or_left_out(root, kind):
    values, words = BAD_BOXES[kind]
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True, bbox_file=BOXES)
    good = build(root, **val)
    edit(root / BOXES, lambda data: data[2].update(values))
    with pytest.raises(DataError, match=words) as caught:
        build(root, **val)
    assert str(caught.value).startswith('detection 2 (of image')
    assert str(root / BOXES) in str(caught.value)
    data = build(root, on_error='skip', **val)
    assert len(data) == len(good) - 1
    # The others keep their ids, by which predictions are told apart.
    assert data.data_list.id.tolist() == [0, 1, *range(3, len(good))]
    assert len(data.skipped()) == 1


def test_boxes_below_a_threshold_are_counted(root):
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True, bbox_file=BOXES)
    scores = np.array([box['score'] for box in json.loads((root / BOXES).read_text())])
    threshold = float(np.median(scores))
    data = build(root, filter_cfg=dict(bbox_score_thr=threshold), **val)
    boxes = data.metainfo['boxes']
    assert boxes['count'] == len(data) == (scores >= np.float32(threshold)).sum()
    assert boxes['below_threshold'] == len(scores) - len(data) > 0
    with pytest.raises(DataError, match='no box in'):
        build(root, filter_cfg=dict(bbox_score_thr=2), **val)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpose')


PIPELINE = [dict(type='hrformer_mmpose.LoadImage')]


def break_image(root, data, index: int) -> str:
    path = data.data_list.img_path(index)
    with open(path, 'rb') as file:
        content = file.read()
    with open(path, 'wb') as file:
        file.write(content[: len(content) // 2])
    return path


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_broken_image_in_a_test_is_replaced_counted_and_named(root, num_workers):
    from torch.utils.data import DataLoader

    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True)
    data = build(root, on_error='skip', pipeline=PIPELINE, **val)
    path = break_image(root, data, 0)
    lost = int((data.data_list.file_name == data.data_list.file_name[0]).sum())
    loader = DataLoader(data, batch_size=2, num_workers=num_workers, collate_fn=list)
    ids = [sample['id'] for batch in loader for sample in batch]
    assert len(ids) == len(data)
    assert set(ids) == set(data.data_list.id[lost:].tolist())
    (line,) = data.skipped()
    assert path.split('/')[-1] in line
    assert f'({lost} sample' in line


def test_a_broken_image_in_training_is_replaced_by_another(root):
    data = build(root, on_error='skip', pipeline=PIPELINE)
    path = break_image(root, data, 0)
    sample = data[0]
    assert sample['img_path'] != path
    assert len(data.skipped()) == 1
    strict = build(root, pipeline=PIPELINE)
    with pytest.raises(DataError, match='cut short') as caught:
        strict[0]
    assert path in str(caught.value)


def test_no_image_can_be_read(root):
    val = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), test_mode=True)
    data = build(root, on_error='skip', pipeline=PIPELINE, **val)
    for index in range(len(data)):
        break_image(root, data, index)
    with pytest.raises(DataError, match='no image of'):
        data[0]


def test_wrong_arguments_are_named(root):
    with pytest.raises(ConfigError, match="on_error='ignore'"):
        build(root, on_error='ignore')
    with pytest.raises(ConfigError, match="data_mode='bottomup'"):
        build(root, data_mode='bottomup')
