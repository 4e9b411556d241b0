"""Images in any form and batches of any size give the same poses, in order."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from hrformer_mmpose.imaging.skeleton import COCO
from hrformer_mmpose.inference import networks
from hrformer_mmpose.inference.estimator import Estimator, PoseRuntime

from .helpers import ARRAYS, BOXES, HALF, SCENES, SPREAD, WHERE, Brightest, scene, where


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


def test_a_runtime_is_an_estimator_of_an_exported_network(monkeypatch, tmp_path):

    network, asked = Brightest(), []

    def open_network(*args):
        asked.append(args)
        return network

    monkeypatch.setattr(networks, 'open_network', open_network)
    runtime = PoseRuntime(
        'a.onnx', 'openvino', threads=3, batch_size=5, box_threshold=0.85, device='auto'
    )
    assert asked == [('a.onnx', 'openvino', 3, 'auto')]
    assert where(runtime(ARRAYS[2], BOXES[2])) == WHERE[2][:1]
    monkeypatch.undo()
    path = tmp_path / 'a.onnx'
    path.touch()
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='needs the package onnxruntime: pip install onnxruntime'):
        PoseRuntime(path, 'onnxruntime')
