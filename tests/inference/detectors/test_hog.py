"""OpenCV's people detector: its windows, by hand, and how many persons it finds."""

import cv2
import numpy as np
import pytest

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.inference.detectors import CocoDetections, HogDetector

from .helpers import VAL, iou, message


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
