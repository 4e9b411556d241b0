"""Smoothing of keypoints over time, person by person.

Two filters: `OneEuro` is causal, adds no delay and lags a little behind fast motion; it is the one
for cameras. `LocalPolynomial` is Savitzky and Golay's filter in the form for uneven times and
weights; it reads `half_window` seconds ahead. Neither passes a cut, a frame without the person, or
a keypoint whose score is below the threshold: there a keypoint stays as it is.

Shapes: K keypoints, n frames of a window.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..imaging.poses import Pose


@dataclass(eq=False)
class Frame:
    """Poses of a frame, with identities in `Pose.track_id`.

    Attributes:
        number: from 0.
        time: in seconds.
        poses: of the frame.
        is_cut: the frame begins another scene.
    """

    number: int
    time: float
    poses: list[Pose] = field(default_factory=list)
    is_cut: bool = False


def size_of(pose: Pose) -> float:
    """Return the size of a person: the root of the box's area in pixels, 1 at least."""
    return float(max((pose.box[2:] - pose.box[:2]).clip(0).prod() ** 0.5, 1.0))


@dataclass(eq=False)
class _State:
    """Filtered keypoints (K, 2), their speed and the last ones, of one person."""

    number: int
    time: float
    raw: np.ndarray
    smooth: np.ndarray
    speed: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class OneEuro:
    """One-Euro filter (Casiez et al., CHI 2012): a low-pass filter that opens with speed.

    Args:
        min_cutoff: cutoff frequency at rest, in Hz.
        beta: increase of the cutoff, in Hz for each person's size a second.
        speed_cutoff: cutoff frequency of the speed, in Hz.
        threshold: keypoints with a lower score are passed on unchanged and restart the filter.
    """

    min_cutoff: float = 2.0
    beta: float = 5.0
    speed_cutoff: float = 1.0
    threshold: float = 0.3
    delay = 0.0

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield each frame with smoothed keypoints as soon as it arrives."""
        states: dict[int, _State] = {}
        for frame in frames:
            if frame.is_cut:
                states = {}
            states = {
                pose.track_id: self._step(pose, frame, states)
                for pose in frame.poses
                if pose.track_id is not None
            }
            poses = [
                replace(pose, keypoints=states[pose.track_id].smooth.astype(np.float32))
                if pose.track_id in states
                else pose
                for pose in frame.poses
            ]
            yield replace(frame, poses=poses)

    def _step(self, pose: Pose, frame: Frame, states: dict[int, _State]) -> _State:
        raw, valid = pose.keypoints.astype(np.float64), pose.scores >= self.threshold
        last = states.get(pose.track_id)
        if last is None or last.number != frame.number - 1:
            return _State(frame.number, frame.time, raw, raw, np.zeros_like(raw), valid)
        rate = 1 / max(frame.time - last.time, 1e-3)
        # A less certain keypoint moves the estimate less.
        trust = np.clip(pose.scores, 0.1, 1)[:, None]
        share = _share(self.speed_cutoff, rate) * trust
        speed = share * (raw - last.raw) * rate / size_of(pose) + (1 - share) * last.speed
        cutoff = self.min_cutoff + self.beta * np.linalg.norm(speed, axis=1, keepdims=True)
        share = _share(cutoff, rate) * trust
        smooth = share * raw + (1 - share) * last.smooth
        fresh = ~(valid & last.valid)[:, None]
        return _State(
            frame.number,
            frame.time,
            raw,
            np.where(fresh, raw, smooth),
            np.where(fresh, 0, speed),
            valid,
        )


def _share(cutoff, rate: float):
    """Return the weight of the new value in a first-order low-pass filter."""
    return 1 / (1 + rate / (2 * np.pi * cutoff))


@dataclass(frozen=True)
class LocalPolynomial:
    """Savitzky-Golay filter: a parabola fitted to the frames around each frame.

    At equal distances in time and equal scores it is `scipy.signal.savgol_filter`; scores are the
    weights of the fit.

    Args:
        half_window: seconds before and after a frame.
        threshold: keypoints with a lower score are left out and passed on unchanged.
    """

    half_window: float = 0.16
    threshold: float = 0.3

    @property
    def delay(self) -> float:
        """Seconds that a frame waits for those after it."""
        return self.half_window

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield each frame with smoothed keypoints, `delay` seconds later."""
        window: deque[Frame] = deque()  # all frames within reach of the next one to be yielded
        position = 0
        for frame in frames:
            window.append(frame)
            while frame.time - window[position].time > self.half_window + 1e-9:
                yield self._smooth(window, position)
                position = self._advance(window, position)
        while position < len(window):
            yield self._smooth(window, position)
            position = self._advance(window, position)

    def _advance(self, window: deque[Frame], position: int) -> int:
        """Drop frames that are out of reach of the next one; return its position."""
        position += 1
        while position < len(window) and (
            window[position].time - window[0].time > self.half_window + 1e-9
        ):
            window.popleft()
            position -= 1
        return position

    def _smooth(self, window: Sequence[Frame], position: int) -> Frame:
        frame = window[position]
        poses = [self._smooth_pose(window, position, pose) for pose in frame.poses]
        return replace(frame, poses=poses)

    def _smooth_pose(self, window: Sequence[Frame], position: int, pose: Pose) -> Pose:
        if pose.track_id is None:
            return pose
        times, poses = self._neighbours(window, position, pose)
        middle = poses.index(pose)
        scores = np.stack([other.scores for other in poses]).astype(np.float64)  # (n, K)
        # Beyond a gap in a keypoint's score nothing counts.
        valid = (scores >= self.threshold) & (scores > 0)  # scores are weights
        for step in (range(middle + 1, len(poses)), range(middle - 1, -1, -1)):
            reached = valid[middle].copy()
            for index in step:
                reached = valid[index] = valid[index] & reached
        points = np.stack([other.keypoints for other in poses]).astype(np.float64)  # (n, K, 2)
        keypoints = pose.keypoints.astype(np.float64)
        # A parabola through three points would not change them.
        chosen = valid[middle] & (valid.sum(0) > 3)
        if chosen.any():
            weights = (scores * valid)[:, chosen]
            keypoints[chosen] = _fit(np.array(times), points[:, chosen], weights)
        return replace(pose, keypoints=keypoints.astype(np.float32))

    def _neighbours(
        self, window: Sequence[Frame], position: int, pose: Pose
    ) -> tuple[list[float], list[Pose]]:
        """Return relative times and poses of the same person, without a gap around the frame."""
        here = window[position].time
        times, poses = [0.0], [pose]
        for step in (1, -1):
            index = position
            while 0 <= (index := index + step) < len(window):
                frame, cut = window[index], window[max(index, index - step)].is_cut
                if abs(frame.time - here) > self.half_window + 1e-9 or cut:
                    break
                other = next((p for p in frame.poses if p.track_id == pose.track_id), None)
                if other is None:
                    break
                at = len(times) if step > 0 else 0
                times.insert(at, frame.time - here)
                poses.insert(at, other)
        return times, poses


def _fit(times: np.ndarray, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the values at time 0 of weighted parabolas.

    Args:
        times: (n,).
        points: (n, k, 2).
        weights: (n, k).
    """
    scale = np.abs(times).max()
    powers = (times[:, None] / scale) ** np.arange(3)  # (n, 3)
    normal = np.einsum('nk,ni,nj->kij', weights, powers, powers)
    right = np.einsum('nk,ni,nkd->kid', weights, powers, points)
    return np.linalg.solve(normal, right)[:, 0]


FILTERS: dict[str, type] = {'one-euro': OneEuro, 'savgol': LocalPolynomial}
