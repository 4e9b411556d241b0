"""Boxes of a video from the keypoints of the last frame, after a detection or boxes by hand."""

from collections.abc import Callable, Sequence

import numpy as np

from ...imaging.crops import as_boxes
from ...imaging.poses import KEYPOINT_THRESHOLD, Pose

MARGIN = 0.15  # of the keypoints' extent, on each side: COCO's boxes reach beyond the joints
MIN_KEYPOINTS = 3  # confident ones of a person who is not lost; all of a network that has fewer
SHRINK = 0.95  # smallest share of its last size that a followed box gets: arms may be hidden
LOST = 0.5  # share of its score at detection below which a person counts as lost


class IntermittentDetector:
    """Detector that runs on each N-th frame of a video, and earlier if a person is lost.

    On the frames between, a person's box is the extent of the confident keypoints in the frame
    before, with a margin. The estimator must return the poses of a frame before it asks for the
    boxes of the next one (`live=True`), and the caller passes them to `update`.

    Args:
        detector: maps an image to boxes (n, 5).
        every: number of frames from one detection to the next.
    """

    def __init__(self, detector: Callable[[np.ndarray], np.ndarray], every: int):
        self.detector, self.every = detector, every
        self._left = 0  # frames until the next detection
        self._boxes = np.zeros((0, 5), np.float32)
        self._scores: list[float] | None = None  # of the persons at the detection

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the boxes (n, 5) of the next frame."""
        if self._left <= 0:
            self._left, self._scores = self.every, None
            self._boxes = self.detector(image)
        self._left -= 1
        return self._boxes

    def update(self, poses: Sequence[Pose]) -> None:
        """Take over the poses of the frame whose boxes were returned last."""
        if self._scores is None:
            self._scores = [pose.score for pose in poses]
        boxes = [_box(pose) for pose in poses]
        is_lost = len(poses) != len(self._scores) or any(
            box is None or pose.score < LOST * score
            for box, pose, score in zip(boxes, poses, self._scores, strict=False)
        )
        if is_lost or not poses:
            self._left = 0
        else:
            self._boxes = np.stack(boxes).astype(np.float32)

    def restart(self) -> None:
        """Detect on the next frame: it continues another run, or shows another scene."""
        self._left = 0


class FollowedBoxes:
    """Boxes of people on the first frame, which then follow their keypoints.

    Nobody is detected: a person without confident keypoints is lost, and a cut loses everybody.
    Used as `IntermittentDetector` is.

    Args:
        boxes: (n, 4) or (n, 5), on the first frame.
    """

    def __init__(self, boxes: np.ndarray):
        self._boxes = as_boxes(boxes, 'the first frame')

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the boxes (n, 5) of the next frame."""
        return self._boxes

    def update(self, poses: Sequence[Pose]) -> None:
        """Take over the poses of the frame whose boxes were returned last."""
        boxes = [_not_smaller(box, pose.box) for pose in poses if (box := _box(pose)) is not None]
        self._boxes = np.array(boxes, np.float32).reshape(-1, 5)

    def restart(self) -> None:
        """Lose everybody: the next frame shows another scene."""
        self._boxes = np.zeros((0, 5), np.float32)


def _not_smaller(box: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Enlarge a box (5,) about its center to at least `SHRINK` times the last one (4,)."""
    center, size = (box[:2] + box[2:4]) / 2, box[2:4] - box[:2]
    half = np.maximum(size, SHRINK * (last[2:] - last[:2])) / 2
    return np.concatenate([center - half, center + half, box[4:]])


def _box(pose: Pose) -> np.ndarray | None:
    """Return the box (5,) around the confident keypoints; None if they are too few."""
    points = pose.keypoints[pose.scores > KEYPOINT_THRESHOLD]
    if len(points) < min(MIN_KEYPOINTS, len(pose.scores)):
        return None
    low, high = points.min(0), points.max(0)
    margin = MARGIN * (high - low).max()
    box = np.concatenate([low - margin, high + margin, [pose.box_score]])
    # One or two keypoints, or several at one place, do not show how large a person is.
    shows_size = len(points) >= MIN_KEYPOINTS and margin > 0
    return box if shows_size else _not_smaller(box, pose.box)
