"""Image loading: MMPose's pixels, and broken files named."""

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmpose.registry import TRANSFORMS

from hrformer_mmpose.datasets.transforms import is_cut_short
from hrformer_mmpose.errors import DataError


@pytest.fixture
def jpeg(tmp_path):
    path = tmp_path / 'image.jpg'
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    return path


def load(path):
    return TRANSFORMS.build(dict(type='hrformer_mmpose.LoadImage'))(dict(img_path=str(path)))


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
    assert not is_cut_short(whole)
    assert is_cut_short(whole[: len(whole) - 50])


@pytest.mark.parametrize('content', [b'', b'<html>not found</html>'])
def test_what_is_no_image_is_named(jpeg, content):
    jpeg.write_bytes(content)
    with pytest.raises(DataError, match=r"image\.jpg' is not an image"):
        load(jpeg)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jpg' cannot be read: No such file"):
        load(tmp_path / 'gone.jpg')
