"""The synthetic data set: what is drawn, what is annotated, what is written and kept."""

import errno
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from hrformer_mmpose.synthetic import dataset
from hrformer_mmpose.synthetic.annotating import annotate, draw_image
from hrformer_mmpose.synthetic.canvas import EAR, PART_BASE, Canvas, capsule
from hrformer_mmpose.synthetic.dataset import generate, main
from hrformer_mmpose.synthetic.painting import paint_person
from hrformer_mmpose.synthetic.people import KEYPOINTS, make_person

LEFT_SHOULDER, RIGHT_SHOULDER = KEYPOINTS.index('left_shoulder'), KEYPOINTS.index('right_shoulder')
PUPIL = (35, 25, 25)


def files(root):
    """Return {relative path: bytes} of everything under a folder."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def painted(seed, yaw, number=1, scale=200, size=(320, 320)):
    """Return a canvas with one person in its middle, and the person."""
    person = make_person(np.random.default_rng(seed), yaw)
    person.scale, person.offset = scale, (size[0] / 2 + 0.3, size[1] / 2 - 0.4)
    canvas = Canvas(np.full((size[1], size[0], 3), 128, np.uint8))
    paint_person(canvas, person, number)
    return canvas, person


def flags(annotation):
    return np.array(annotation['keypoints'][2::3])


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return generate(tmp_path_factory.mktemp('data') / 'set', 12, 6, seed=3, masks=True)


@pytest.fixture(scope='module')
def coco(root):
    return {s: COCO(root / f'annotations/person_keypoints_{s}2017.json') for s in ('train', 'val')}


def test_same_arguments_give_the_same_files(tmp_path):
    first = files(generate(tmp_path / 'a', 3, 2, seed=5))
    again = files(generate(tmp_path / 'b', 3, 2, seed=5))
    other = files(generate(tmp_path / 'c', 3, 2, seed=6))
    more = files(generate(tmp_path / 'd', 4, 2, seed=5))

    assert first == again
    pictures = [name for name in first if name.endswith('.jpg')]
    assert len(pictures) == 5
    assert all(first[name] != other[name] for name in pictures)
    # A picture does not depend on how many others there are.
    assert all(first[name] == more[name] for name in pictures)


def test_train_and_val_differ(root):
    train = sorted((root / 'train2017').iterdir())
    val = sorted((root / 'val2017').iterdir())
    assert len({path.read_bytes() for path in train + val}) == 18


def test_coco_reads_the_layout(root, coco):
    for split, count in (('train', 12), ('val', 6)):
        data = coco[split]
        assert len(data.imgs) == count
        assert data.cats[1]['keypoints'] == list(KEYPOINTS)
        assert {a['image_id'] for a in data.anns.values()} == set(data.imgs)
        for image in data.imgs.values():
            picture = cv2.imread(str(root / f'{split}2017' / image['file_name']))
            assert picture.shape == (image['height'], image['width'], 3)
            assert 1 <= len(data.imgToAnns[image['id']]) <= 4


def test_ids_are_unique_over_both_splits(coco):
    train, val = coco['train'], coco['val']
    assert len(set(train.imgs) | set(val.imgs)) == 12 + 6
    annotations = train.dataset['annotations'] + val.dataset['annotations']
    assert len(set(train.anns) | set(val.anns)) == len(annotations)


def test_key_points_lie_inside_and_are_counted(coco):
    seen = set()
    for data in coco.values():
        for annotation in data.anns.values():
            size = [data.imgs[annotation['image_id']][key] for key in ('width', 'height')]
            points = np.array(annotation['keypoints']).reshape(17, 3)
            marked = points[:, 2] > 0
            assert (points[marked, :2] >= 0).all()
            assert (points[marked, :2] <= np.array(size) - 1).all()
            assert (points[~marked] == 0).all()
            assert annotation['num_keypoints'] == marked.sum()
            assert (points[:, 2] == 2).sum() >= 5
            seen |= set(points[:, 2])
    assert seen == {0, 1, 2}


def test_area_polygons_and_box_match_the_silhouette(root, coco):
    for split, data in coco.items():
        for image_id, image in data.imgs.items():
            path = root / f'masks/{split}2017' / image['file_name'].replace('.jpg', '.png')
            mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            people = data.imgToAnns[image_id]
            assert set(np.unique(mask)) == {0, 1}
            assert mask.sum() == sum(a['area'] for a in people)
            union = coco_mask.merge([data.annToRLE(a) for a in people])
            assert (coco_mask.decode(union) != mask).mean() < 0.01
            for annotation in people:
                drawn = int(coco_mask.area(data.annToRLE(annotation)))
                assert drawn == pytest.approx(annotation['area'], rel=0.05)
                box = coco_mask.toBbox(data.annToRLE(annotation))
                assert np.abs(box - annotation['bbox']).max() <= 1


def test_annotation_equals_the_id_map():
    canvas, person = painted(1, 20)
    annotation = annotate(canvas.ids, person, 1)
    ys, xs = np.nonzero(canvas.ids // PART_BASE == 1)
    assert annotation['area'] == len(xs)
    width, height = np.ptp(xs) + 1, np.ptp(ys) + 1
    assert annotation['bbox'] == [xs.min(), ys.min(), width, height]


def test_eyes_are_drawn_where_they_are_annotated():
    misses = []
    for seed in range(12):
        canvas, person = painted(seed, 0, scale=280, size=(480, 480))
        pupils = (canvas.image == PUPIL).all(2).astype(np.uint8)
        _, _, _, centers = cv2.connectedComponentsWithStats(pupils)
        for eye in (1, 2):
            if flags(annotate(canvas.ids, person, 1))[eye] == 2:
                away = np.linalg.norm(centers[1:] - person.keypoints[eye], axis=1)
                misses.append(away.min())
    assert len(misses) >= 12
    # The median: a hand or the nose may cover a part of a pupil.
    assert np.median(misses) < 0.3


def test_seen_joints_belong_to_a_limb_of_their_own_side():
    checked = 0
    for seed in range(30):
        canvas, person = painted(seed, None)
        seen = flags(annotate(canvas.ids, person, 1)) == 2
        for k in np.nonzero(seen[3:])[0] + 3:
            x, y = np.rint(np.round(person.keypoints[k], 2)).astype(int)
            part = canvas.ids[y, x] % PART_BASE
            if part >= EAR:
                assert part % 2 == (k - 3) % 2
                checked += 1
    assert checked > 200


@pytest.mark.parametrize(('yaw', 'sign'), [(0, 1), (180, -1)])
def test_left_is_at_the_right_of_the_picture_in_front_view_only(yaw, sign):
    for seed in range(20):
        _, person = painted(seed, yaw)
        x = person.keypoints[:, 0]
        assert sign * (x[LEFT_SHOULDER] - x[RIGHT_SHOULDER]) > 5
        assert sign * (x[11] - x[12]) > 5


@pytest.mark.parametrize(('yaw', 'shown'), [(0, 2), (180, 1)])
def test_a_face_is_hidden_in_back_view(yaw, shown):
    values = np.array([flags(annotate(*painted_args(seed, yaw), 1))[:3] for seed in range(20)])
    assert (values == shown).mean() > 0.8
    if yaw == 180:
        assert (values == 1).all()


def painted_args(seed, yaw):
    canvas, person = painted(seed, yaw)
    return canvas.ids, person


def test_a_thing_in_front_hides_a_joint():
    canvas, person = painted(2, 10)
    before = annotate(canvas.ids, person, 1)
    knee = 13
    assert flags(before)[knee] == 2

    at = person.keypoints[knee]
    canvas.polygon(capsule(at, at, 5, 5), (0, 200, 0), owner=0)
    after = annotate(canvas.ids, person, 1)

    far = np.linalg.norm(person.keypoints - at, axis=1) > 8
    assert flags(after)[knee] == 1
    assert (flags(after) == flags(before))[far].all()
    assert after['keypoints'][3 * knee : 3 * knee + 2] == pytest.approx(at, abs=0.006)
    assert after['num_keypoints'] == before['num_keypoints']
    assert before['area'] - 130 < after['area'] < before['area']


def test_a_person_in_front_hides_joints():
    canvas, person = painted(2, 10)
    before = annotate(canvas.ids, person, 1)
    other = make_person(np.random.default_rng(4), 0)
    other.scale, other.offset = 200, tuple(person.keypoints[13] - (0, 40))
    paint_person(canvas, other, 2)

    covered = canvas.ids // PART_BASE == 2
    x, y = np.rint(person.keypoints).astype(int).T
    hidden = covered[y, x]
    after = annotate(canvas.ids, person, 1)
    assert hidden.any()
    assert (flags(after)[hidden] == 1).all()
    assert (flags(after)[~hidden] == flags(before)[~hidden]).all()


def test_a_joint_outside_the_picture_is_not_marked():
    canvas, person = painted(2, 10)
    person.offset = (person.offset[0], 319.2 - (person.keypoints[15, 1] - person.offset[1]))
    assert person.keypoints[15, 1] == pytest.approx(319.2)
    assert annotate(canvas.ids, person, 1)['keypoints'][45:48] == [0, 0, 0]


def test_draw_image_is_varied():
    rng = np.random.default_rng(0)
    drawn = [draw_image(rng, (200, 160))[:2] for _ in range(100)]
    people = [a for _, annotations in drawn for a in annotations]
    assert {len(annotations) for _, annotations in drawn} == {1, 2, 3, 4}
    assert len({image.shape for image, _ in drawn}) > 20
    assert all(image.dtype == np.uint8 for image, _ in drawn)
    assert not any({'id', 'image_id'} & set(a) for a in people)
    every = np.concatenate([flags(a) for a in people])
    assert (every == 2).mean() > 0.65
    assert 0.05 < (every == 1).mean() < 0.35
    assert 0.03 < np.mean([(flags(a) == 0).any() for a in people]) < 0.3


def test_detections_cover_the_people_and_hold_weak_false_ones(root, coco):
    path = root / 'person_detection_results/simulated_val2017_person.json'
    found = json.loads(path.read_text())
    assert len(coco['val'].loadRes(str(path)).anns) == len(found)
    assert all(0 < d['score'] < 1 and min(d['bbox']) >= 0 for d in found)
    matched = set()
    for annotation in coco['val'].anns.values():
        same = [i for i, d in enumerate(found) if d['image_id'] == annotation['image_id']]
        overlaps = coco_mask.iou([found[i]['bbox'] for i in same], [annotation['bbox']], [0])[:, 0]
        assert overlaps.max() > 0.7
        matched.add(same[int(overlaps.argmax())])
    false = [d['score'] for i, d in enumerate(found) if i not in matched]
    assert false
    assert max(false) < 0.5


def test_a_complete_data_set_is_kept(tmp_path):
    root = generate(tmp_path / 'set', 2, 1)
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert generate(root, 2, 1) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before
    assert [path.name for path in tmp_path.iterdir()] == ['set']


def test_another_data_set_is_replaced_only_by_force(tmp_path):
    root = generate(tmp_path / 'set', 2, 1, masks=True)
    (root / 'notes.txt').write_text('mine')
    before = files(root)
    with pytest.raises(ValueError, match='other parameters: pass force=True'):
        generate(root, 3, 1)
    assert files(root) == before

    generate(root, 3, 1, force=True)
    assert len(list((root / 'train2017').iterdir())) == 3
    assert not (root / 'masks').exists()
    assert (root / 'notes.txt').read_text() == 'mine'


def test_an_incomplete_data_set_is_not_taken_for_complete(tmp_path):
    root = generate(tmp_path / 'set', 2, 1)
    next((root / 'train2017').iterdir()).unlink()
    with pytest.raises(ValueError, match='incomplete'):
        generate(root, 2, 1)


def test_an_interrupted_replacement_can_be_repeated(tmp_path, monkeypatch):
    root, replace = generate(tmp_path / 'set', 2, 1), os.replace

    def interrupted(source, target):
        if Path(target).name == 'val2017':
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr('os.replace', interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(root, 3, 1, force=True)
    with pytest.raises(ValueError, match='incomplete: pass force=True'):
        generate(root, 3, 1)
    assert generate(root, 3, 1, force=True) == generate(root, 3, 1)


def test_the_folder_may_be_a_link_to_another_file_system(tmp_path, monkeypatch):
    far, root, replace = tmp_path / 'far', tmp_path / 'set', os.replace
    far.mkdir()
    root.symlink_to(far)

    def across(source, target):
        if not Path(source).resolve().is_relative_to(far):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, target)

    monkeypatch.setattr('os.replace', across)
    (root / f'{dataset._STAGE}killed').mkdir()  # by an earlier run
    generate(root, 2, 1)
    assert len(list((far / 'train2017').iterdir())) == 2


@pytest.mark.parametrize('force', [False, True])
def test_foreign_content_is_never_touched(tmp_path, force):
    (tmp_path / 'train2017').mkdir()
    (tmp_path / 'train2017' / 'real.jpg').write_bytes(b'real')
    with pytest.raises(ValueError, match='not a synthetic data set') as error:
        generate(tmp_path, 1, 1, force=force)
    assert str(tmp_path) in str(error.value)
    assert list(files(tmp_path).values()) == [b'real']


def test_a_failed_run_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr('hrformer_mmpose.synthetic.dataset._write_image', fail)
    with pytest.raises(OSError, match='disk full'):
        generate(tmp_path / 'set', 1, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_train=0), 'num_train'),
        (dict(num_val=-1), 'num_val'),
        (dict(seed=-1), 'seed'),
        (dict(num_train=1.5), 'num_train'),
        (dict(image_size=(20, 256)), 'image_size'),
        (dict(image_size=(320,)), 'image_size'),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(tmp_path / 'set', **arguments)
    assert list(tmp_path.iterdir()) == []


def test_command_line(tmp_path, capsys):
    root = tmp_path / 'set'
    arguments = [str(root), '--num-train', '2', '--num-val', '1', '--image-size', '200', '160']
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert '2 training and 1 validation images' in out
    assert str(root) in out.splitlines()[-1]
    assert 'drawn 3/3 images' in err
    image = json.loads((root / 'annotations/person_keypoints_val2017.json').read_text())['images'][
        0
    ]
    assert 170 < image['width'] < 230

    assert main([*arguments, '--seed', '1']) == 2
    err = capsys.readouterr().err
    assert '--force' in err
    assert err.count('\n') == 1
