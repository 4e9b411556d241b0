"""Detectors in ONNX files: boxes of every form, in pixels of the image, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError, WeightsError
from hrformer_mmpose.inference import detectors
from hrformer_mmpose.inference.detectors import OnnxDetector

from .helpers import iou, message, picture, write
from .networks import CELLS, bright_network, classes, needs_onnx, save_onnx


@needs_onnx
@pytest.mark.parametrize('form', list(detectors.OUTPUT_FORMATS))
def test_boxes_come_back_in_pixels_of_the_image(tmp_path, form):
    detector = OnnxDetector(bright_network(tmp_path / 'net.onnx', form))
    assert detector.output_format == form
    # landscape, portrait, smaller than the input; edges on whole pixels of the input
    cases = [
        ((64, 128), (20, 10, 60, 50)),
        ((192, 96), (30, 60, 60, 150)),
        ((16, 32), (5, 3, 20, 11)),
    ]
    for size, box in cases:
        rows = detector(picture(*size, box))
        assert rows.shape == (1, 5)
        assert rows.dtype == np.float32
        # Half a pixel of the input, at which the level of 150 lies, is no more than this.
        tolerance = 0 if form == 'torchvision' else max(size) / 64
        np.testing.assert_allclose(rows[0, :4], box, atol=tolerance)
        assert rows[0, 4] == pytest.approx(0.9)
    rows = detector(picture(64, 64, (10, 20, 30, 60)))
    np.testing.assert_allclose(rows[0], [10, 20, 30, 60, 0.9], atol=1e-5)


@needs_onnx
@pytest.mark.parametrize(
    ('form', 'start'), [('mmdeploy', 0), ('yolox', 0), ('yolov5', 16), ('yolov8', 16)]
)
def test_where_the_padding_is(tmp_path, form, start):
    """An image of 64 x 128 fills half of the input, at its top or in its middle."""
    detector = OnnxDetector(bright_network(tmp_path / 'net.onnx', form), mean=0, std=1, rgb=False)
    shown = []
    run = detector._run
    detector._run = lambda pixels: shown.append(pixels) or run(pixels)
    detector(np.full((64, 128, 3), (1, 2, 3), np.uint8))
    expected = np.full((64, 64, 3), 114)
    expected[start : start + 32] = (1, 2, 3)
    assert np.array_equal(shown[0], expected)


@needs_onnx
def test_normalisation_can_be_given(tmp_path):
    shown = {}
    dets = dict(dets=np.zeros((1, 1, 5), np.float32), labels=np.int64([[0]]))
    path = save_onnx(tmp_path / 'net.onnx', dets)
    image = np.full((64, 64, 3), (10, 20, 30), np.uint8)
    for name, options, expected in (
        ('RTMDet', {}, [(10 - 103.53) / 57.375, (20 - 116.28) / 57.12, (30 - 123.675) / 58.395]),
        ('YOLOX', dict(mean=0, std=1), [10, 20, 30]),
        ('own', dict(mean=(1, 2, 3), std=(2, 4, 8), rgb=True), [14.5, 4.5, 0.875]),
    ):
        detector = OnnxDetector(path, **options)
        run = detector._run
        detector._run = lambda pixels, name=name, run=run: (
            shown.update({name: pixels}) or run(pixels)
        )
        detector(image)
        np.testing.assert_allclose(shown[name][5, 7], expected, rtol=1e-5)


@needs_onnx
@pytest.mark.parametrize('open_shapes', [False, True])
def test_boxes_of_mmdeploy_by_hand(tmp_path, open_shapes):
    dets = np.float32(
        [[[0, 0, 10, 20, 0.4], [8, 8, 200, 32, 0.8], [1, 1, 9, 9, 0.9], [1, 1, 9, 9, 0.2],
          [0, 0, 0, 0, 0], [70, 0, 90, 9, 0.9], [1, 1, 9, 9, np.nan]]]
    )  # fmt: skip
    outputs = dict(
        dets=dets, labels=np.int64([[0, 0, 5, 0, -1, 0, 0]]), masks=np.zeros(1, np.float32)
    )
    path = save_onnx(tmp_path / 'net.onnx', outputs, open_shapes=open_shapes)
    image = np.zeros((128, 128, 3), np.uint8)
    rows = OnnxDetector(path)(image)
    np.testing.assert_allclose(rows, [[16, 16, 128, 64, 0.8], [0, 0, 20, 40, 0.4]], rtol=1e-6)
    rows = OnnxDetector(path, threshold=0.5, person_class=5)(image)
    np.testing.assert_allclose(rows, [[2, 2, 18, 18, 0.9]], rtol=1e-6)
    assert OnnxDetector(path, threshold=0.95)(image).shape == (0, 5)


@needs_onnx
def test_boxes_of_torchvision_by_hand(tmp_path):
    outputs = dict(
        boxes=np.float32([[0, 0, 10, 20], [1, 2, 3, 4]]),
        labels=np.int64([1, 0]),
        scores=np.float32([0.7, 0.9]),
    )
    path = save_onnx(tmp_path / 'net.onnx', outputs, inputs=(1, 3, 64, 64))
    rows = OnnxDetector(path)(np.zeros((128, 128, 3), np.uint8))
    np.testing.assert_allclose(rows, [[0, 0, 20, 40, 0.7]], rtol=1e-6)


@needs_onnx
def test_yolox_that_is_not_decoded_by_hand(tmp_path):
    rows = np.zeros((1, CELLS, 85), np.float32)
    # Stride 16, third row, second column: centre (1.5, 2.25) cells, size 2 x 1 cells.
    rows[0, 64 + 2 * 4 + 1] = [0.5, 0.25, np.log(2), 0, 0.8, *classes(score=0.5)[0]]
    rows[0, 3] = [0, 0, 0, 0, 1, *classes(best=7)[0]]  # another class
    path = save_onnx(tmp_path / 'net.onnx', dict(output=rows), open_shapes=True)
    found = OnnxDetector(path)(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_allclose(found, [[8, 28, 40, 44, 0.4]], rtol=1e-6)


@needs_onnx
@pytest.mark.parametrize('turned', [False, True])
def test_yolov8_drops_what_overlaps(tmp_path, turned):
    rng = np.random.default_rng(1)
    rows = np.zeros((60, 84), np.float32)
    rows[:, :2] = rng.uniform(20, 44, (60, 2))
    rows[:, 2:4] = rng.uniform(10, 30, (60, 2))
    rows[:, 4] = rng.uniform(0, 1, 60)
    rows[::7, 9] = 1.0  # rather something else
    path = save_onnx(tmp_path / 'net.onnx', dict(output=(rows if turned else rows.T)[None]))
    found = OnnxDetector(path, overlap=0.4)(np.zeros((64, 64, 3), np.uint8))
    expected = []
    for x, y, w, h, score, *others in sorted(rows.tolist(), key=lambda row: -row[4]):
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2, score]
        if score >= 0.3 and max(others) < score and all(iou(box, b) <= 0.4 for b in expected):
            expected.append(box)
    assert 2 < len(expected) < 30
    np.testing.assert_allclose(found, np.float32(expected), atol=1e-4)


@needs_onnx
def test_input_sizes(tmp_path):
    dets = dict(dets=np.float32([[[0, 0, 32, 16, 0.9]]]), labels=np.int64([[0]]))
    image = np.zeros((100, 200, 3), np.uint8)
    free = save_onnx(tmp_path / 'free.onnx', dets, inputs=('batch', 3, 'height', 'width'))
    np.testing.assert_allclose(OnnxDetector(free)(image)[0, :4], [0, 0, 10, 5])
    small = OnnxDetector(free, input_size=(320, 128))  # width, height: here the height decides
    np.testing.assert_allclose(small(image)[0, :4], [0, 0, 25, 12.5])
    fixed = save_onnx(tmp_path / 'fixed.onnx', dets, inputs=(1, 3, 64, 96))
    assert OnnxDetector(fixed, input_size=(96, 64))(image).shape == (1, 5)
    text = message(ConfigError, OnnxDetector, fixed, input_size=(64, 64))
    assert '(96, 64)' in text
    assert fixed in text


@needs_onnx
@pytest.mark.parametrize(
    'outputs',
    [
        dict(output0=np.zeros((1, 300, 6), np.float32)),
        dict(output0=np.zeros((1, 100, 85), np.float32)),
        dict(dets=np.zeros((1, 5, 5), np.float32), classes=np.zeros((1, 5), np.int64)),
    ],
)
def test_other_outputs_are_refused(tmp_path, outputs):
    path = save_onnx(tmp_path / 'net.onnx', outputs)
    text = message(WeightsError, OnnxDetector, path)
    assert path in text
    assert all(name in text for name in outputs)
    assert 'expected' in text


@needs_onnx
def test_other_files_are_refused(tmp_path):
    missing = str(tmp_path / 'no.onnx')
    assert missing in message(WeightsError, OnnxDetector, missing)
    for content in ('', 'hello there'):
        path = write(tmp_path / 'text.onnx', content)
        assert 'no ONNX network' in message(WeightsError, OnnxDetector, path)
    dets = dict(dets=np.zeros((1, 1, 5), np.float32), labels=np.int64([[0]]))
    for shape in ((1, 64, 64, 3), (2, 3, 64, 64), (1, 3)):
        path = save_onnx(tmp_path / 'net.onnx', dets, inputs=shape)
        assert 'expected one image' in message(WeightsError, OnnxDetector, path)
    path = save_onnx(tmp_path / 'net.onnx', dets)
    assert 'Cuda' in message(ConfigError, OnnxDetector, path, providers=['Cuda'])


@needs_onnx
def test_a_network_that_does_not_run(tmp_path):
    from onnx import helper

    # 64 x 64 is what it was made for, though it says that any size will do.
    nodes = [helper.make_node('Reshape', ['input', 'shape'], ['output'])]
    outputs = dict(output=np.zeros((1, 84, 1), np.float32))
    constants = dict(shape=np.int64([1, 84, 1]))
    shape = (1, 3, 'height', 'width')
    path = save_onnx(tmp_path / 'net.onnx', outputs, nodes, shape, constants)
    text = message(WeightsError, OnnxDetector, path, input_size=(32, 32))
    assert path in text
    assert '(1, 3, 32, 32)' in text


def test_without_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert 'pip install onnxruntime' in message(ImportError, OnnxDetector, 'net.onnx')


@needs_onnx
@pytest.mark.parametrize('form', list(detectors.OUTPUT_FORMATS))
def test_damaged_files_are_one_line_or_run(tmp_path, form, capfd):
    whole = Path(bright_network(tmp_path / 'net.onnx', form)).read_bytes()
    path, rng = tmp_path / 'damaged.onnx', np.random.default_rng(5)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), 3):
            data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            rows = OnnxDetector(path)(picture(64, 64, (10, 20, 30, 60)))
        except WeightsError:
            refused += 1
        else:
            assert rows.shape[1:] == (5,)
            assert np.isfinite(rows).all()
    assert refused > 0
    assert capfd.readouterr() == ('', '')


@needs_onnx
def test_outputs_of_other_shapes(tmp_path):
    dets = dict(dets=np.zeros((1, 3, 4), np.float32), labels=np.zeros((1, 3), np.int64))
    detector = OnnxDetector(save_onnx(tmp_path / 'net.onnx', dets))
    text = message(WeightsError, detector, np.zeros((64, 64, 3), np.uint8))
    assert 'gives arrays of (1, 3, 4), (1, 3), which are no boxes of form mmdeploy' in text
