"""Memory, threads and reading ahead of `Estimator.stream`."""

import gc
import itertools
import threading
import time
import weakref

import pytest

from hrformer_mmpose.inference import crop_reader, estimator
from hrformer_mmpose.inference.crop_reader import CropReader
from hrformer_mmpose.inference.estimator import Estimator

from .helpers import ARRAYS, BOXES, WHERE, Brightest, Counted, readers, where


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
    assert max(ahead) <= most + (crop_reader.READ_AHEAD if is_path else 0)
    if persons == 0 and not is_path:
        assert max(ahead) == 0
    stream.close()


@pytest.mark.slow
def test_images_without_persons_do_not_pile_up_behind_one_that_waits_for_its_batch(monkeypatch):
    """One person, then nobody ever again."""
    images = Counted(ARRAYS[0])
    alive = weakref.WeakSet()
    prepare = CropReader._prepare

    def watched(self, *args):
        job = prepare(self, *args)
        alive.add(job)
        return job

    monkeypatch.setattr(CropReader, '_prepare', watched)
    boxes = itertools.chain([BOXES[0]], itertools.repeat(BOXES[1]))
    stream = Estimator(Brightest(), 8).stream(images, boxes, keep_images=True)
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
    monkeypatch.setattr(estimator, 'MAX_WAITING_BYTES', 3 * ARRAYS[0].nbytes)
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
