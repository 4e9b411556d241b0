"""Boxes of a video from a detector on some frames, and from the last keypoints on the others."""

from collections.abc import Callable, Sequence

import numpy as np

from ...imaging.poses import KEYPOINT_THRESHOLD, Pose

MARGIN = 0.15  # of the keypoints' extent, on each side: COCO's boxes reach beyond the joints
MIN_KEYPOINTS = 3
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


def _box(pose: Pose) -> np.ndarray | None:
    """Return the box (5,) around the confident keypoints; None if they are too few."""
    points = pose.keypoints[pose.scores > KEYPOINT_THRESHOLD]
    if len(points) < MIN_KEYPOINTS:
        return None
    low, high = points.min(0), points.max(0)
    margin = MARGIN * (high - low).max()
    return np.concatenate([low - margin, high + margin, [pose.box_score]])
