"""OpenCV's built-in people detector."""

import cv2
import numpy as np

from ...errors import ConfigError
from .common import as_rows, image_size, nms, resize

HOG_WINDOW = (64, 128)  # (width, height) of the people detector's window in pixels
# The person in the window: x0, y0, x1, y1 relative to its size (OpenCV's peopledetect.cpp).
HOG_PERSON = np.array([0.1, 0.07, 0.9, 0.87])


class HogDetector:
    """OpenCV's built-in people detector: histograms of gradients and a linear classifier.

    It needs no file but detects only whole upright pedestrians (Dalal and Triggs, CVPR 2005;
    OpenCV's weights). On 118 images of COCO val2017 with 192 persons, at an intersection over union
    of 0.5, its recall is 12 % and its precision 18 %; with threshold=0.62, 8 % and 38 %. It detects
    22 of the 77 persons whose shoulders, hips and ankles are all labelled. An image takes 0.11 s of
    one CPU thread (OpenCV 4.11).

    The image is scaled to a longer side of `side` pixels and padded if it is smaller than the
    64 x 128 window. The smallest detectable person is about 100 / `side` of the longer side high.
    Boxes are windows without their margin, as in OpenCV's peopledetect.cpp. The score is the
    sigmoid of the distance to the classifier's plane: a ranking, not a probability. Windows of
    negative distance are dropped, so that the score is at least 0.5.

    Args:
        threshold: boxes with a lower score are dropped.
        side: longer side of the scaled image in pixels.
        overlap: maximum intersection over union of two boxes; the lower score is dropped.

    Raises:
        ConfigError: `side` is smaller than the window, or OpenCV has no HOG (removed in 5.0).
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
        """Detect persons in an image (H, W, 3) BGR uint8; return boxes (n, 5)."""
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
        order = np.lexsort(windows.T)  # threads return the windows in any order
        windows, distances = windows[order], distances[order]
        sides = windows[:, [2, 3, 2, 3]]
        boxes = windows[:, [0, 1, 0, 1]] + sides * HOG_PERSON
        kept = nms(boxes, distances, self.overlap)
        scores = 1 / (1 + np.exp(-distances[kept]))
        return as_rows(boxes[kept] / np.tile(scales, 2), scores, (height, width), self.threshold)
