"""Detectors: boxes as MMPose loads them, networks whose answer is known, and what is refused."""

import json
import sys
import types

import cv2
import numpy as np
import pytest
import torch

from hrformer_mmpose.errors import ConfigError, DataError, WeightsError
from hrformer_mmpose.runtime import detectors
from hrformer_mmpose.runtime.detectors import (
    CocoDetections,
    HogDetector,
    OnnxDetector,
    TorchvisionDetector,
    make_detector,
    nms,
)

VAL = 'annotations/person_keypoints_val2017.json'
BOXES = 'person_detection_results/simulated_val2017_person.json'
NAN = float('nan')


def write(path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def message(kind, function, *arguments, **options) -> str:
    """The line that it refuses them with."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert '\n' not in text
    return text


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared)


# Boxes from files


def detection(**changes) -> dict:
    return dict(image_id=139, category_id=1, bbox=[10, 20, 30, 40], score=0.5) | changes


def annotation(**changes) -> dict:
    return dict(id=7, image_id=1, category_id=1, bbox=[10, 20, 30, 40], iscrowd=0) | changes


def annotated(*annotations, names=('1.jpg',)) -> dict:
    images = [
        dict(id=number, width=100, height=80, file_name=name)
        for number, name in enumerate(names, 1)
    ]
    return dict(images=images, annotations=list(annotations), categories=[dict(id=1)])


def mmpose_boxes(root, **kwargs) -> dict[str, np.ndarray]:
    """Rows by file name, highest score first, of MMPose's own data set."""
    pytest.importorskip('mmpose')
    from mmpose.registry import DATASETS

    settings = dict(ann_file=VAL, data_prefix=dict(img='val2017/'), data_mode='topdown')
    data = DATASETS.build(
        dict(type='mmpose.CocoDataset', data_root=str(root), test_mode=True, **settings, **kwargs)
    )
    rows = {}
    for index in range(len(data)):
        info = data.get_data_info(index)
        row = np.append(info['bbox'][0], info['bbox_score'])
        rows.setdefault(info['img_path'].split('/')[-1], []).append(row)
    return {name: np.array(sorted(r, key=lambda row: -row[4])) for name, r in rows.items()}


@pytest.mark.parametrize('with_annotations', [False, True])
def test_detections_are_those_that_mmpose_loads(synthetic_root, with_annotations):
    path, list_of_images = synthetic_root / BOXES, synthetic_root / VAL
    expected = mmpose_boxes(synthetic_root, bbox_file=str(path))
    found = CocoDetections(path, list_of_images if with_annotations else None)
    assert sum(map(len, expected.values())) > 5
    for name, boxes in expected.items():
        assert found[name].dtype == boxes.dtype == np.float32
        assert np.array_equal(found[name], boxes)
    if with_annotations:
        assert len(found) == len([*found]) == 5
    assert {name for name in found if len(found[name])} == set(expected)


def test_a_threshold_is_mmposes(synthetic_root):
    path = str(synthetic_root / BOXES)
    scores = sorted(entry['score'] for entry in json.loads((synthetic_root / BOXES).read_text()))
    threshold = scores[len(scores) // 2]
    expected = mmpose_boxes(
        synthetic_root, bbox_file=path, filter_cfg=dict(bbox_score_thr=threshold)
    )
    found = CocoDetections(path, threshold=threshold)
    assert set(found) == set(expected)
    assert all(np.array_equal(found[name], boxes) for name, boxes in expected.items())


def test_annotated_boxes_are_those_that_mmpose_loads(synthetic_root):
    expected = mmpose_boxes(synthetic_root)
    found = CocoDetections(synthetic_root / VAL)
    assert len(found) == len(expected) == 5
    assert all(np.array_equal(found[name], boxes) for name, boxes in expected.items())


def test_boxes_and_their_order_by_hand(tmp_path):
    entries = [
        detection(score=0.2),
        detection(score=0.9, bbox=[0.1, 0.2, 0.3, 0.4, 77]),
        detection(score=0.2, bbox=[1, 2, 3, 4]),
        detection(score=1.0, category_id=3),
        detection(score=1.0, image_id=5, bbox=[1, 1, 1, 1]),
    ]
    found = CocoDetections(write(tmp_path / 'dets.json', entries))
    x, y, w, h = np.float32([0.1, 0.2, 0.3, 0.4])
    rows = [[x, y, x + w, y + h, 0.9], [10, 20, 40, 60, 0.2], [1, 2, 4, 6, 0.2]]
    assert np.array_equal(found['000000000139.jpg'], np.float32(rows))
    assert set(found) == {'000000000139.jpg', '000000000005.jpg'}
    found['000000000139.jpg'][:] = 0
    assert found['000000000139.jpg'].any(), 'what is handed out is a copy'


def test_names_by_cocos_rule(tmp_path):
    found = CocoDetections(write(tmp_path / 'dets.json', [detection()]))
    for name in ('COCO_val2014_000000000139.jpg', '/a/b/000000000139.png', '139.jpg', 'x/139'):
        assert len(found[name]) == 1
    assert found.image_id('a/COCO_val2014_000000000139.jpg') == 139
    assert found['000000000140.jpg'].shape == (0, 5)
    assert found['000000000140.jpg'].dtype == np.float32
    text = message(KeyError, found.__getitem__, 'holiday.jpg')
    assert 'holiday.jpg' in text
    assert 'annotation file' in text
    assert 'holiday.jpg' not in found
    with pytest.raises(DataError):  # so that a command line shows it as a user's mistake
        found['holiday.jpg']


def test_names_of_an_annotation_file(tmp_path):
    names = ('a/one.jpg', 'b/one.jpg', 'z/b/one.jpg', 'two.jpg')
    images = write(tmp_path / 'ann.json', annotated(names=names))
    entries = [detection(image_id=n, score=n / 10) for n in (1, 2, 3)]
    found = CocoDetections(write(tmp_path / 'dets.json', entries), images)
    scores = {
        name: found[name][0, 4]
        for name in ('a/one.jpg', '/x/a/one.jpg', 'b/one.jpg', 'z/b/one.jpg')
    }
    assert scores == pytest.approx(dict(zip(scores, (0.1, 0.1, 0.2, 0.3), strict=True)))
    assert found['elsewhere/two.jpg'].shape == (0, 5), 'one of that name: the folder is free'
    assert list(found) == ['a/one.jpg', 'b/one.jpg', 'z/b/one.jpg', 'two.jpg']
    for unknown in ('one.jpg', '000000000001.jpg'):
        assert images in message(KeyError, found.__getitem__, unknown)
    assert found.get('one.jpg') is None
    assert found.image_id('x/z/b/one.jpg') == 3


def test_which_annotations_count(tmp_path):
    seen = [50, 40, 2] + [0] * 48
    entries = [
        annotation(bbox=[-5, -5, 200, 200]),  # clipped to 0 .. 99 and 0 .. 79
        annotation(id=8, bbox=[1, 1, 5, 5], keypoints=seen, num_keypoints=1),
        annotation(id=9, bbox=[2, 2, 5, 5], keypoints=seen),
        annotation(id=10, bbox=[3, 3, 5, 5], keypoints=[0] * 51, num_keypoints=0),
        annotation(id=11, bbox=[4, 4, 5, 5], keypoints=[0] * 51),
        annotation(id=12, bbox=[5, 5, 5, 5], iscrowd=1),
        annotation(id=13, bbox=[6, 6, 5, 5], category_id=2),
        annotation(id=14, bbox=[7, 7, 0, 5]),
        # No person is looked for in these, so that they may be broken.
        annotation(id=15, bbox=[NAN, 8, 5, 5], iscrowd=1),
        annotation(id=16, bbox=[NAN, 9, 5, 5], num_keypoints=0),
    ]
    found = CocoDetections(
        write(tmp_path / 'ann.json', annotated(*entries, names=('1.jpg', '2.jpg')))
    )
    rows = [[0, 0, 99, 79, 1], [1, 1, 6, 6, 1], [2, 2, 7, 7, 1]]
    assert np.array_equal(found['1.jpg'], np.float32(rows))
    assert found['2.jpg'].shape == (0, 5)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('', 'is empty'),
        ('hello', 'is no JSON'),
        ('[{"image_id": 1', 'not a list of detections'),
        ('{"images": [', 'not in COCO'),
        ([], 'no box of a person'),
        ([1, 2], 'not a list of detections'),
        ([detection(category_id=2)], 'no box of a person'),
        ([detection(), detection(bbox=[1, 2, NAN, 4])], 'detection 1 (of image 139)'),
        ([detection(bbox=[1, 2, 'x', 4])], 'detection 0'),
        ([detection(bbox=[1, 2, 3])], 'no box of four numbers'),
        ([detection(bbox=[1, 2, 1e300, 4])], 'no box of four numbers'),
        ([detection(score=None), detection(score=NAN)], '(1 more such)'),
        ([detection(bbox=[1, 2, 0, 4])], 'without area'),
        ([detection(image_id='139')], 'not a list of detections'),
        ({}, "KeyError: 'images'"),
        (dict(images=[], annotations=[annotation()]), 'lists no images'),
        (dict(images=annotated()['images']), 'no annotations'),
        (annotated(), 'no box of a person'),
        (annotated(annotation(bbox=[1, 2, NAN, 4])), 'annotation 7'),
        (annotated(annotation(bbox=None)), 'no box of four numbers'),
        (annotated(annotation(image_id=2)), 'annotation 7'),
    ],
)
def test_broken_files_are_named(tmp_path, content, words):
    path = write(tmp_path / 'boxes.json', content)
    text = message(DataError, CocoDetections, path)
    assert path in text
    assert words in text


def test_files_that_do_not_go_together(tmp_path):
    dets = write(tmp_path / 'dets.json', [detection()])
    ann = write(tmp_path / 'ann.json', annotated(annotation()))
    text = message(DataError, CocoDetections, dets, ann)
    assert 'detection 0 (of image 139)' in text
    assert ann in text
    assert 'annotation file' in message(ConfigError, CocoDetections, ann, ann)
    assert 'is a list' in message(DataError, CocoDetections, dets, dets)
    missing = str(tmp_path / 'no.json')
    assert missing in message(DataError, CocoDetections, missing)
    assert missing in message(DataError, CocoDetections, dets, missing)


def test_real_files(shared):
    """COCO's own annotations; the first boxes of the detection file that everybody uses."""
    mini = shared / 'data/coco-mini'
    truth = CocoDetections(mini / VAL)
    assert len(truth) == 118
    assert sum(len(boxes) for boxes in truth.values()) == 192
    usual = shared / 'data/coco-eval/xtcocoapi_examples/test_coco_det_AP_H_56.json'
    entries = [entry for entry in json.loads(usual.read_text()) if entry['category_id'] == 1]
    found = CocoDetections(usual)
    assert sum(len(boxes) for boxes in found.values()) == len(entries)


# Non-maximum suppression


@pytest.mark.parametrize('overlap', [0.0, 0.3, 0.65, 1.0])
def test_nms_is_the_naive_loop(overlap):
    rng = np.random.default_rng(3)
    start = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([start, start + rng.uniform(1, 40, (80, 2))], 1)
    scores = rng.integers(0, 30, 80) / 30  # with ties
    expected = []
    for index in sorted(range(80), key=lambda i: -scores[i]):
        if all(iou(boxes[index], boxes[other]) <= overlap for other in expected):
            expected.append(index)
    assert nms(boxes, scores, overlap).tolist() == expected
    assert 1 < len(expected) <= 80


def test_nms_of_nothing():
    assert nms(np.zeros((0, 4)), np.zeros(0), 0.5).shape == (0,)


# HOG


class Windows:
    """Stands in for OpenCV's detector: given windows, and what image it was shown."""

    def __init__(self, *windows, distances=()):
        self.windows, self.distances = windows, distances

    def detectMultiScale(self, image, **options):
        self.shape = image.shape
        return self.windows, self.distances


def test_an_opencv_without_hog_is_named(monkeypatch):
    monkeypatch.delattr(cv2, 'HOGDescriptor')
    with pytest.raises(ConfigError, match=r"has no HOG detector: pip install 'opencv-python<5'"):
        HogDetector()


def test_hog_windows_become_boxes():
    detector = HogDetector()
    # 320 x 160 is doubled; of two that overlap the better one stays.
    detector._hog = Windows(
        (100, 100, 64, 128), (104, 100, 64, 128), (600, 250, 100, 200), distances=(0.5, 2.0, 1.0)
    )
    rows = detector(np.zeros((160, 320, 3), np.uint8))
    assert detector._hog.shape == (320, 640, 3)
    first = [(104 + 6.4) / 2, (100 + 8.96) / 2, (104 + 57.6) / 2, (100 + 111.36) / 2]
    second = [(600 + 10) / 2, (250 + 14) / 2, 320, 160]  # cut at the image
    scores = 1 / (1 + np.exp([-2.0, -1.0]))
    np.testing.assert_allclose(rows, np.column_stack([[first, second], scores]), rtol=1e-6)
    assert rows.dtype == np.float32
    detector.threshold = 0.8
    assert len(detector(np.zeros((160, 320, 3), np.uint8))) == 1


@pytest.mark.parametrize(
    ('shape', 'seen'), [((5, 900), (128, 640)), ((40, 2), (640, 64)), ((1, 1), (640, 640))]
)
def test_hog_sees_at_least_a_window(shape, seen):
    detector = HogDetector()
    assert detector(np.zeros((*shape, 3), np.uint8)).shape == (0, 5)
    detector._hog = Windows()
    detector(np.zeros((*shape, 3), np.uint8))
    assert detector._hog.shape[:2] == seen


def test_hog_is_told_a_side_that_fits():
    assert 'side=100' in message(ConfigError, HogDetector, side=100)


@pytest.mark.slow
def test_hogs_figures(shared):
    """Those of the docstring."""
    mini = shared / 'data/coco-mini'
    detector, found, boxes = HogDetector(), 0, 0
    for name, truth in CocoDetections(mini / VAL).items():
        left = truth.tolist()
        for row in detector(cv2.imread(str(mini / 'val2017' / name))):
            boxes += 1
            best = max(left, key=lambda other: iou(row, other), default=None)
            if best is not None and iou(row, best) >= 0.5:
                left.remove(best)
                found += 1
    assert found / 192 == pytest.approx(0.12, abs=0.02)
    assert found / boxes == pytest.approx(0.18, abs=0.03)


# ONNX


def save_onnx(
    path, outputs: dict, nodes=(), inputs=(1, 3, 64, 64), constants=(), open_shapes=False
):
    """A network; of `outputs` (name -> array) those that no node makes are constants."""
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    nodes, made = list(nodes), {name for node in nodes for name in node.output}
    constants = dict(constants)
    for name, value in outputs.items():
        if name not in made:
            constants[f'{name}_value'] = np.asarray(value)
            nodes.append(helper.make_node('Identity', [f'{name}_value'], [name]))
    types = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        'detector',
        [helper.make_tensor_value_info('input', TensorProto.FLOAT, inputs)],
        [
            helper.make_tensor_value_info(
                name,
                types[np.asarray(value).dtype],
                [None] * np.ndim(value) if open_shapes else np.shape(value),
            )
            for name, value in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    onnx.save(model, str(path))
    return str(path)


def bright_box(channel: int, level: float, rank: int = 4):
    """Nodes that find the box of the pixels whose channel is above a level: `box`, (1, 4) xyxy.

    A detector without weights: if the image is scaled, padded, normalised or its channels ordered
    otherwise than expected, the box is another one.
    """
    from onnx import helper

    node = helper.make_node
    constants = dict(level=np.float32(level), channel=np.int64([channel]), one=np.float32(1))
    constants['where'] = np.int64([rank - 3])
    constants['next'] = np.int64([channel + 1])
    nodes = [
        node('Slice', ['input', 'channel', 'next', 'where'], ['plane']),
        node('Greater', ['plane', 'level'], ['above']),
        node('Cast', ['above'], ['mask'], to=1),
    ]
    corners = []
    for axis, name in ((rank - 1, 'x'), (rank - 2, 'y')):
        others = [other for other in range(rank) if other != axis]
        nodes.append(node('ReduceMax', ['mask'], [name], axes=others, keepdims=0))
        for last in (0, 1):
            found = f'{name}{last}'
            nodes.append(node('ArgMax', [name], [f'{found}i'], axis=0, select_last_index=last))
            nodes.append(node('Cast', [f'{found}i'], [f'{found}f'], to=1))
            if last:
                nodes.append(node('Add', [f'{found}f', 'one'], [f'{found}e']))
            corners.append(f'{found}e' if last else f'{found}f')
    x0, x1, y0, y1 = corners
    nodes.append(node('Concat', [x0, y0, x1, y1], ['flat'], axis=0))
    constants['two_axes'] = np.int64([1, 4])
    nodes.append(node('Reshape', ['flat', 'two_axes'], ['box']))
    return nodes, constants


def centre_and_size(nodes, constants):
    """More nodes: `row`, (1, 4) of centre and size of `box`."""
    from onnx import helper

    constants['halves'] = np.float32(
        [[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]]
    )
    nodes.append(helper.make_node('MatMul', ['box', 'halves'], ['row']))


def classes(count: int = 1, best: int = 0, score: float = 0.9) -> np.ndarray:
    rows = np.zeros((count, 80), np.float32)
    rows[:, best] = score
    return rows


CELLS = 8 * 8 + 4 * 4 + 2 * 2  # of an input of 64 x 64


def grid() -> np.ndarray:
    """(84, 2) centres of the cells, in pixels."""
    return np.concatenate(
        [
            [[(x + 0.5) * s, (y + 0.5) * s] for y in range(64 // s) for x in range(64 // s)]
            for s in (8, 16, 32)
        ]
    )


def bright_network(path, form: str) -> str:
    """A detector of what is red, in the form's convention of input and output."""
    from onnx import helper

    rgb = form != 'mmdeploy' and form != 'yolox'
    level = {'mmdeploy': (150 - 123.675) / 58.395, 'yolox': 150.0}.get(form, 150 / 255)
    rank = 3 if form == 'torchvision' else 4
    nodes, constants = bright_box(0 if rgb else 2, level, rank)
    inputs = (1, 3, 64, 64)

    def concat(names, axis, result):
        nodes.append(helper.make_node('Concat', names, [result], axis=axis))

    def with_batch(name, result, shape):
        constants['batched'] = np.int64(shape)
        nodes.append(helper.make_node('Reshape', [name, 'batched'], [result]))

    if form == 'mmdeploy':
        constants['score'] = np.float32([[0.9]])
        concat(['box', 'score'], 1, 'one_row')
        with_batch('one_row', 'dets', [1, 1, 5])
        outputs = dict(dets=np.zeros((1, 1, 5), np.float32), labels=np.int64([[0]]))
    elif form == 'torchvision':
        nodes.append(helper.make_node('Identity', ['box'], ['boxes']))
        inputs = (3, 'height', 'width')
        outputs = dict(
            boxes=np.zeros((1, 4), np.float32), labels=np.int64([1]), scores=np.float32([0.9])
        )
    else:
        centre_and_size(nodes, constants)
        count = {'yolox': CELLS, 'yolov5': 3 * CELLS}.get(form, 5)
        rest = np.zeros((count - 1, 84 if form == 'yolov8' else 85), np.float32)
        if form == 'yolox':
            rest[:, :2] = grid()[1:]
        sure = np.ones((1, 0 if form == 'yolov8' else 1), np.float32)
        constants['tail'] = np.concatenate([sure, classes()], 1)
        constants['rest'] = rest
        concat(['row', 'tail'], 1, 'first')
        concat(['first', 'rest'], 0, 'rows')
        shape = (1, *[count, rest.shape[1]])
        if form == 'yolov8':
            nodes.append(helper.make_node('Transpose', ['rows'], ['turned'], perm=[1, 0]))
            shape = (1, rest.shape[1], count)
        with_batch('turned' if form == 'yolov8' else 'rows', 'output', shape)
        outputs = dict(output=np.zeros(shape, np.float32))
    return save_onnx(path, outputs, nodes, inputs, constants)


def picture(height: int, width: int, box) -> np.ndarray:
    """Black, with a red box."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = (0, 0, 255)
    return image


needs_onnx = pytest.mark.usefixtures('_onnx')


@pytest.fixture
def _onnx():
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')


@needs_onnx
@pytest.mark.parametrize('form', list(detectors.FORMS))
def test_boxes_come_back_in_pixels_of_the_image(tmp_path, form):
    detector = OnnxDetector(bright_network(tmp_path / 'net.onnx', form))
    assert detector.form == form
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


# torchvision


class RedNetwork(torch.nn.Module):
    """Its one weight is the level above which red pixels are the person."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(9.0))

    def forward(self, images):
        assert not self.training
        (image,) = images
        assert image.dtype == torch.float32
        assert image.max() == 1
        y, x = torch.nonzero(image[0] > self.level, as_tuple=True)
        box = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float()
        other = torch.tensor([0.0, 0.0, 5.0, 5.0])
        boxes = torch.stack([other, box, box, other])
        labels = torch.tensor([1, 1, 1, 3])
        return [dict(boxes=boxes, labels=labels, scores=torch.tensor([0.35, 0.6, 0.1, 0.99]))]


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in for the package, with one model."""

    def fasterrcnn_resnet50_fpn(weights, weights_backbone):
        assert weights is weights_backbone is None, 'nothing may be downloaded'
        return RedNetwork()

    detection = types.ModuleType('torchvision.models.detection')
    detection.fasterrcnn_resnet50_fpn = fasterrcnn_resnet50_fpn
    detection.FasterRCNN = RedNetwork
    models = types.ModuleType('torchvision.models')
    models.detection = detection
    package = types.ModuleType('torchvision')
    package.models = models
    for module in (package, models, detection):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def weights(tmp_path) -> str:
    path = tmp_path / 'weights.pth'
    torch.save({'level': torch.tensor(0.5)}, path)
    return str(path)


@pytest.mark.usefixtures('torchvision')
def test_torchvision_boxes(weights):
    rows = TorchvisionDetector(weights)(picture(40, 60, (20, 10, 30, 35)))
    np.testing.assert_allclose(rows, [[20, 10, 30, 35, 0.6], [0, 0, 5, 5, 0.35]], rtol=1e-6)
    assert rows.dtype == np.float32
    assert len(TorchvisionDetector(weights, threshold=0.05)(picture(9, 9, (2, 1, 3, 3)))) == 3


@pytest.mark.usefixtures('torchvision')
def test_torchvision_mistakes(tmp_path, weights):
    missing = str(tmp_path / 'no.pth')
    assert missing in message(WeightsError, TorchvisionDetector, missing)
    assert 'download' in message(WeightsError, TorchvisionDetector, 'https://x.org/weights.pth')
    for model in ('yolo', 'FasterRCNN', '__doc__'):
        assert model in message(ConfigError, TorchvisionDetector, weights, model)
    assert 'nowhere' in message(ConfigError, TorchvisionDetector, weights, device='nowhere')
    other = str(tmp_path / 'other.pth')
    torch.save({'depth': torch.tensor(1.0)}, other)
    text = message(WeightsError, TorchvisionDetector, other)
    assert other in text
    assert 'level' in text


def test_without_torchvision(monkeypatch, weights):
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    assert 'pip install torchvision' in message(ImportError, TorchvisionDetector, weights)


# The command line's text


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((5, 5, 3), np.float32),
        np.zeros((5, 5), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        None,
    ],
)
def test_an_image_has_to_be_one(image):
    assert 'uint8' in message(DataError, HogDetector(), image)


@needs_onnx
def test_detectors_by_name(tmp_path, torchvision, weights):
    assert (
        make_detector('whole-image') == make_detector('whole-image', threshold=0.5) == 'whole-image'
    )
    assert isinstance(make_detector('hog'), HogDetector)
    assert make_detector('hog').threshold == 0.0
    assert make_detector('hog', threshold=0.7).threshold == 0.7
    dets = write(tmp_path / 'dets.json', [detection(image_id=1), detection(image_id=1, score=0.1)])
    ann = write(tmp_path / 'ann.json', annotated(annotation(), names=('a.jpg',)))
    assert len(make_detector(dets)['1.jpg']) == 2
    assert len(make_detector(dets, ann, 0.3)['a.jpg']) == 1
    assert len(make_detector(ann)['a.jpg']) == 1
    network = bright_network(tmp_path / 'net.onnx', 'mmdeploy')
    assert make_detector(f'onnx:{network}').threshold == 0.3
    assert make_detector(f'torchvision:{weights}', threshold=0.1).threshold == 0.1


@pytest.mark.parametrize('text', ['', 'yolo', 'net.onnx', 'onnx:', 'torchvision', 'whole', 'HOG'])
def test_other_names_are_told_what_there_is(text):
    line = message(ConfigError, make_detector, text)
    assert repr(text) in line
    for name in ('hog', 'onnx:FILE', 'torchvision:FILE', '.json', 'whole-image'):
        assert name in line


def test_annotations_belong_to_a_detection_file():
    assert 'ann.json' in message(ConfigError, make_detector, 'hog', annotations='ann.json')
