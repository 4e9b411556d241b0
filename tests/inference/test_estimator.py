"""Whatever comes in, in whatever batches: the same poses, in order, with little held in memory.

The network of these tests finds the brightest pixel of a crop, so that the answer is known.
"""

import gc
import itertools
import sys
import threading
import time
import types
import weakref
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.imaging.skeleton import COCO
from hrformer_mmpose.inference import estimator as module
from hrformer_mmpose.inference.estimator import Estimator, PoseRuntime

SPREAD = 0.25  # pixels of the input between one keypoint and the next


class Brightest:
    """All keypoints at the brightest pixel of the crop, in a row; its value / 255 is the score."""

    input_size = (48, 64)
    padding = 1.25
    udp = False
    skeleton = COCO

    def __init__(self):
        self.batches: list[int] = []

    def predict(self, batch):
        assert batch.dtype == np.uint8
        assert batch.shape[1:] == (64, 48, 3)
        self.batches.append(len(batch))
        grey = batch.max(3).reshape(len(batch), -1)
        y, x = np.divmod(grey.argmax(1), 48)
        keypoints = np.stack([x, y], 1)[:, None] + SPREAD * np.arange(17)[None, :, None]
        scores = np.repeat(grey.max(1, keepdims=True) / 255, 17, 1)
        return keypoints.astype(np.float32), scores.astype(np.float32)


# A box of 38.4 x 51.2 becomes, padded, the input's 48 x 64: pixels are those of the image.
HALF = np.array([19.2, 25.6])


def scene(*persons: tuple[int, int], size=(120, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Black with one bright pixel for each person, off the middle of its box; and the boxes."""
    image = np.zeros((*size, 3), np.uint8)
    boxes = []
    for number, (x, y) in enumerate(persons):
        image[y, x] = 255 - number
        middle = np.array([x + 3, y - 5])
        boxes.append([*(middle - HALF), *(middle + HALF), 0.9 - 0.1 * number])
    return image, np.array(boxes, np.float32).reshape(-1, 5)


SCENES = [
    scene((30, 40)),
    scene(),
    scene((40, 30), (110, 80), (70, 60), size=(128, 192)),
    scene((100, 50), (25, 90)),
    scene(),
    scene((60, 60)),
    scene((35, 35), (90, 60), (35, 100), (145, 35)),
]
ARRAYS, BOXES = ([part[i] for part in SCENES] for i in (0, 1))
WHERE = [
    [(30, 40)], [], [(40, 30), (110, 80), (70, 60)], [(100, 50), (25, 90)], [], [(60, 60)],
    [(35, 35), (90, 60), (35, 100), (145, 35)],
]  # fmt: skip


@pytest.fixture
def paths(tmp_path) -> list[str]:
    found = [str(tmp_path / f'{number}.png') for number in range(len(ARRAYS))]
    for path, array in zip(found, ARRAYS, strict=True):
        cv2.imwrite(path, array)
    return found


def where(poses) -> list[tuple[int, int]]:
    """The first keypoint of each; the others have to be in their row."""
    for pose in poses:
        steps = pose.keypoints - pose.keypoints[0]
        np.testing.assert_allclose(steps, SPREAD * np.arange(17)[:, None] * [1, 1], atol=1e-3)
    return [tuple(pose.keypoints[0].round(2).tolist()) for pose in poses]


@pytest.mark.parametrize('batch_size', [1, 2, 3, 4, 11, 64])
@pytest.mark.parametrize('form', ['list', 'generator', 'paths', 'Path', 'mixed', 'one by one'])
def test_the_same_poses_in_every_batch_and_form(paths, batch_size, form):
    network = Brightest()
    estimator = Estimator(network, batch_size)
    boxes = BOXES
    if form == 'one by one':
        found = [estimator(array, table) for array, table in SCENES]
    else:
        given = {
            'list': ARRAYS,
            'generator': (array for array in ARRAYS),
            'paths': paths,
            'Path': [Path(path) for path in paths],
            'mixed': [both[i % 2] for i, both in enumerate(zip(ARRAYS, paths, strict=True))],
        }[form]
        if form == 'generator':
            boxes = iter([table.astype(np.float64).tolist() for table in boxes])
        found = estimator(given, boxes)
        count = sum(map(len, BOXES))
        if batch_size <= len(ARRAYS):
            assert max(network.batches) <= batch_size
        assert sum(network.batches) == count
        if batch_size in (1, 11):  # nothing forces a batch out before it is full
            assert len(network.batches) == -(-count // batch_size)
    assert [where(poses) for poses in found] == WHERE
    for poses, table in zip(found, BOXES, strict=True):
        for number, (pose, row) in enumerate(zip(poses, table, strict=True)):
            np.testing.assert_array_equal(pose.box, row[:4])
            assert pose.box_score == row[4]
            np.testing.assert_array_equal(pose.scores, np.float32((255 - number) / 255))
            assert pose.skeleton is COCO
            assert {pose.keypoints.dtype, pose.scores.dtype, pose.box.dtype} == {np.dtype('f4')}


def test_a_crop_of_another_scale_comes_back():
    """Twice the box: a pixel of the input is two of the image."""
    image = np.zeros((200, 200, 3), np.uint8)
    image[80:82, 100:102] = 255
    middle = np.array([100, 90])
    (pose,) = Estimator(Brightest())(image, [[*(middle - 2 * HALF), *(middle + 2 * HALF)]])
    assert np.abs(pose.keypoints[0] - (100, 80)).max() <= 1
    np.testing.assert_allclose(pose.keypoints[4] - pose.keypoints[0], 8 * SPREAD, atol=1e-3)


def test_stream_keeps_names_shapes_and_images(paths):
    estimator = Estimator(Brightest(), 4)
    for given, names in ((paths, paths), (ARRAYS, [f'image {i}' for i in range(len(ARRAYS))])):
        found = list(estimator.stream(given, BOXES, keep_images=True))
        assert [one.name for one in found] == names
        assert [one.shape for one in found] == [array.shape[:2] for array in ARRAYS]
        for one, array in zip(found, ARRAYS, strict=True):
            np.testing.assert_array_equal(one.image, array)
            assert not one.failed
            assert one.problems == []
        assert all(one.image is None for one in estimator.stream(given, BOXES))


@pytest.mark.parametrize('keep', [False, True])
def test_the_caller_s_memory_may_be_used_again(keep):
    buffer, table = np.zeros((120, 160, 3), np.uint8), np.zeros((1, 5), np.float32)

    def reused():
        for x in range(30, 130, 10):
            image, boxes = scene((x, 60))
            buffer[:], table[:] = image, boxes
            yield buffer

    estimator = Estimator(Brightest(), 4)
    found = list(estimator.stream(reused(), itertools.repeat(table, 10), keep_images=keep))
    assert [where(one.poses) for one in found] == [[(x, 60)] for x in range(30, 130, 10)]
    if keep:
        assert [one.image[60].max(1).argmax() for one in found] == list(range(30, 130, 10))


def test_boxes_that_are_used_again_while_files_are_read_ahead(paths):
    table = np.zeros((1, 5), np.float32)

    def reused():
        for boxes in (BOXES[0], BOXES[5]):
            table[:] = boxes
            yield table

    found = Estimator(Brightest())([paths[0], paths[5]], reused())
    assert [where(poses) for poses in found] == [WHERE[0], WHERE[5]]


# How much is held


class Counted:
    """Endless images that count how many were asked for."""

    def __init__(self, *kinds):
        self.kinds, self.asked = itertools.cycle(kinds), 0

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        return next(self.kinds)


@pytest.mark.parametrize('batch_size', [1, 3, 8])
@pytest.mark.parametrize(('persons', 'is_path'), [(0, 0), (0, 1), (1, 0), (1, 1), (3, 0), (3, 1)])
def test_an_endless_generator_is_asked_for_no_more_than_a_batch(
    paths, batch_size, persons, is_path
):
    number = {0: 1, 1: 0, 3: 2}[persons]
    images = Counted(paths[number] if is_path else ARRAYS[number])
    stream = Estimator(Brightest(), batch_size).stream(images, itertools.repeat(BOXES[number]))
    ahead = []
    for done, found in enumerate(itertools.islice(stream, 50), start=1):
        assert len(found.poses) == persons
        ahead.append(images.asked - done)
    most = -(-batch_size // max(persons, 1)) if persons else 0
    assert max(ahead) <= most + (module.READ_AHEAD if is_path else 0)
    if persons == 0 and not is_path:
        assert max(ahead) == 0
    stream.close()


@pytest.mark.slow
def test_images_without_persons_do_not_pile_up_behind_one_that_waits_for_its_batch():
    """One person, then nobody ever again."""
    images = Counted(ARRAYS[0])
    alive = weakref.WeakSet()
    prepare = Estimator._prepare

    class Watched(Estimator):
        def _prepare(self, *args):
            job = prepare(self, *args)
            alive.add(job)
            return job

    boxes = itertools.chain([BOXES[0]], itertools.repeat(BOXES[1]))
    stream = Watched(Brightest(), 8).stream(images, boxes, keep_images=True)
    first = next(stream)
    assert where(first.poses) == WHERE[0]
    assert images.asked <= 10
    most = 0
    for _ in range(40):
        assert next(stream).poses == []
        gc.collect()
        most = max(most, len(alive))
    assert most <= 10
    stream.close()


def test_large_images_that_are_kept_do_not_wait_for_a_batch_to_fill(monkeypatch):
    monkeypatch.setattr(module, 'KEPT', 3 * ARRAYS[0].nbytes)
    for keep, most in ((True, 4), (False, 16)):
        network, images = Brightest(), Counted(ARRAYS[0])
        stream = Estimator(network, 16).stream(images, itertools.repeat(BOXES[0]), keep)
        next(stream)
        assert images.asked == most
        stream.close()


def test_live_has_each_image_before_the_next_is_asked_for():
    images = Counted(*ARRAYS)
    boxes = itertools.cycle(BOXES)
    stream = Estimator(Brightest(), 32).stream(images, boxes, live=True)
    for number, found in enumerate(itertools.islice(stream, 20)):
        assert images.asked == number + 1
        assert where(found.poses) == WHERE[number % len(WHERE)]


def readers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith('hrformer-reader')]


def test_who_stops_in_the_middle_leaves_no_thread(paths):
    estimator = Estimator(Brightest(), 2)
    stream = estimator.stream(itertools.cycle(paths), itertools.cycle(BOXES))
    for _ in range(3):
        next(stream)
    assert len(readers()) == 1
    stream.close()
    assert readers() == []
    for found in estimator.stream(itertools.cycle(paths), itertools.cycle(BOXES)):
        if found.name == paths[5]:
            break
    del found
    gc.collect()
    assert readers() == []
    estimator(paths[0], BOXES[0])
    assert readers() == []


def test_files_are_read_while_the_network_works(paths):
    """The first batch is in the network until the next files are read."""
    read = []

    class Slow(Brightest):
        def predict(self, batch):
            until = time.monotonic() + 10
            while len(read) < 3 and time.monotonic() < until:
                time.sleep(0.001)
            return super().predict(batch)

    def detector(image):
        read.append(threading.current_thread())
        return BOXES[0]

    stream = Estimator(Slow(), 1).stream([paths[0]] * 6, detector)
    start = time.monotonic()
    next(stream)
    assert time.monotonic() - start < 5
    assert len(read) >= 3
    stream.close()


def test_a_detector_is_called_by_one_thread_at_a_time_and_in_order(paths):
    calls = []

    def detector(image):
        calls.append((threading.get_ident(), image.shape))
        return []

    given = [both[i % 2] for i, both in enumerate(zip(paths, ARRAYS, strict=True))]
    Estimator(Brightest())(given, detector)
    assert len({thread for thread, _ in calls}) == 1
    assert [shape for _, shape in calls] == [array.shape for array in ARRAYS]


# Where the boxes come from


def test_detectors(paths):
    seen = []

    def detector(image):
        seen.append(image.shape)
        return BOXES[len(seen) - 1]

    assert [where(p) for p in Estimator(Brightest())(paths, detector)] == WHERE
    assert seen == [array.shape for array in ARRAYS]
    for nobody in ([], np.zeros((0, 5)), np.zeros((0, 4)), ()):
        assert Estimator(Brightest())(ARRAYS, lambda image, rows=nobody: rows) == [[]] * 7
        assert Estimator(Brightest())(ARRAYS[0], lambda image, rows=nobody: rows) == []
    with pytest.raises(DataError, match='the boxes of image 0 are None'):
        Estimator(Brightest())(ARRAYS[0], lambda image: None)
    # One for each image is fine, too.
    rows = [lambda image: BOXES[0], BOXES[1], 'whole-image']
    found = Estimator(Brightest())(ARRAYS[:3], rows)
    assert [len(poses) for poses in found] == [1, 0, 1]


def test_whole_image():
    image = np.zeros((64, 48, 3), np.uint8)
    image[20, 10] = 200
    (pose,) = Estimator(Brightest())(image, 'whole-image')
    np.testing.assert_array_equal(pose.box, [0, 0, 48, 64])
    assert pose.box_score == 1
    # The crop is a quarter larger than the image.
    assert np.abs(pose.keypoints[0] - (10, 20)).max() < 1
    assert [len(poses) for poses in Estimator(Brightest())(ARRAYS, 'whole-image')] == [1] * 7


def test_boxes_by_file_name(paths, tmp_path):
    by_base = {Path(path).name: table for path, table in zip(paths, BOXES, strict=True)}
    by_path = dict(zip(paths, BOXES, strict=True))
    by_object = {Path(path): table for path, table in by_path.items()}
    empty_by_default = defaultdict(list, by_base)
    estimator = Estimator(Brightest())
    for boxes in (by_base, by_path, by_object, empty_by_default, types.MappingProxyType(by_base)):
        assert [where(poses) for poses in estimator([*map(Path, paths)], boxes)] == WHERE
        assert where(estimator(Path(paths[2]), boxes)) == WHERE[2]
    assert [where(poses) for poses in estimator(paths, by_path)] == WHERE
    # The path counts for more than the base name.
    for path in (paths[0], Path(paths[0])):
        assert where(estimator(path, {'0.png': [], paths[0]: BOXES[0]})) == WHERE[0]
    del by_base['5.png']
    with pytest.raises(DataError, match=r"there are no boxes for image '.*5\.png'"):
        estimator(paths, by_base)
    found = list(Estimator(Brightest(), on_error='skip').stream(paths, by_base))
    assert [one.problems != [] for one in found] == [False] * 5 + [True, False]
    assert not found[5].failed
    with pytest.raises(ConfigError, match='need images given as paths: image 1 is a ndarray'):
        estimator([paths[0], ARRAYS[0]], by_base)


def test_what_a_file_of_boxes_says_of_an_unknown_image_is_passed_on(paths):
    class Known(dict):
        def __missing__(self, key):
            raise type('Unknown', (DataError, KeyError), {'__str__': Exception.__str__})('not mine')

    with pytest.raises(DataError, match='not mine'):
        Estimator(Brightest())(paths[0], Known())


def test_box_threshold():
    estimator = Estimator(Brightest(), box_threshold=0.8)
    assert where(estimator(ARRAYS[2], BOXES[2])) == WHERE[2][:2]  # of 0.9, 0.8, 0.7
    assert where(estimator(ARRAYS[2], BOXES[2][:, :4])) == WHERE[2]
    # What is left out need not be a box.
    assert estimator(ARRAYS[2], [[5, 5, 5, 5, 0.1]]) == []


@pytest.mark.parametrize(
    ('images', 'boxes', 'line'),
    [
        (ARRAYS, BOXES[:-1], r'there are 7 images, but boxes for 6 \(give one array'),
        (ARRAYS[:2], BOXES, 'there are 2 images, but boxes for 7'),
        (iter(ARRAYS[:2]), BOXES[:1], 'more images than boxes: number 1, from 0, has no'),
        (ARRAYS[:1], iter(BOXES[:2]), 'more boxes than images: number 1, from 0, has no'),
    ],
)
def test_counts_that_differ(images, boxes, line):
    network = Brightest()
    with pytest.raises(DataError, match=line):
        Estimator(network)(images, boxes)
    if hasattr(images, '__len__') and hasattr(boxes, '__len__'):
        assert network.batches == []  # nothing was done in vain


@pytest.mark.parametrize(
    ('boxes', 'kind', 'line'),
    [
        ('whole', ConfigError, "boxes='whole' is not boxes, a detector or 'whole-image'"),
        (None, DataError, 'the boxes of image 0 are None'),
        ([10, 20, 30, 40], DataError, r'image 0 have the shape \(4,\)'),
        ([[10, 20, 30, 40, 1, 0]], DataError, r'have the shape \(1, 6\)'),
        ([['whole-image']], DataError, 'are not rows of x0'),
        ([[10, 20, 5, 40]], DataError, 'box 0 of image 0 has no area'),
        ([[1, 2, 9, 9], [1, np.nan, 3, 4]], DataError, 'box 1 of image 0 holds NaN'),
        ([[1, 2, 9, 9], [500, 2, 600, 9]], DataError, 'box 1 of image 0 lies outside the image'),
    ],
)
def test_boxes_that_are_none(boxes, kind, line):
    with pytest.raises(kind, match=line) as caught:
        Estimator(Brightest())(ARRAYS[0], boxes)
    assert '\n' not in str(caught.value)


def test_text_in_place_of_boxes_is_no_whole_image():
    with pytest.raises(DataError, match='the boxes of image 0 are not rows of x0'):
        Estimator(Brightest())([ARRAYS[0]], ['10 20 30 40'])
    with pytest.raises(ConfigError, match='boxes=3 is not boxes of each image'):
        Estimator(Brightest())(ARRAYS, 3)


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
    import torch

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


# Errors


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


def test_a_runtime_is_an_estimator_of_an_exported_network(monkeypatch, tmp_path):
    from hrformer_mmpose.inference import networks

    network, asked = Brightest(), []

    def open_network(*args):
        asked.append(args)
        return network

    monkeypatch.setattr(networks, 'open_network', open_network)
    runtime = PoseRuntime('a.onnx', 'openvino', threads=3, batch_size=5, box_threshold=0.85)
    assert asked == [('a.onnx', 'openvino', 3)]
    assert where(runtime(ARRAYS[2], BOXES[2])) == WHERE[2][:1]
    monkeypatch.undo()
    path = tmp_path / 'a.onnx'
    path.touch()
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='needs the package onnxruntime: pip install onnxruntime'):
        PoseRuntime(path, 'onnxruntime')
