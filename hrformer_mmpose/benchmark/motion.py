"""Identities and smoothed keypoints of generated films, beside other packages' methods.

The poses are the true ones with a normal error of each coordinate, independent from frame to frame;
real networks' errors last longer. Shapes: K keypoints, T successive frames.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..imaging.poses import Pose
from ..inference.smoothing import FILTERS, Frame, size_of
from ..inference.tracking import Tracker
from ..synthetic.motion import Film
from . import motion_baselines, report

MISSED = 0.7  # share of the hidden people that a detector misses, in one of the cases
# Error as a share of a person's size, and share of hidden people who are not detected.
TRACKING_CASES = {'true poses': (0, 0), 'error of 3 %': (0.03, 0), 'hidden missed': (0.03, MISSED)}
ERRORS = (0.01, 0.03)  # as a share of a person's size
Assigned = list[int | None]


@dataclass(frozen=True)
class MotionOptions:
    """Options of `run`.

    Attributes:
        films: number of films.
        frames: length of each.
        update: Markdown file whose section is replaced, or None.
    """

    films: int
    frames: int
    update: str | None


@dataclass(frozen=True)
class Identified:
    """A true person in a frame.

    Attributes:
        truth: true identity.
        assigned: identity given by a tracker; None if it has none for this person.
        is_hidden: nearer people cover the person.
    """

    truth: int
    assigned: int | None
    is_hidden: bool


def run(args: MotionOptions) -> dict:
    """Compare trackers and filters, print tables and update a file.

    Returns:
        `tracking` and `smoothing`: rows of the tables.
    """
    films = [Film(3 + seed % 6, args.frames, seed=seed) for seed in range(args.films)]
    tracking, smoothing = [*_tracking_rows(films)], [*_smoothing_rows(films)]
    lines = [
        f'{args.films} films of {args.frames} frames with three to eight people:',
        '',
        *report.table([*tracking[0]], [[*row.values()] for row in tracking]),
        '',
        *report.table([*smoothing[0]], [[*row.values()] for row in smoothing]),
    ]
    print(file=sys.stderr)
    print('\n'.join(lines))
    report.update(args.update, 'motion', lines)
    return dict(tracking=tracking, smoothing=smoothing)


def _print_progress(name: str) -> None:
    print(f'\r\x1b[K  {name}', end='', file=sys.stderr, flush=True)


def _tracking_rows(films: Sequence[Film]) -> Iterator[dict[str, str]]:
    """Yield the IDF1 of each tracker: over frames in which a person is not hidden, and over all."""
    for name, tracker in (('here', our_identities), ('rtmlib', iou_identities)):
        _print_progress(name)
        row = {'IDF1, without / with hidden': name}
        for case, (error, missed) in TRACKING_CASES.items():
            people = [identify(film, tracker, error, missed) for film in films]
            seen = [idf1([p for p in film if not p.is_hidden]) for film in people]
            row[case] = f'{np.mean(seen):.3f} / {np.mean([*map(idf1, people)]):.3f}'
        yield row


def our_identities(frames: Iterable[Frame]) -> Iterator[Assigned]:
    """Yield the identities that this package assigns to the poses of each frame."""
    tracker = Tracker()
    for frame in frames:
        yield tracker.update(frame.poses, frame.time)


def iou_identities(frames: Iterable[Frame]) -> Iterator[Assigned]:
    """Yield the identities that rtmlib's tracker assigns to the poses of each frame."""
    tracker = motion_baselines.IouTracker()
    for frame in frames:
        yield tracker.update([pose.keypoints for pose in frame.poses])


def identify(
    film: Film,
    tracker: Callable[[Iterable[Frame]], Iterator[Assigned]],
    error: float,
    missed: float,
) -> list[Identified]:
    """Track the people of a film.

    Args:
        film: of people.
        tracker: maps frames to identities.
        error: of the keypoints, as a share of a person's size.
        missed: share of hidden people who are not detected.
    """
    rng = np.random.default_rng(0)
    truth = [film.truth(number) for number in range(film.num_frames)]
    is_seen = [[not p.is_hidden or rng.random() >= missed for p in people] for people in truth]
    frames = [
        replace(frame, poses=[pose for pose, seen in zip(frame.poses, mask, strict=True) if seen])
        for frame, mask in zip(disturbed(film, error), is_seen, strict=True)
    ]
    people = []
    for persons, mask, numbers in zip(truth, is_seen, tracker(frames), strict=True):
        left = iter(numbers)
        people += [
            Identified(person.track_id, next(left) if seen else None, person.is_hidden)
            for person, seen in zip(persons, mask, strict=True)
        ]
    return people


def idf1(people: Sequence[Identified]) -> float:
    """Return IDF1 (Ristani et al. 2016) of boxes that are the true ones."""
    assigned = [person for person in people if person.assigned is not None]
    truths, numbers = ({getattr(p, key) for p in assigned} for key in ('truth', 'assigned'))
    rows, columns = ({value: i for i, value in enumerate(values)} for values in (truths, numbers))
    counts = np.zeros((len(rows), len(columns)), int)
    for person in assigned:
        counts[rows[person.truth], columns[person.assigned]] += 1
    right = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return 2 * right / max(len(people) + len(assigned), 1)


def disturbed(film: Film, error: float, seed: int = 0) -> list[Frame]:
    """Return the true poses of a film with an error, a share of each person's size."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(film.num_frames):
        poses = []
        for person in film.truth(number):
            scores = np.ones(len(person.keypoints), np.float32)
            pose = Pose(person.keypoints, scores, person.box, track_id=person.track_id)
            noise = rng.normal(0, error * size_of(pose), pose.keypoints.shape)
            poses.append(replace(pose, keypoints=pose.keypoints + noise))
        frames.append(Frame(number, number / film.fps, poses))
    return frames


def _smoothing_rows(films: Sequence[Film]) -> Iterator[dict[str, str]]:
    """Yield the errors of each filter: of acceleration relative to raw ones, and of position."""
    methods = {'raw': lambda frames: frames}
    methods |= {f'here, {name}': kind() for name, kind in FILTERS.items()}
    methods |= {
        f'MMPose 0.x, {name}': _by_person(smooth)
        for name, smooth in motion_baselines.FILTERS.items()
    }
    raw: dict[float, float] = {}  # error of acceleration without a filter
    for name, method in methods.items():
        _print_progress(name)
        row = {'error of acceleration / of position': name}
        for error in ERRORS:
            position, acceleration = smoothing_errors(films, method, error)
            shaking = acceleration / raw.setdefault(error, acceleration)
            row[f'error of {100 * error:.0f} %'] = f'{shaking:.0%} / {position:.1%}'
        yield row


def _by_person(smooth: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """Return a filter of frames that smooths each person's uninterrupted sequences (T, K, 2)."""

    def filtered(frames: Sequence[Frame]) -> list[Frame]:
        results = [replace(frame, poses=list(frame.poses)) for frame in frames]
        for places in sequences(frames):
            poses = [frames[number].poses[index] for number, index in places]
            points = smooth(np.stack([pose.keypoints for pose in poses]))
            for (number, index), pose, values in zip(places, poses, points, strict=True):
                results[number].poses[index] = replace(pose, keypoints=values)
        return results

    return filtered


def smoothing_errors(
    films: Sequence[Film], smooth: Callable[[list[Frame]], Iterable[Frame]], error: float
) -> tuple[float, float]:
    """Return the mean errors of position and acceleration, by a person's size (a squared frame).

    Args:
        films: of people, whose true identities are used.
        smooth: filter of frames.
        error: of the keypoints, as a share of a person's size.
    """
    positions, accelerations = [], []
    for seed, film in enumerate(films):
        truth = disturbed(film, 0)
        frames = list(smooth(disturbed(film, error, seed)))
        for places in sequences(truth):
            errors = np.stack([_error(truth, frames, *place) for place in places])  # (T, K, 2)
            positions += [np.linalg.norm(errors, axis=2).ravel()]
            accelerations += [np.linalg.norm(np.diff(errors, 2, axis=0), axis=2).ravel()]
    return np.concatenate(positions).mean(), np.concatenate(accelerations).mean()


def _error(truth: list[Frame], frames: list[Frame], number: int, index: int) -> np.ndarray:
    """Return the error (K, 2) of a pose, relative to the person's size."""
    true, pose = (rows[number].poses[index] for rows in (truth, frames))
    return (pose.keypoints - true.keypoints) / size_of(true)


def sequences(frames: Sequence[Frame]) -> list[list[tuple[int, int]]]:
    """Return the places (frame, index of the pose) of each person's uninterrupted sequences."""
    complete, open_ones = [], {}
    for number, frame in enumerate(frames):
        current = {}
        for index, pose in enumerate(frame.poses):
            current[pose.track_id] = open_ones.get(pose.track_id, [])
            current[pose.track_id].append((number, index))
        complete += [places for key, places in open_ones.items() if key not in current]
        open_ones = current
    return [*complete, *open_ones.values()]
