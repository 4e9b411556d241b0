"""Identities of people in a video, by the similarity of their poses in successive frames.

The similarity is COCO's object keypoint similarity (OKS) with one wide sigma for all keypoints,
between a person's predicted pose and each pose of the frame. Boxes alone confuse people who cross:
their boxes overlap almost wholly while their keypoints do not.

Shapes: T tracks, N poses, K keypoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..imaging.poses import Pose

SPREAD = 0.42  # distance, relative to the root of the box's area, at which OKS falls to exp(-1/2)
GROWTH = 2.0  # of `SPREAD`, in each second without a match
MIN_SIMILARITY = 0.1
INERTIA = 0.8  # weight of a track's velocity against that of its last two poses


@dataclass(eq=False)
class _Track:
    """A person who was seen.

    Attributes:
        number: identity.
        pose: last one.
        time: of the last pose, in seconds.
        velocity: (2,) pixels a second, of the whole body; None before the second pose.
    """

    number: int
    pose: Pose
    time: float
    velocity: np.ndarray | None = None

    def predict(self, time: float) -> np.ndarray:
        """Return the keypoints (K, 2) at a time, by constant velocity."""
        moved = 0 if self.velocity is None else self.velocity * (time - self.time)
        return self.pose.keypoints + moved

    def update(self, pose: Pose, time: float) -> None:
        """Take over the pose of a later frame."""
        weights = _weights(self.pose, pose)[:, None]
        step = ((pose.keypoints - self.pose.keypoints) * weights).sum(0) / weights.sum()
        velocity = step / max(time - self.time, 1e-3)
        if self.velocity is not None:
            velocity = INERTIA * self.velocity + (1 - INERTIA) * velocity
        self.pose, self.time, self.velocity = pose, time, velocity


class Tracker:
    """Assign identities to the poses of successive frames.

    Poses of a frame are matched to the known people at once, with the highest sum of similarities.
    A pose without a match is a new person.

    Args:
        memory: seconds for which the identity of an absent person is kept.
        first: number of the first identity.

    Raises:
        DataError: SciPy is not installed.
    """

    def __init__(self, memory: float = 2.0, first: int = 1):
        try:
            from scipy.optimize import linear_sum_assignment
        except ImportError as error:
            raise DataError('tracking needs a package: pip install scipy') from error
        self._assign = linear_sum_assignment
        self.memory = memory
        self._next = first
        self._tracks: list[_Track] = []

    def update(self, poses: Sequence[Pose], time: float) -> list[int]:
        """Return the identity of each pose.

        Args:
            poses: of one frame.
            time: of the frame in seconds, later than that of the frame before.
        """
        self._tracks = [track for track in self._tracks if time - track.time <= self.memory]
        similarities = np.array(
            [[_similarity(t, pose, time) for pose in poses] for t in self._tracks]
        )
        numbers: list[int | None] = [None] * len(poses)
        if similarities.size:
            for row, column in zip(*self._assign(-similarities), strict=True):
                if similarities[row, column] >= MIN_SIMILARITY:
                    self._tracks[row].update(poses[column], time)
                    numbers[column] = self._tracks[row].number
        for column, pose in enumerate(poses):
            if numbers[column] is None:
                numbers[column] = self._next
                self._tracks.append(_Track(self._next, pose, time))
                self._next += 1
        return numbers

    def cut(self) -> None:
        """Forget all people: the next frame shows another scene."""
        self._tracks = []


def _similarity(track: _Track, pose: Pose, time: float) -> float:
    """Return the OKS of a pose and the prediction of a track, weighted by both scores."""
    spread = SPREAD * (1 + GROWTH * (time - track.time))
    area = (_area(track.pose) + _area(pose)) / 2
    distances = ((track.predict(time) - pose.keypoints) ** 2).sum(1)
    values = np.exp(-distances / (2 * spread**2 * max(area, 1)))
    return float(np.average(values, weights=_weights(track.pose, pose)))


def _area(pose: Pose) -> float:
    return float((pose.box[2:] - pose.box[:2]).clip(0).prod())


def _weights(a: Pose, b: Pose) -> np.ndarray:
    """Return (K,) weights of keypoints, small where either score is."""
    return np.clip(np.minimum(a.scores, b.scores), 0.01, 1)
