"""Exports of LabelMe, CVAT, Label Studio and YOLO-pose give the annotations of the COCO file."""

import json

import numpy as np
import pytest

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.owndata import category, readers
from hrformer_mmpose.owndata.image_files import ImageFolder
from hrformer_mmpose.owndata.repair import repair
from tests.owndata import writers

NAMES = ['Nose', 'L_Hand', 'R_Hand', 'L_Foot', 'R_Foot']
TOLERANCE = 0.1  # pixels


def labels_of(path, images, name='person', keypoints=NAMES):
    source = readers.read(str(path), str(images))
    return repair(source, category.choose(source, name, keypoints), ImageFolder(str(images)))


def persons_of(labels) -> list[tuple]:
    """Image, box and keypoints, in an order that no tool changes."""
    names = {image['id']: image['file_name'].rpartition('/')[2] for image in labels.images}
    persons = [
        (names[a['image_id']], np.array(a['bbox']), np.reshape(a['keypoints'], (-1, 3)))
        for a in labels.annotations
    ]
    return sorted(persons, key=lambda person: (person[0], *person[1].round()))


def assert_same(labels, expected, with_hidden: bool = True):
    assert [image['file_name'].rpartition('/')[2] for image in labels.images]
    ours, theirs = persons_of(labels), persons_of(expected)
    assert len(ours) == len(theirs) == 3
    for (image, box, keypoints), (image2, box2, keypoints2) in zip(ours, theirs, strict=True):
        assert image == image2
        np.testing.assert_allclose(box, box2, atol=TOLERANCE)
        np.testing.assert_allclose(keypoints[:, :2], keypoints2[:, :2], atol=TOLERANCE)
        v, v2 = keypoints[:, 2], keypoints2[:, 2]
        np.testing.assert_array_equal(v if with_hidden else v > 0, v2 if with_hidden else v2 > 0)


@pytest.fixture
def expected(three_persons, tmp_path):
    content, images = three_persons
    labels = labels_of(writers.coco(content, tmp_path), images)
    for (_, _, ours), annotation in zip(
        persons_of(labels),
        sorted(content['annotations'], key=lambda a: (_name(content, a), *np.round(a['bbox']))),
        strict=True,
    ):
        np.testing.assert_allclose(ours.ravel(), annotation['keypoints'], atol=1e-3)
    assert any(1 in a['keypoints'][2::3] for a in content['annotations']), 'one is hidden'
    return labels


def _name(content, annotation) -> str:
    return next(i['file_name'] for i in content['images'] if i['id'] == annotation['image_id'])


def test_labelme(three_persons, expected, tmp_path):
    content, images = three_persons
    folder = writers.labelme(content, tmp_path)
    (folder / 'odd.json').mkdir()  # no file
    labels = labels_of(folder, images)
    assert_same(labels, expected)
    assert not labels.notes or all('area' in note for note in labels.notes)


@pytest.mark.parametrize('tool', ['coco', 'labelme', 'yolo'])
def test_files_may_begin_with_a_byte_order_mark(three_persons, expected, tmp_path, tool):
    content, images = three_persons
    extra = (images,) if tool == 'yolo' else ()
    path = getattr(writers, tool)(content, tmp_path, *extra)
    folder = {'coco': path, 'labelme': path, 'yolo': path.parent / 'labels'}[tool]
    for file in [folder] if folder.is_file() else folder.rglob('*.*'):
        file.write_text(file.read_text(), encoding='utf-8-sig')
    assert len(labels_of(path, images).annotations) == len(expected.annotations)


def test_labelme_without_groups_goes_by_boxes(three_persons, expected, tmp_path):
    content, images = three_persons
    folder = writers.labelme(content, tmp_path)
    for file in folder.iterdir():
        document = json.loads(file.read_text())
        for shape in document['shapes']:
            shape['group_id'] = None
        file.write_text(json.dumps(document))
    assert_same(labels_of(folder, images), expected)


def test_labelme_boxes_without_groups(three_persons, expected, tmp_path):
    """The points have group ids, the boxes have none."""
    content, images = three_persons
    folder = writers.labelme(content, tmp_path)
    for file in folder.iterdir():
        document = json.loads(file.read_text())
        for shape in document['shapes']:
            if shape['shape_type'] == 'rectangle':
                shape['group_id'] = None
        file.write_text(json.dumps(document))
    assert_same(labels_of(folder, images), expected)


@pytest.mark.parametrize('kind', ['skeleton', 'points'])
def test_cvat(three_persons, expected, tmp_path, kind):
    content, images = three_persons
    labels = labels_of(writers.cvat(content, tmp_path, kind), images)
    assert_same(labels, expected)
    assert labels.category.edges == (expected.category.edges if kind == 'skeleton' else ())


def test_cvat_skeletons_find_the_boxes_around_them(three_persons, expected, tmp_path):
    content, images = three_persons
    path = writers.cvat(content, tmp_path)
    text = path.read_text()
    for group in (1, 2):
        text = text.replace(f' group_id="{group}"', '')
    path.write_text(text)
    assert_same(labels_of(path, images), expected)


def test_label_studio(three_persons, expected, tmp_path):
    content, images = three_persons
    path = writers.label_studio(content, tmp_path)
    assert_same(labels_of(path, images), expected, with_hidden=False)
    tasks = json.loads(path.read_text())
    region = next(r for r in tasks[0]['annotations'][0]['result'] if r['type'] == 'keypointlabels')
    tasks[0]['annotations'][0]['result'].append(region | dict(id='x', value=dict(x=1, y=1)))
    path.write_text(json.dumps(tasks))
    labels = labels_of(path, images)
    assert '1 region without a label: not read' in labels.notes
    assert_same(labels, expected, with_hidden=False)


@pytest.mark.parametrize('way', ['relation', 'containment'])
def test_label_studio_without_parents(three_persons, expected, tmp_path, way):
    content, images = three_persons
    path = writers.label_studio(content, tmp_path)
    tasks = json.loads(path.read_text())
    for task in tasks:
        result = task['annotations'][0]['result']
        for region in list(result):
            parent = region.pop('parentID', None)
            if parent and way == 'relation':
                pair = dict(from_id=parent, to_id=region['id'])
                result.append(dict(pair, type='relation', direction='right'))
    path.write_text(json.dumps(tasks))
    assert_same(labels_of(path, images), expected, with_hidden=False)


def test_label_studio_turned_box(three_persons, tmp_path):
    """A box of 200 x 100 at (300, 100), turned by 90 degrees, covers x 200-300 and y 100-300."""
    content, images = three_persons
    image = content['images'][0]
    size = image['width'], image['height']
    common = dict(original_width=size[0], original_height=size[1], to_name='image')
    value = dict(
        x=30000 / size[0], y=10000 / size[1], width=20000 / size[0], height=10000 / size[1],
        rotation=90, rectanglelabels=['person'],
    )  # fmt: skip
    point = dict(x=25000 / size[0], y=15000 / size[1], width=0.5, keypointlabels=['Nose'])
    result = [
        dict(common, id='a', type='rectanglelabels', value=value),
        dict(common, id='b', type='keypointlabels', value=point),
    ]
    task = dict(data=dict(image=f'/data/local-files/?d=x%2F{image["file_name"]}'))
    (tmp_path / 'turned.json').write_text(
        json.dumps([dict(task, annotations=[dict(result=result)])])
    )
    labels = labels_of(tmp_path / 'turned.json', images, keypoints=())
    np.testing.assert_allclose(labels.annotations[0]['bbox'], [200, 100, 100, 200], atol=TOLERANCE)
    assert labels.images[0]['file_name'] == image['file_name']


def test_yolo_pose(three_persons, expected, tmp_path):
    content, images = three_persons
    path = writers.yolo(content, tmp_path, images, flips=[0, 2, 1, 4, 3])
    labels = labels_of(path, path.parent)
    assert_same(labels, expected)
    assert labels.category.flip_indices == (0, 2, 1, 4, 3)


def test_yolo_pose_without_visibility_and_with_lists(three_persons, expected, tmp_path):
    """kpt_shape [5, 2], and train.txt as CVAT exports it."""
    content, images = three_persons
    path = writers.yolo(content, tmp_path, images)
    root = path.parent
    path.write_text(
        path.read_text()
        .replace('[5, 3]', '[5, 2]')
        .replace('train: images/train', 'train: train.txt')
    )
    names = sorted(file.name for file in (root / 'images/train').iterdir())
    (root / 'train.txt').write_text(''.join(f'images/train/{name}\n' for name in names))
    for file in (root / 'labels/train').iterdir():
        rows = [line.split() for line in file.read_text().splitlines()]
        rows = [row[:5] + [v for k, v in enumerate(row[5:]) if k % 3 != 2] for row in rows]
        file.write_text('\n'.join(' '.join(row) for row in rows))
    assert_same(labels_of(path, root), expected, with_hidden=False)


def test_yolo_pose_of_coco_takes_its_names(three_persons, tmp_path):
    from hrformer_mmpose.imaging.skeleton import COCO

    content, images = three_persons
    path = writers.yolo(content, tmp_path, images)
    flips = list(COCO.flip_indices)
    text = path.read_text().partition('kpt_names')[0].replace('[5, 3]', '[17, 3]')
    path.write_text(text + f'flip_idx: {flips}\n')
    source = readers.read(str(path), str(path.parent))
    assert tuple(source.categories[0]['keypoints']) == COCO.names


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('a.json', '{"images": [', 'is not JSON'),
        ('a.json', '[]', 'is none of'),
        ('a.json', '{"shapes": [], "imagePath": "x.jpg", "imageData": null}', 'no labelled points'),
        ('a.json', '[{"image": "x.jpg", "kp": []}]', "export as 'JSON'"),
        ('a.json', '[{"image_id": 1, "keypoints": [], "score": 1}]', 'results of a network'),
        ('a.json', '{"images": [], "annotations": [], "categories": []}', "'images' is empty"),
        ('a.json', '{"images": 1, "annotations": [], "categories": []}', 'no list of objects'),
        ('a.xml', '<annotations', 'is not XML'),
        ('a.xml', '<annotation/>', 'root is <annotation>'),
        ('a.xml', '<annotations><track/></annotations>', 'CVAT for images 1.1'),
        ('a.xml', '<annotations><image name="x"/></annotations>', 'CVAT for images 1.1'),
        ('a.yaml', 'names: [person]', 'no kpt_shape'),
        ('a.yaml', 'kpt_shape: [5, 4]', 'kpt_shape'),
        ('a.yaml', 'kpt_shape: [2, 3]\nflip_idx: [0, 0]', 'flip_idx'),
        ('a.yaml', 'kpt_shape: [2, 3]\ntrain: nowhere', "'nowhere'"),
        ('a.zip', 'PK', 'unpack'),
        ('a.csv', 'x,y', 'is none of'),
    ],
)
def test_files_of_no_format(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        readers.read(str(tmp_path / name), str(tmp_path))
    assert '\n' not in str(caught.value)


def test_two_points_of_a_name_in_one_person(three_persons, tmp_path):
    content, _ = three_persons
    folder = writers.labelme(content, tmp_path)
    file = next(file for file in folder.iterdir() if file.read_text().count('"Nose"'))
    document = json.loads(file.read_text())
    document['shapes'] += [s for s in document['shapes'] if s['label'] == 'Nose']
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match="two points 'Nose' of one person"):
        readers.read(str(folder))


def test_a_missing_file():
    with pytest.raises(DataError, match='do not exist'):
        readers.read('nowhere.json')
