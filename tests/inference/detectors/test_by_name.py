"""Detectors by the name that a command line gives."""

import pytest

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.inference.detectors import HogDetector, make_detector

from .helpers import annotated, annotation, detection, message, write
from .networks import bright_network, needs_onnx


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
