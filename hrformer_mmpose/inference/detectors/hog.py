"""OpenCV's built-in people detector."""

import cv2
import numpy as np

from ...errors import ConfigError
from .common import as_rows, image_size, nms, resize

HOG_WINDOW = (64, 128)  # width, height in pixels that OpenCV's people detector looks at
# Where in the window the person is, x0, y0, x1, y1 in shares of it (OpenCV's peopledetect.cpp).
HOG_PERSON = np.array([0.1, 0.07, 0.9, 0.87])


class HogDetector:
    """OpenCV's built-in people detector: histograms of gradients and a linear classifier.

    It needs no file, and is worth little: it knows whole upright pedestrians (Dalal and Triggs,
    CVPR 2005; OpenCV's weights). On 118 images of COCO val2017 with 192 persons, at an intersection
    over union of 0.5, it finds 12 % of the persons, and 18 % of its boxes are one; with
    threshold=0.62 it is 8 % and 38 %. Of the 77 persons whose shoulders, hips and ankles are all
    labelled it finds 22. An image takes 0.11 s of one CPU thread (OpenCV 4.11).

    The image is scaled to a longer side of `side` pixels, up or down, and padded where the 64 x 128
    window would not fit, so that the smallest person found is about 100 / `side` of that side high.
    Windows lose their margin as in OpenCV's peopledetect.cpp. The score is 1 / (1 + exp(-d)) of the
    distance d to the classifier's plane: an order, no probability; since windows with d < 0 are
    dropped it is at least 0.5, and a threshold below that leaves nothing out.

    Args:
        threshold: boxes with a lower score are left out. side: pixels. overlap: intersection over
            union above which of two boxes the one with the lower score is dropped.

    Raises:
        ConfigError: `side` is smaller than the window, or OpenCV has no HOG (5.0 left it out).
        DataError: (a call) the image is not (H, W, 3) uint8.
    """

    def __init__(self, threshold: float = 0.0, side: int = 640, overlap: float = 0.3):
        if side < max(HOG_WINDOW):
            raise ConfigError(f'side={side} of HogDetector is below the {HOG_WINDOW[1]} of HOG')
        if not hasattr(cv2, 'HOGDescriptor'):
            raise ConfigError(
                f"OpenCV {cv2.__version__} has no HOG detector: pip install 'opencv-python<5' "
                '(or opencv-python-headless), or give other boxes'
            )
        self.threshold, self.side, self.overlap = threshold, side, overlap
        self._hog = cv2.HOGDescriptor()
        self._hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Rows (n, 5) of an image (H, W, 3)."""
        height, width = image_size(image)
        scale = self.side / max(height, width)
        scaled, scales = resize(image, scale)
        missing = np.maximum(np.array(HOG_WINDOW[::-1]) - scaled.shape[:2], 0).tolist()
        scaled = cv2.copyMakeBorder(scaled, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
        windows, distances = self._hog.detectMultiScale(
            scaled, hitThreshold=0, winStride=(8, 8), padding=(8, 8), scale=1.05, groupThreshold=0
        )
        windows = np.array(windows, np.float64).reshape(-1, 4)
        distances = np.array(distances, np.float64).reshape(-1)
        order = np.lexsort(windows.T)  # threads find the windows in any order
        windows, distances = windows[order], distances[order]
        sides = windows[:, [2, 3, 2, 3]]
        boxes = windows[:, [0, 1, 0, 1]] + sides * HOG_PERSON
        kept = nms(boxes, distances, self.overlap)
        scores = 1 / (1 + np.exp(-distances[kept]))
        return as_rows(boxes[kept] / np.tile(scales, 2), scores, (height, width), self.threshold)
