"""Bad annotations: each is one line, or is repaired with a line that says so."""

import copy
import shutil

import cv2
import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.owndata import category, readers
from hrformer_mmpose.owndata.image_files import ImageFolder
from hrformer_mmpose.owndata.repair import KeypointSet, repair
from tests.owndata import writers


@pytest.fixture
def load(drawn, tmp_path):
    """Spoil a copy of the file by a function, read it and repair it."""
    content, folder = drawn
    content = copy.deepcopy(content)
    # All points labelled and inside, so that repairs are compared with these numbers.
    content['annotations'] = [a for a in content['annotations'] if a['num_keypoints'] == 5]
    assert len(content['annotations']) > 5

    def load(spoil=lambda content: None, images=folder, name=None, keypoints=()) -> KeypointSet:
        spoiled = copy.deepcopy(content)
        spoil(spoiled)
        source = readers.read(str(writers.coco(spoiled, tmp_path)), None)
        return repair(source, category.choose(source, name, keypoints), ImageFolder(str(images)))

    load.content = content
    load.folder = folder
    return load


def keypoints(labels: KeypointSet) -> np.ndarray:
    return np.array([a['keypoints'] for a in labels.annotations]).reshape(-1, 5, 3)


def notes(labels: KeypointSet) -> str:
    assert not any('\n' in note for note in labels.notes)
    return '\n'.join(labels.notes)


def refused(load, words: str, spoil, **kwargs) -> None:
    with pytest.raises((DataError, ConfigError)) as caught:
        load(spoil, **kwargs)
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def of_category(**values):
    return lambda content: content['categories'][0].update(values)


def test_good_data_are_unchanged(load):
    labels = load()
    assert notes(labels) == ''
    for ours, given in zip(labels.annotations, load.content['annotations'], strict=True):
        assert ours['keypoints'] == pytest.approx(given['keypoints'], abs=1e-3)
        assert ours['bbox'] == pytest.approx(given['bbox'], abs=1e-3)
        assert ours['area'] == pytest.approx(given['area'], abs=1e-3)
        assert [ours[key] for key in ('id', 'image_id', 'num_keypoints')] == [
            given[key] for key in ('id', 'image_id', 'num_keypoints')
        ]


@pytest.mark.parametrize(('value', 'crowd'), [('0', 0), ('1', 1), (None, 0), (True, 1)])
def test_a_crowd_is_read_from_every_spelling(load, value, crowd):
    labels = load(lambda content: content['annotations'][0].update(iscrowd=value))
    assert labels.annotations[0]['iscrowd'] == crowd


def test_a_crowd_of_no_number_is_a_line(load):
    def spoil(content):
        content['annotations'][1]['iscrowd'] = 'no'

    refused(load, "annotations[1] has the iscrowd 'no'", spoil)


# Counts of keypoints


def test_one_person_with_another_count_is_left_out(load):
    def spoil(content):
        content['annotations'][0].update(keypoints=[1, 2, 2] * 4, id=777)

    labels = load(spoil)
    assert 'another number of keypoints than the 5' in notes(labels)
    assert '777' in notes(labels)
    assert len(labels.annotations) == len(load.content['annotations']) - 1


def test_all_persons_with_another_count(load):
    names = ['a', 'b', 'c', 'd']
    refused(load, 'names 4 keypoints (12 numbers', of_category(keypoints=names, skeleton=[]))


def test_nested_points_are_read(load):
    def spoil(content):
        for a in content['annotations']:
            a['keypoints'] = np.reshape(a['keypoints'], (5, 3)).tolist()

    np.testing.assert_allclose(keypoints(load(spoil)), keypoints(load()))


# Visibility


def test_no_visibility(load):
    def spoil(content):
        for a in content['annotations']:
            rows = np.reshape(a['keypoints'], (5, 3))
            rows[1] = 0
            a['keypoints'] = rows[:, :2].ravel().tolist()

    labels = load(spoil)
    assert 'without visibility' in notes(labels)
    assert (keypoints(labels)[..., 2] == [2, 0, 2, 2, 2]).all()


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (1, '0 or 1 only'),
        (True, 'true or false'),
        (0.87, 'other than 0, 1 and 2'),
        (3, 'other than 0, 1 and 2'),
    ],
)
def test_visibility_of_other_tools(load, value, words):
    """The second keypoint is not labelled; some tools write its place all the same."""

    def spoil(content):
        for a in content['annotations']:
            a['keypoints'][2::3] = [value, False if value is True else 0, value, value, value]

    labels = load(spoil)
    assert words in notes(labels)
    assert (keypoints(labels)[..., 2] == [2, 0, 2, 2, 2]).all()
    assert (keypoints(labels)[:, 1] == 0).all()
    assert {a['num_keypoints'] for a in labels.annotations} == {4}


def test_cocos_hidden_keypoints_stay_hidden(load):
    def spoil(content):
        content['annotations'][0]['keypoints'][2] = 1

    labels = load(spoil)
    assert keypoints(labels)[0, 0, 2] == 1
    assert notes(labels) == ''


@pytest.mark.parametrize('value', [None, 'x', float('nan')])
def test_points_that_are_no_numbers(load, value):
    def spoil(content):
        content['annotations'][0]['keypoints'][3] = value

    labels = load(spoil)
    assert '1 labelled point without numbers' in notes(labels)
    assert keypoints(labels)[0, 1].tolist() == [0, 0, 0]


# Coordinates and boxes


def test_normalised_coordinates(load):
    def spoil(content):
        sizes = {i['id']: (i['width'], i['height']) for i in content['images']}
        for a in content['annotations']:
            w, h = sizes[a['image_id']]
            a['keypoints'] = (np.reshape(a['keypoints'], (5, 3)) / [w, h, 1]).ravel().tolist()
            a['bbox'] = (np.array(a['bbox']) / [w, h, w, h]).tolist()
            a.pop('area')

    labels = load(spoil)
    assert 'points lie between 0 and 1' in notes(labels)
    assert 'boxes lie between 0 and 1' in notes(labels)
    np.testing.assert_allclose(keypoints(labels), keypoints(load()), atol=2e-3)
    for ours, good in zip(labels.annotations, load().annotations, strict=True):
        np.testing.assert_allclose(ours['bbox'], good['bbox'], atol=2e-3)
        assert ours['area'] == pytest.approx(0.53 * good['bbox'][2] * good['bbox'][3], rel=1e-3)


@pytest.mark.parametrize('bbox', [None, [1, 2, 3], [5, 5, 0, 10], [5, 5, float('nan'), 10], 'x'])
def test_boxes_that_are_none(load, bbox):
    labels = load(lambda content: content['annotations'][0].update(bbox=bbox))
    assert '1 person with' in notes(labels)
    x, y, w, h = labels.annotations[0]['bbox']
    points = keypoints(labels)[0, :, :2]
    assert ((points >= (x, y)) & (points <= (x + w, y + h))).all()
    good = load().annotations[0]['bbox']
    assert 0.3 < w * h / (good[2] * good[3]) < 3


def test_boxes_of_two_corners(load):
    def spoil(content):
        for a in content['annotations']:
            x, y, w, h = a['bbox']
            a['bbox'] = [x, y, x + w, y + h]

    labels = load(spoil)
    assert 'boxes are two corners' in notes(labels)
    for ours, good in zip(labels.annotations, load().annotations, strict=True):
        assert ours['bbox'] == pytest.approx(good['bbox'], abs=2e-3)


def test_a_single_point_without_box_gets_a_box_with_area(load):
    def spoil(content):
        content['annotations'][0].update(bbox=None, keypoints=[0, 0, 2] + [0] * 12)
        content['annotations'][0]['keypoints'][:2] = [100, 90]

    x, y, w, h = load(spoil).annotations[0]['bbox']
    assert x < 100 < x + w
    assert y < 90 < y + h
    assert min(w, h) > 5


def test_neither_points_nor_box(load):
    def spoil(content):
        content['annotations'][0].update(keypoints=[0] * 15, bbox=None)
        content['annotations'][1].update(keypoints=[0] * 15)

    labels = load(spoil)
    assert '1 annotation with neither labelled points nor a box' in notes(labels)
    assert len(labels.annotations) == len(load.content['annotations']) - 1
    assert len(labels.persons()) == len(labels.annotations) - 1


# Images


def test_images_in_other_folders_are_found(load, tmp_path):
    folder = tmp_path / 'пример с пробелом' / '写真'
    shutil.copytree(load.folder, folder)
    labels = load(images=folder.parents[0])
    assert 'not where the file says, but found' in notes(labels)
    assert all(image['file_name'].startswith('写真/') for image in labels.images)


def test_names_with_folders_spaces_and_other_scripts(load, tmp_path):
    root = tmp_path / 'images'
    names = {}
    for number, image in enumerate(load.content['images']):
        names[image['id']] = f'день {number}/фото № {number}, é 写真.jpg'
        target = root / names[image['id']]
        target.parent.mkdir(parents=True)
        shutil.copy(load.folder / image['file_name'], target)

    def spoil(content):
        for image in content['images']:
            image['file_name'] = names[image['id']].replace('/', '\\')

    labels = load(spoil, images=root)
    assert notes(labels) == ''
    assert {image['id']: image['file_name'] for image in labels.images} == names


def test_links_to_images_keep_their_names(load, tmp_path):
    root = tmp_path / 'images'
    root.mkdir()
    for image in load.content['images']:
        (root / image['file_name']).symlink_to(load.folder / image['file_name'])
    labels = load(images=root)
    assert {i['file_name'] for i in labels.images} <= {p.name for p in root.iterdir()}


def test_equal_names_in_different_folders(load, tmp_path):
    root = tmp_path / 'images'
    for number, image in enumerate(load.content['images']):
        (root / f'camera{number}').mkdir(parents=True)
        shutil.copy(load.folder / image['file_name'], root / f'camera{number}' / '0001.jpg')

    def spoil(content, prefix='elsewhere/'):
        for number, image in enumerate(content['images']):
            image['file_name'] = f'{prefix}camera{number}/0001.jpg'

    labels = load(spoil, images=root)
    assert [i['file_name'] for i in labels.images] == [
        f'camera{number}/0001.jpg' for number in range(len(labels.images))
    ]

    def ambiguous(content):
        spoil(content)
        content['images'][0]['file_name'] = '0001.jpg'

    assert '1 image not there' in notes(load(ambiguous, images=root))


def test_missing_broken_and_other_images(load, tmp_path):
    root = shutil.copytree(load.folder, tmp_path / 'images')
    with_persons = sorted({a['image_id'] for a in load.content['annotations']})
    files = {i['id']: root / i['file_name'] for i in load.content['images']}
    missing, broken, small = (files[number] for number in with_persons[:3])
    missing.unlink()
    broken.write_bytes(b'no image')
    cv2.imwrite(str(small), cv2.imread(str(small))[::2, ::2])
    labels = load(images=root)
    for words in ('1 image not there', '1 image unreadable', '1 image of another size'):
        assert words in notes(labels)
    left = {a['image_id'] for a in labels.annotations}
    assert left == set(with_persons[3:])


def test_no_image_at_all(load, tmp_path):
    (tmp_path / 'empty').mkdir()
    refused(load, 'no image with persons is usable', lambda c: None, images=tmp_path / 'empty')
    refused(load, 'is not a folder', lambda c: None, images=tmp_path / 'nowhere')


def test_ids_that_are_no_numbers(load):
    def spoil(content):
        for image in content['images']:
            image['id'] = f'image-{image["id"]}'
        for a in content['annotations']:
            a['image_id'] = f'image-{a["image_id"]}'
            a['id'] = 5

    labels = load(spoil)
    assert 'ids of the images' in notes(labels)
    assert 'ids of the annotations' in notes(labels)
    assert len({a['id'] for a in labels.annotations}) == len(labels.annotations)
    np.testing.assert_allclose(keypoints(labels), keypoints(load()))


def test_an_image_listed_twice(load):
    labels = load(lambda content: content['images'].append(dict(content['images'][0])))
    assert '1 image listed twice' in notes(labels)
    assert len(labels.images) == len(load.content['images'])

    def other(content):
        content['images'][1]['id'] = content['images'][0]['id']

    refused(load, 'have the same id', other)


def test_annotations_of_unlisted_images(load):
    labels = load(lambda content: content['annotations'][0].update(image_id=424242))
    assert '1 annotation of images that the file does not list' in notes(labels)


# Categories, names and edges


def test_duplicate_and_empty_names(load):
    names = ['a', 'b', 'a', 'c', 'd']
    refused(load, "two keypoints 'a' (number 1 and 3)", of_category(keypoints=names))
    refused(load, 'keypoint 2 has no name', of_category(keypoints=['a', ' ', 'b', 'c', 'd']))
    labels = load(of_category(keypoints=names), keypoints=['a', 'b', 'a2', 'c', 'd'])
    assert labels.category.names == ('a', 'b', 'a2', 'c', 'd')


@pytest.mark.parametrize(
    ('skeleton', 'edges', 'words'),
    [
        ([[1, 2], [4, 5]], ((0, 1), (3, 4)), None),
        ([[0, 1], [3, 4]], ((0, 1), (3, 4)), 'from 0 instead of 1'),
        ([['Nose', 'L_Hand'], [4, 5]], ((0, 1), (3, 4)), None),
        ([[1, 2], [1, 9], [2, 2]], ((0, 1),), '2 skeleton edges naming no keypoint ([1, 9])'),
        ([[0, 1], [1, 5]], ((0, 4),), '1 skeleton edge naming no keypoint ([0, 1])'),
        ([[1, 2], [1], 'x', [1, None], ['Nose', 'Tail']], ((0, 1),), '4 skeleton edges'),
        ([[1, 2], [1, 2]], ((0, 1),), None),
        (None, (), None),
        ('none', (), None),
    ],
)
def test_edges(load, skeleton, edges, words):
    labels = load(of_category(skeleton=skeleton))
    assert labels.category.edges == edges
    assert words in notes(labels) if words else notes(labels) == ''


@pytest.mark.parametrize('value', [None, [], 'nose'])
def test_a_category_without_keypoints(load, value):
    spoil = of_category(keypoints=value, skeleton=None)
    refused(load, "category 'person' has no list 'keypoints'", spoil)
    names = ['a', 'b', 'c', 'd', 'e']
    assert load(spoil, keypoints=names).category.names == tuple(names)


def test_selected_and_ordered_keypoints(load):
    labels = load(keypoints=['R_Hand', 'Nose', 'L_Hand'])
    taken = np.array([a['keypoints'] for a in labels.annotations]).reshape(-1, 3, 3)
    np.testing.assert_allclose(taken, keypoints(load())[:, [2, 0, 1]])
    assert labels.category.edges == ((1, 2), (1, 0))
    refused(load, "'Tail' is not one of", lambda c: None, keypoints=['Tail', 'Nose'])


def many(content, count=3000):
    names = content['categories'][0]['keypoints']
    content['categories'] = [
        dict(id=k, name=f'species {k}', keypoints=names, skeleton=[]) for k in range(1, count)
    ]
    for number, a in enumerate(content['annotations']):
        a['category_id'] = 5 + number % 2


def test_several_categories(load):
    refused(load, "--category NAME: the file has 'species 5' (", many)
    labels = load(many, name='species 6')
    assert len(labels.annotations) == len(load.content['annotations']) // 2
    assert {a['category_id'] for a in labels.annotations} == {1}
    assert len(load(many, name='all').annotations) == len(load.content['annotations'])
    refused(load, 'no annotations of', many, name='species 77')

    def other(content):
        many(content)
        content['categories'][3]['keypoints'] = ['x']

    refused(load, 'different keypoints', other, name='all')


def test_thousands_of_categories_are_one_short_line(load):
    def used(content):
        many(content)
        content['annotations'] = [dict(a) for a in content['annotations'] * 1000]
        for number, a in enumerate(content['annotations']):
            a['category_id'] = 1 + number % 2900

    with pytest.raises(ConfigError) as caught:
        load(used)
    assert len(str(caught.value)) < 1500
    assert 'and 2880 more' in str(caught.value)
    with pytest.raises(ConfigError, match="the file has 'species 77' "):
        load(used, name='Species 77')
