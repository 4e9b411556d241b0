"""Films of walking people with known identities, keypoints and occlusions.

People walk to and fro on straight lines at different depths, so that they cross, leave the image
and return. A cut replaces all people and the background.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .canvas import PART_BASE, Canvas
from .painting import paint_person
from .people import Person, blend, make_poses
from .scenes import background

STEP = 0.45  # seconds between two poses of a walker
HIDDEN = 0.25  # share of a box that nearer people cover from which a person counts as occluded
_POSES = 4


@dataclass(frozen=True, eq=False)
class Truth:
    """A person in a frame.

    Attributes:
        track_id: unique in the film.
        keypoints: (17, 2) pixels.
        box: (4,) x0, y0, x1, y1 in pixels, clipped to the image.
        is_hidden: nearer people cover more than `HIDDEN` of the box.
    """

    track_id: int
    keypoints: np.ndarray
    box: np.ndarray
    is_hidden: bool


@dataclass(frozen=True, eq=False)
class _Walker:
    """A person on a line from `start` to `end` (x in pixels) and back, in `duration` seconds."""

    track_id: int
    poses: list[Person]
    start: float
    end: float
    duration: float
    phase: float

    def at(self, time: float) -> Person:
        """Return the posed and placed person at a time in seconds."""
        step = time / STEP + self.phase
        number, part = int(step), step % 1
        a, b = (self.poses[(number + i) % len(self.poses)] for i in range(2))
        person = blend(a, b, part * part * (3 - 2 * part))
        way = 1 - abs(1 - 2 * ((time / self.duration + self.phase) % 1))
        return replace(person, offset=(self.start + way * (self.end - self.start), a.offset[1]))


@dataclass(frozen=True, eq=False)
class _Shot:
    """People, sorted from far to near, before one background."""

    background: np.ndarray
    walkers: list[_Walker]


class Film:
    """A film of walking people; the same arguments give the same film.

    Args:
        num_people: people in a shot, 1 to 8.
        num_frames: length.
        image_size: (width, height) in pixels.
        fps: frames a second.
        cuts: frames at which a new shot begins.
        seed: of the random generator.
    """

    def __init__(
        self,
        num_people: int = 4,
        num_frames: int = 200,
        image_size: tuple[int, int] = (640, 360),
        fps: float = 25.0,
        cuts: tuple[int, ...] = (),
        seed: int = 0,
    ):
        rng = np.random.default_rng(seed)
        self.num_frames, self.image_size, self.fps = num_frames, image_size, fps
        self._starts = (0, *cuts)
        self._shots = [
            _shot(rng, image_size, num_people, number * num_people)
            for number in range(len(self._starts))
        ]

    def truth(self, frame: int) -> list[Truth]:
        """Return the people of whom at least a third is within the image, from far to near."""
        people = self._people(frame)
        boxes = [np.concatenate(person.extent()) for _, person in people]
        limit = np.array(self.image_size * 2) - 1.0
        clipped = [box.clip(0, limit) for box in boxes]
        result = []
        for number, ((track_id, person), box) in enumerate(zip(people, boxes, strict=True)):
            inside = clipped[number]
            if _area(inside) < _area(box) / 3:
                continue
            covered = sum(_area(_intersection(inside, near)) for near in clipped[number + 1 :])
            hidden = covered > HIDDEN * _area(inside)
            result.append(Truth(track_id, person.keypoints, inside, hidden))
        return result

    def image(self, frame: int) -> np.ndarray:
        """Draw a frame, (H, W, 3) BGR uint8."""
        canvas = Canvas(self.background(frame))
        for number, (_, person) in enumerate(self._people(frame)):
            paint_person(canvas, person, 1 + number % (256 // PART_BASE - 1))
        return canvas.image

    def background(self, frame: int) -> np.ndarray:
        """Return a frame without people, (H, W, 3) BGR uint8."""
        return self._shot(frame).background.copy()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the frames in order."""
        return map(self.image, range(self.num_frames))

    def _shot(self, frame: int) -> _Shot:
        return self._shots[int(np.searchsorted(self._starts, frame, side='right')) - 1]

    def _people(self, frame: int) -> list[tuple[int, Person]]:
        walkers = self._shot(frame).walkers
        return [(walker.track_id, walker.at(frame / self.fps)) for walker in walkers]


def _shot(rng: np.random.Generator, image_size: tuple[int, int], people: int, first: int) -> _Shot:
    width, height = image_size
    scales = np.sort(height * rng.uniform(0.35, 0.7, people))
    walkers = []
    for number, scale in enumerate(scales):
        poses = make_poses(rng, _POSES, float(rng.choice((-1, 1)) * rng.uniform(10, 32)))
        feet = height * np.interp(scale / height, [0.35, 0.7], [0.7, 0.97])
        for pose in poses:
            pose.scale = float(scale)
            pose.offset = (0.0, float(feet - 0.5 * scale))
        ends = rng.uniform((-0.15 * width, 0.75 * width), (0.25 * width, 1.15 * width))
        start, end = ends if rng.random() < 0.5 else ends[::-1]
        seconds = 2 * abs(end - start) / (scale * rng.uniform(0.4, 0.9))  # heights a second
        walkers.append(_Walker(first + number, poses, start, end, seconds, rng.uniform(0, 4)))
    return _Shot(background(rng, width, height), walkers)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])])


def _area(box: np.ndarray) -> float:
    return float((box[2:] - box[:2]).clip(0).prod())
