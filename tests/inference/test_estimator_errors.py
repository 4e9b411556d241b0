"""Unusable images, boxes, settings and outputs of the network."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from hrformer_mmpose.errors import ConfigError, DataError, DeviceError
from hrformer_mmpose.inference.estimator import Estimator

from .helpers import ARRAYS, BOXES, WHERE, Brightest, readers, where


@pytest.mark.parametrize(
    ('image', 'line'),
    [
        (None, 'image 0 is a NoneType, not a path or a NumPy array'),
        (3, 'image 0 is a int'),
        (b'a.jpg', 'image 0 is a bytes'),
        (ARRAYS[0].astype(np.float32), 'image 0 holds float32 values'),
        (np.stack(ARRAYS[:2]), r'image 0 has the shape \(2, 120, 160, 3\)'),
        ('nowhere.jpg', r"image 'nowhere\.jpg' does not exist"),
    ],
)
def test_images_that_are_none(image, line):
    with pytest.raises(DataError, match=line):
        Estimator(Brightest())(image, 'whole-image')
    with pytest.raises(DataError, match=line.replace('image 0', 'image 1')):
        Estimator(Brightest())([ARRAYS[0], image], 'whole-image')


def test_a_tensor_is_one_image_that_is_no_array():
    with pytest.raises(DataError, match='image 0 is a Tensor, not a path or a NumPy array'):
        Estimator(Brightest())(torch.zeros(120, 160, 3, dtype=torch.uint8), BOXES[0])


def test_stream_wants_several_images():
    with pytest.raises(ConfigError, match='stream takes several images, not one str'):
        next(Estimator(Brightest()).stream('a.jpg', 'whole-image'))


@pytest.mark.parametrize(
    ('options', 'line'),
    [
        (dict(batch_size=0), 'batch_size=0: give 1 to 4096'),
        (dict(batch_size=10**9), 'batch_size=1000000000: give 1 to 4096'),
        (dict(batch_size=2.5), 'batch_size=2.5 is no whole number'),
        (dict(on_error='ignore'), "on_error='ignore' is not 'raise' or 'skip'"),
    ],
)
def test_settings_that_cannot_be_used(options, line):
    with pytest.raises(ConfigError, match=line):
        Estimator(Brightest(), **options)


def test_values_of_the_network_that_are_no_numbers(monkeypatch):
    network = Brightest()
    predicted = network.predict

    def predict(batch):
        keypoints, scores = predicted(batch)
        keypoints[1, 3, 0] = np.inf
        return keypoints, scores

    expected = Estimator(network)(ARRAYS[2], BOXES[2])
    monkeypatch.setattr(network, 'predict', predict)
    line = 'the network gives NaN or infinite values for 1 of 3 persons on image 0'
    with pytest.raises(DataError, match=line):
        Estimator(network)(ARRAYS[2], BOXES[2])
    (found,) = Estimator(network, on_error='skip').stream([ARRAYS[2]], [BOXES[2]])
    assert found.problems == [line]
    assert [pose.to_dict() for pose in found.poses] == [
        expected[0].to_dict(), expected[2].to_dict()
    ]  # fmt: skip


@pytest.mark.parametrize('batch_size', [1, 3, 64])
def test_skip_notes_what_cannot_be_used_and_goes_on(paths, batch_size, tmp_path):
    broken = tmp_path / 'broken.jpg'
    broken.write_bytes(cv2.imencode('.jpg', ARRAYS[0])[1].tobytes()[:-40])
    boxes = [
        BOXES[0],
        BOXES[1],
        np.concatenate([[[7, 7, 7, 7, 1]], BOXES[2], [[900, 0, 950, 9, 1]]]),
        BOXES[3],
        'nonsense',
        BOXES[5],
        BOXES[6],
    ]
    given = [*paths[:3], str(broken), ARRAYS[4], None, paths[6]]
    found = list(Estimator(Brightest(), batch_size, on_error='skip').stream(given, boxes))
    expected = [WHERE[0], [], WHERE[2], [], [], [], WHERE[6]]
    assert [where(one.poses) for one in found] == expected
    assert [one.failed for one in found] == [False] * 3 + [True, False, True, False]
    lines = {number: one.problems for number, one in enumerate(found) if one.problems}
    assert lines == {
        2: [
            f'box 0 of {paths[2]} has no area: 7, 7, 7, 7 (x0, y0, x1, y1)',
            f'box 4 of {paths[2]} lies outside the image of 192x128: 900, 0, 950, 9',
        ],
        3: [f"image '{broken}' is cut short: its end is missing ({broken.stat().st_size} bytes)"],
        4: ['the boxes of image 4 are not rows of x0, y0, x1, y1[, score]'],
        5: ['image 5 is a NoneType, not a path or a NumPy array'],
    }
    assert Estimator(Brightest(), on_error='skip')(broken, BOXES[0]) == []


@pytest.mark.parametrize('batch_size', [1, 2, 64])
@pytest.mark.parametrize('form', ['paths', 'arrays', 'mixed'])
@pytest.mark.parametrize('fault', ['image', 'box', 'generator', 'boxes', 'detector'])
def test_an_error_comes_after_the_images_before_it(paths, batch_size, form, fault):
    """So that what a caller has does not depend on the batches."""
    given = {
        'paths': paths,
        'arrays': ARRAYS,
        'mixed': [both[i % 2] for i, both in enumerate(zip(paths, ARRAYS, strict=True))],
    }[form][:]
    boxes, kind, detected = BOXES[:], DataError, itertools.count()
    if fault == 'image':
        given[3] = 'nowhere.jpg'
    elif fault == 'box':
        boxes[3] = [[5, 5, 5, 5]]
    else:
        kind = ZeroDivisionError

    def failing(rows):
        for number, row in enumerate(rows):
            yield row if number != 3 else 1 / 0

    def detector(image):
        number = next(detected)
        return BOXES[number] if number != 3 else 1 / 0

    images = failing(given) if fault == 'generator' else iter(given)
    boxes = dict(detector=detector, boxes=failing(boxes)).get(fault, boxes)
    found = []
    stream = Estimator(Brightest(), batch_size).stream(images, boxes)
    with pytest.raises(kind):
        found.extend(where(one.poses) for one in stream)
    assert found == WHERE[:3]
    assert readers() == []


def test_an_error_of_the_network_and_ctrl_c_come_at_once(paths):
    class Failing(Brightest):
        def predict(self, batch):
            raise RuntimeError('out of memory')

    with pytest.raises(RuntimeError, match='out of memory'):
        Estimator(Failing())(paths, BOXES)

    class Overflowing(Brightest):
        def predict(self, batch):
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')

    for batch_size, line in (
        (4, 'out of memory: a batch of 4 persons does not fit, halve batch_size: 2'),
        (1, 'out of memory: not even batch_size=1 fits: take a smaller network, or half precision'),
    ):
        with pytest.raises(DeviceError, match=f'^{line}$'):
            Estimator(Overflowing(), batch_size, on_error='skip')(paths, BOXES)

    def interrupted():
        yield ARRAYS[0]
        raise KeyboardInterrupt

    network = Brightest()
    with pytest.raises(KeyboardInterrupt):
        Estimator(network)(interrupted(), itertools.repeat(BOXES[0]))
    assert network.batches == []
    assert readers() == []


def test_a_detector_s_data_error_is_one_of_its_image():
    def detector(image):
        if image.shape == ARRAYS[2].shape:
            raise DataError('too wide')
        return BOXES[0]

    found = list(Estimator(Brightest(), on_error='skip').stream(ARRAYS[:3], detector))
    assert [one.problems for one in found] == [[], [], ['too wide']]
    with pytest.raises(DataError, match='too wide'):
        Estimator(Brightest())(ARRAYS[:3], detector)


@pytest.mark.parametrize(
    ('key', 'value', 'line'),
    [
        ('model', 'x', r'^model: AttributeError'),
        ('model.backbone', 'x', r'^model \(TopdownPoseEstimator\): TypeError'),
        ('model.backbone.drop_path_rate', 'x', r'^model\.backbone \(HRFormer\): TypeError'),
        ('model.head.decoder.type', 0.5, r'^model\.head\.decoder: TypeError'),
    ],
)
def test_a_config_that_cannot_be_built(key, value, line):
    pytest.importorskip('mmpose')
    from hrformer_mmpose.inference.torch_network import build
    from hrformer_mmpose.zoo import read_config

    cfg = read_config('hrformer_tiny_demo_112x84')
    cfg.merge_from_dict({key: value})
    with pytest.raises(ConfigError, match=line):
        build(cfg, 'demo')
