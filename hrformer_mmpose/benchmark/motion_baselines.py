"""Trackers and smoothers of other packages, restated from their definitions.

Shapes: T successive frames, K keypoints, n people of a frame.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import medfilt, savgol_filter


class IouTracker:
    """Tracker of rtmlib (`PoseTracker.track_by_iou`): boxes matched greedily by their overlap.

    A pose's box is the extent of its keypoints, enlarged. It takes the identity of the box in the
    frame before that overlaps most, if that is enough, and no other pose can have that one. Nobody
    is remembered for longer than a frame. After a frame without people, identities start at 0.
    """

    ENLARGEMENT = 1.25
    MIN_IOU = 0.3
    MIN_AREA = 1000  # square pixels of a new person; smaller ones are dropped

    def __init__(self):
        self._boxes: list[np.ndarray] = []
        self._numbers: list[int] = []
        self._next = 0

    def update(self, keypoints: list[np.ndarray]) -> list[int | None]:
        """Return the identity of each pose of a frame, None if it is dropped.

        Args:
            keypoints: (K, 2) pixels, n times.
        """
        if not self._numbers:
            self._next = 0
        boxes, numbers = [_extent(points, self.ENLARGEMENT) for points in keypoints], []
        for box in boxes:
            overlaps = [_iou(box, other) for other in self._boxes]
            if overlaps and max(overlaps) > self.MIN_IOU:
                best = int(np.argmax(overlaps))
                self._boxes.pop(best)
                numbers.append(self._numbers.pop(best))
            elif (box[2:] - box[:2]).prod() >= self.MIN_AREA:
                numbers.append(self._next)
                self._next += 1
            else:
                numbers.append(None)
        tracked = [pair for pair in zip(boxes, numbers, strict=True) if pair[1] is not None]
        self._boxes, self._numbers = [box for box, _ in tracked], [n for _, n in tracked]
        return numbers


def _extent(points: np.ndarray, enlargement: float) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    margin = (high - low) * (enlargement - 1) / 2
    return np.concatenate([low - margin, high + margin])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def one_euro(points: np.ndarray, min_cutoff: float = 0.004, beta: float = 0.7) -> np.ndarray:
    """Smooth by MMPose 0.29's `OneEuroFilter`: times in frames, coordinates in pixels.

    Unlike in the paper, the speed is measured from the last filtered value.

    Args:
        points: (T, K, 2) of a person.
        min_cutoff: cutoff frequency at rest, per frame.
        beta: increase of the cutoff for each pixel a frame.
    """
    smooth, speed = [points[0].astype(np.float64)], np.zeros(points.shape[1:])
    for value in points[1:]:
        share = _share(1.0)
        speed = share * (value - smooth[-1]) + (1 - share) * speed
        share = _share(min_cutoff + beta * np.abs(speed))
        smooth.append(share * value + (1 - share) * smooth[-1])
    return np.stack(smooth)


def _share(cutoff):
    return 2 * np.pi * cutoff / (2 * np.pi * cutoff + 1)


def gaussian(points: np.ndarray, window: int = 11, sigma: float = 4.0) -> np.ndarray:
    """Smooth (T, K, 2) by MMPose 0.29's `GaussianFilter`: a median, then a Gaussian."""
    padded = _padded(points, window)
    medians = medfilt(padded, (window, 1, 1))
    return gaussian_filter1d(medians, sigma, axis=0)[-len(points) :]


def savgol(points: np.ndarray, window: int = 11, order: int = 2) -> np.ndarray:
    """Smooth (T, K, 2) by MMPose 0.29's `SavizkyGolayFilter`."""
    return savgol_filter(_padded(points, window), window, order, axis=0)[-len(points) :]


def _padded(points: np.ndarray, length: int) -> np.ndarray:
    """Repeat the first frame until there are `length` frames."""
    points = points.astype(np.float64)
    return np.pad(points, ((max(length - len(points), 0), 0), (0, 0), (0, 0)), 'edge')


FILTERS = {'OneEuroFilter': one_euro, 'GaussianFilter': gaussian, 'SavizkyGolayFilter': savgol}
