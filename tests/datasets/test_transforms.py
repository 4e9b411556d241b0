"""Image loading: MMPose's pixels, and broken files named."""

import copy

import cv2
import mmcv
import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.registry import init_default_scope
from mmpose.registry import TRANSFORMS

from hrformer_mmpose.datasets import transforms
from hrformer_mmpose.errors import DataError
from hrformer_mmpose.imaging.headers import conversion_note, is_truncated


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / 'image.jpg'
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    return path


def load(path, reduce_to=None, **results):
    step = TRANSFORMS.build(dict(type='hrformer_mmpose.LoadImage', reduce_to=reduce_to))
    return step(dict(img_path=str(path), **results))


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_the_same_result_as_mmposes(tmp_path, suffix):
    path = tmp_path / f'image{suffix}'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    expected = TRANSFORMS.build(dict(type='mmpose.LoadImage'))(dict(img_path=str(path)))
    result = load(path)
    assert result.keys() == expected.keys()
    assert np.array_equal(result['img'], expected['img'])
    assert result['ori_shape'] == expected['ori_shape'] == (40, 60)


def test_an_image_that_is_there_already_is_used():
    image = np.zeros((4, 5, 3), np.uint8)
    result = TRANSFORMS.build(dict(type='hrformer_mmpose.LoadImage'))(dict(img=image))
    assert result['img'] is image


@pytest.mark.parametrize('keep', [0.3, 0.6, 0.99])
def test_a_truncated_jpeg_is_named(jpeg, keep):
    data = jpeg.read_bytes()
    jpeg.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(DataError, match=r"image\.jpg' is cut short"):
        load(jpeg)


def test_an_embedded_preview_does_not_hide_the_cut(jpeg):
    data = jpeg.read_bytes()
    preview = b'\xff\xe1' + (2 + len(data)).to_bytes(2, 'big') + data
    whole = data[:2] + preview + data[2:]
    assert not is_truncated(whole)
    assert is_truncated(whole[: len(whole) - 50])


@pytest.mark.parametrize(
    ('content', 'words'), [(b'', 'is empty'), (b'<html>not found</html>', 'is not an image')]
)
def test_what_is_no_image_is_named(jpeg, content, words):
    jpeg.write_bytes(content)
    with pytest.raises(DataError, match=rf"image\.jpg' {words}"):
        load(jpeg)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg' cannot be read: No such file"):
        load(tmp_path / 'gone.jpg')


def run(scope: str, steps: list[dict], results: dict, seed: int = 0) -> dict:
    """Results after MMPose's pipeline, or the one with our loading and cropping."""
    init_default_scope('mmpose')
    ours = (
        {'LoadImage', 'RandomBBoxTransform', 'TopdownAffine'}
        if scope == 'hrformer_mmpose'
        else set()
    )
    types = []
    for step in steps:
        own = step['type'] in ours
        types.append({**step, 'type': f'{scope}.{step["type"]}'} if own else step)
    np.random.seed(seed)
    results = copy.deepcopy(results)
    for step in types:
        results = TRANSFORMS.build(step)(results)
    return results


def person(path, box) -> dict:
    """A person as the data set hands it out."""
    x0, y0, x1, y1 = box
    rng = np.random.default_rng(1)
    keypoints = rng.uniform((x0, y0), (x1, y1), (1, 17, 2)).astype(np.float32)
    return dict(
        img_path=str(path),
        bbox=np.array([box], np.float32),
        bbox_score=np.ones(1, np.float32),
        keypoints=keypoints,
        keypoints_visible=np.ones((1, 17), np.float32),
        flip_indices=[*range(17)],
        upper_body_ids=[*range(11)],
        lower_body_ids=[*range(11, 17)],
    )


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    """A smooth picture of an odd size, (333, 501), with noise."""
    path = tmp_path_factory.mktemp('photo') / 'photo.jpg'
    y, x = np.mgrid[:333, :501]
    smooth = 127 + 80 * np.stack([np.sin(x / 9), np.sin(y / 7), np.cos((x + y) / 11)], 2)
    noise = np.random.default_rng(0).normal(0, 8, smooth.shape)
    cv2.imwrite(str(path), (smooth + noise).clip(0, 255).astype(np.uint8))
    return path


BOXES = [
    (100, 80, 220, 300),  # inside
    (0, 0, 500, 332),  # all of it
    (-40, -30, 60, 90),  # over the upper left corner
    (450, 280, 560, 400),  # over the lower right corner
    (200, 100, 203, 104),  # tiny
    (600, 400, 650, 480),  # outside
]
TRAIN = [
    dict(type='LoadImage'),
    dict(type='GetBBoxCenterScale'),
    dict(type='RandomFlip', direction='horizontal', prob=0.5),
    dict(type='RandomHalfBody'),
    dict(type='RandomBBoxTransform'),
    dict(type='TopdownAffine', input_size=(48, 64)),
]


@pytest.mark.parametrize('use_udp', [False, True])
@pytest.mark.parametrize('box', BOXES)
def test_crops_are_mmposes_pixel_by_pixel(photo, box, use_udp):
    steps = [*TRAIN[:-1], {**TRAIN[-1], 'use_udp': use_udp}]
    flipped = 0
    for seed in range(20):
        ours, theirs = (
            run(scope, steps, person(photo, box), seed) for scope in ('hrformer_mmpose', 'mmpose')
        )
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert np.array_equal(ours[key], value), key
        flipped += bool(ours['flip'])
    assert 3 < flipped < 17


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_only_the_part_around_the_crop_is_copied(direction):
    """In any direction of the flip, the part equals the crop of the whole."""
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    flipped = mmcv.imflip(image, direction)
    assert not flipped.flags.c_contiguous
    for angle in (0, 30, 117):
        matrix = cv2.getRotationMatrix2D((50, 40), angle, 0.7)
        expected = cv2.warpAffine(np.ascontiguousarray(flipped), matrix, (32, 40))
        assert np.array_equal(transforms.warp(flipped, matrix, (32, 40)), expected)


def test_neighbouring_boxes_share_one_decoding(photo, tmp_path, monkeypatch):
    other = tmp_path / 'other.jpg'
    other.write_bytes(photo.read_bytes())
    decoded = []
    original = cv2.imdecode
    monkeypatch.setattr(cv2, 'imdecode', lambda *a, **k: decoded.append(1) or original(*a, **k))
    step = TRANSFORMS.build(dict(type='hrformer_mmpose.LoadImage'))
    images = [step(dict(img_path=str(path)))['img'] for path in [photo, photo, photo, other, photo]]
    assert len(decoded) == 3
    assert images[0] is images[2]
    with pytest.raises(ValueError, match='read-only'):
        images[0][0, 0] = 0


FORMS = {
    'grey.png': np.full((20, 30), 77, np.uint8),
    'sixteen.png': np.full((20, 30, 3), 40_000, np.uint16),
    'alpha.png': np.full((20, 30, 4), 60, np.uint8),
}


@pytest.mark.parametrize('name', FORMS)
def test_unusual_forms_are_read_as_mmpose_reads_them(tmp_path, name):
    path = tmp_path / name
    cv2.imwrite(str(path), FORMS[name])
    expected = TRANSFORMS.build(dict(type='mmpose.LoadImage'))(dict(img_path=str(path)))
    assert np.array_equal(load(path)['img'], expected['img'])
    assert load(path)['img'].shape == (20, 30, 3)
    assert conversion_note(path.read_bytes()).split()[1] in ('grey:', '16', 'an')


def test_an_exif_orientation_is_applied(photo, tmp_path):
    data = photo.read_bytes()
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    turned = tmp_path / 'turned.jpg'
    turned.write_bytes(
        data[:2] + b'\xff\xe1' + (2 + len(exif)).to_bytes(2, 'big') + exif + data[2:]
    )
    expected = TRANSFORMS.build(dict(type='mmpose.LoadImage'))(dict(img_path=str(turned)))
    result = load(turned)
    assert result['img_shape'] == expected['img_shape'] == (501, 333)
    assert np.array_equal(result['img'], expected['img'])
    reduced = load(turned, reduce_to=(24, 32), bbox=np.array([[0, 0, 300, 400]]))
    assert reduced['img_shape'] == (501, 333)
    assert reduced['img'].shape[0] > reduced['img'].shape[1]


@pytest.mark.parametrize(
    ('box', 'reduction'),
    [((100, 80, 130, 120), 1), ((100, 80, 180, 190), 2), ((100, 50, 250, 260), 4),
     ((0, 0, 500, 332), 8)],
)  # fmt: skip
@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_reduced_decoding_shows_the_same_crop(tmp_path, box, reduction, flip):
    """Away from what the smaller scale cannot show, the crop differs by rounding only."""
    path = tmp_path / 'soft.jpg'
    y, x = np.mgrid[:333, :501]
    soft = 127 + 80 * np.stack([np.sin(x / 60), np.sin(y / 50), np.cos((x + y) / 70)], 2)
    cv2.imwrite(str(path), soft.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    crop = dict(type='TopdownAffine', input_size=(48, 64))
    steps = [
        dict(type='LoadImage'),
        dict(type='GetBBoxCenterScale'),
        dict(type='RandomFlip', direction='horizontal', prob=flip),
        crop,
    ]
    reduced = [{**steps[0], 'reduce_to': (48, 64)}, *steps[1:]]
    whole = run('hrformer_mmpose', steps, person(path, box))
    less = run('hrformer_mmpose', reduced, person(path, box))
    assert less.get('img_reduction', 1) == reduction
    assert less['img_shape'] == whole['img_shape'] == (333, 501)
    assert np.array_equal(less['transformed_keypoints'], whole['transformed_keypoints'])
    inside = whole['img'].min(2) > 20  # the border of the image is mixed with black
    difference = np.abs(less['img'].astype(float) - whole['img'])[inside]
    assert inside.mean() > 0.2
    # Half a pixel of the reduced image off would differ by 2 to 8 on average.
    assert difference.mean() < 1.0


def test_the_reduction_is_that_of_each_box(photo):
    step = TRANSFORMS.build(dict(type='hrformer_mmpose.LoadImage', reduce_to=(48, 64)))
    people = [person(photo, BOXES[i]) for i in (1, 4, 1)]
    results = [step(someone) for someone in people]
    assert [r.get('img_reduction', 1) for r in results] == [8, 1, 8]
    assert [r['img'].shape[0] for r in results] == [42, 333, 42]


def test_a_truncated_jpeg_is_named_in_reduced_decoding(photo, tmp_path, monkeypatch):
    """Also with an OpenCV that fills the missing part."""
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((42, 63, 3), np.uint8))
    path, data = tmp_path / 'part.jpg', photo.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"part\.jpg' is cut short"):
        load(path, reduce_to=(48, 64), bbox=np.array([BOXES[1]]))
