"""Identities and smoothing, on films of people whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('scipy')
from scipy.optimize import linear_sum_assignment
from scipy.signal import savgol_filter

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.imaging.poses import Pose
from hrformer_mmpose.inference.detectors import FollowedBoxes, IntermittentDetector
from hrformer_mmpose.inference.smoothing import Frame, LocalPolynomial, OneEuro, size_of
from hrformer_mmpose.inference.tracking import Tracker
from hrformer_mmpose.synthetic.motion import Film

FPS = 25.0


def pose(keypoints, box, score=1.0, track_id=None) -> Pose:
    scores = np.full(len(keypoints), score, np.float32)
    box = np.asarray(box, np.float32)
    return Pose(np.asarray(keypoints, np.float32), scores, box, track_id=track_id)


def filmed(film: Film, noise=0.0, seed=0) -> list[Frame]:
    """Return the true poses, disturbed by `noise` times the person's size."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(film.num_frames):
        people = film.truth(number)
        poses = [pose(p.keypoints, p.box, track_id=p.track_id) for p in people]
        noisy = [
            replace(p, keypoints=p.keypoints + rng.normal(0, noise * size_of(p), (17, 2)))
            for p in poses
        ]
        frames.append(Frame(number, number / film.fps, noisy))
    return frames


def identities(film: Film) -> list[tuple[int, int, bool]]:
    """Return identity, assigned identity and `is_hidden` of each person in each frame."""
    tracker, rows = Tracker(), []
    for number in range(film.num_frames):
        people = film.truth(number)
        numbers = tracker.update([pose(p.keypoints, p.box) for p in people], number / film.fps)
        rows += [(p.track_id, n, p.is_hidden) for p, n in zip(people, numbers, strict=True)]
    return rows


def idf1(rows) -> float:
    """Return IDF1 of boxes that are all matched (Ristani et al. 2016), from its definition."""
    ours, theirs = (sorted({row[i] for row in rows}) for i in range(2))
    counts = np.zeros((len(ours), len(theirs)))
    for truth, assigned, _ in rows:
        counts[ours.index(truth), theirs.index(assigned)] += 1
    return counts[linear_sum_assignment(-counts)].sum() / len(rows)


def test_identities_of_people_who_cross_leave_and_return():
    scores = []
    for seed in range(6):
        rows = identities(Film(3 + seed, 200, seed=seed))
        assert any(hidden for *_, hidden in rows)
        scores.append(idf1([row for row in rows if not row[2]]))
    assert np.mean(scores) > 0.95
    assert min(scores) > 0.8


def test_a_person_who_is_away_for_longer_than_the_memory_is_new():
    box, points = [0, 0, 50, 100], np.random.default_rng(0).uniform(0, 50, (17, 2))
    tracker = Tracker(memory=1.0)
    times = (0, 0.04, 0.9, 2.5)
    assert [tracker.update([pose(points, box)], t) for t in times] == [[1], [1], [1], [2]]
    tracker.cut()
    assert tracker.update([pose(points, box)], 2.54) == [3]


def persons(*places) -> list[Pose]:
    """People of 17 keypoints within 60 pixels, at these places."""
    points = np.random.default_rng(0).uniform(0, 60, (17, 2))
    return [pose(points + np.array([x, 0]), [x, 0, x + 60, 60]) for x in places]


def test_people_who_cross_while_they_are_away_keep_their_identity():
    tracker = Tracker()
    for number in range(13):
        assert tracker.update(persons(10 * number, 300 - 10 * number), number / FPS) == [1, 2]
    for number in range(18, 24):
        assert tracker.update(persons(10 * number, 300 - 10 * number), number / FPS) == [1, 2]


def test_a_velocity_is_that_of_several_frames():
    """A person who stops for one frame before an absence is expected further on."""
    tracker = Tracker()
    for number, place in enumerate([0, 20, 40, 60, 80, 100, 100]):
        tracker.update(persons(place), number / FPS)
    assert tracker._tracks[0].velocity[0] == pytest.approx(0.8 * 20 * FPS, rel=1e-3)


def test_a_person_far_away_is_another_one():
    tracker = Tracker()
    assert tracker.update(persons(0), 0.0) == [1]
    assert tracker.update(persons(1000), 1 / FPS) == [2]


def test_uncertain_keypoints_hardly_count():
    """Eleven keypoints of low score change places; the six certain ones tell who is who."""
    tracker, scores = Tracker(), np.where(np.arange(17) < 11, 0.02, 1.0).astype(np.float32)
    here, there = (replace(person, scores=scores) for person in persons(0, 90))
    assert tracker.update([here, there], 0.0) == [1, 2]
    is_low = (scores < 0.5)[:, None]
    mixed = [
        replace(a, keypoints=np.where(is_low, b.keypoints, a.keypoints))
        for a, b in ((here, there), (there, here))
    ]
    assert tracker.update(mixed, 1 / FPS) == [1, 2]


def test_no_people_and_many():
    tracker = Tracker()
    assert tracker.update([], 0.0) == []
    people = [
        pose(np.full((17, 2), 100.0 * n), [100 * n] * 2 + [100 * n + 50] * 2) for n in range(3)
    ]
    assert tracker.update(people, 0.1) == [1, 2, 3]
    assert tracker.update(people[::-1], 0.2) == [3, 2, 1]
    assert tracker.update([], 0.3) == []
    assert tracker.update(people[1:2], 0.4) == [2]


def walk(count, rng, track_id=7) -> list[Frame]:
    steps = rng.normal(0, 3, (count, 17, 2)).cumsum(0) + 100
    return [
        Frame(n, n / FPS, [pose(points, [0, 0, 80, 160], track_id=track_id)])
        for n, points in enumerate(steps)
    ]


def points_of(frames) -> np.ndarray:
    return np.stack([frame.poses[0].keypoints for frame in frames])


def test_the_one_euro_filter_is_its_definition():
    """Casiez et al., with the speed in sizes of the person, and less trust in low scores."""
    rng, smooth = np.random.default_rng(4), OneEuro()
    points = rng.uniform(0, 100, (12, 17, 2)).astype(np.float32)
    scores = rng.uniform(0.35, 1, (12, 17)).astype(np.float32)
    frames = [
        Frame(n, n / FPS, [replace(pose(p, [0, 0, 80, 160], track_id=1), scores=s)])
        for n, (p, s) in enumerate(zip(points, scores, strict=True))
    ]
    ours = points_of(smooth(frames))

    def share(cutoff):
        return 2 * np.pi * cutoff / (2 * np.pi * cutoff + FPS)

    size, speed, x = (80 * 160) ** 0.5, np.zeros(2), None
    for k in range(17):
        for n in range(12):
            if n == 0:
                speed, x = np.zeros(2), points[0, k].astype(float)
            else:
                a = share(smooth.speed_cutoff) * scores[n, k]
                step = (points[n, k] - points[n - 1, k]) * FPS / size
                speed = a * step + (1 - a) * speed
                a = share(smooth.min_cutoff + smooth.beta * np.hypot(*speed)) * scores[n, k]
                x = a * points[n, k] + (1 - a) * x
            assert np.abs(ours[n, k] - x).max() < 1e-3


def test_a_parabola_needs_more_than_three_points():
    values = [50.0, 59.0, 50.0, 50.0]
    frames = [
        Frame(n, n / FPS, [pose(np.full((17, 2), x), [0, 0, 9, 9], track_id=1)])
        for n, x in enumerate(values)
    ]
    smooth = points_of(LocalPolynomial()(frames))[:, 0, 0]
    assert smooth == pytest.approx([51.35, 54.95, 54.05, 48.65], abs=0.01)
    assert points_of(LocalPolynomial()(frames[:3]))[:, 0, 0] == pytest.approx(values[:3])


def test_equal_times_and_scores_give_savitzky_and_golays_filter():
    frames = walk(40, np.random.default_rng(1))
    smooth = list(LocalPolynomial(half_window=0.16)(frames))
    expected = savgol_filter(points_of(frames).astype(np.float64), 9, 2, axis=0)
    assert [frame.number for frame in smooth] == list(range(40))
    # At the ends the window is cut off, where SciPy extrapolates from a whole one.
    assert np.abs(points_of(smooth) - expected)[4:-4].max() < 1e-3
    assert np.abs(points_of(smooth) - points_of(frames)).max() > 1


def test_a_parabola_at_uneven_times_is_left_as_it_is():
    rng = np.random.default_rng(2)
    times = rng.uniform(0.01, 0.08, 30).cumsum()
    frames = [
        Frame(n, t, [pose(np.full((17, 2), 5 + 40 * t - 30 * t * t), [0, 0, 9, 9], track_id=1)])
        for n, t in enumerate(times)
    ]
    assert np.abs(points_of(LocalPolynomial()(frames)) - points_of(frames)).max() < 1e-4


def test_an_outlier_of_low_score_counts_little():
    frames = walk(20, np.random.default_rng(3))
    level = [
        replace(f, poses=[pose(np.full((17, 2), 50.0), [0, 0, 80, 160], track_id=1)])
        for f in frames
    ]
    for score, least, most in ((1.0, 3, 99), (0.31, 0, 3)):
        scores = np.ones(17, np.float32)
        scores[3] = score
        jump = level[10].poses[0].keypoints.copy()
        jump[3] += 20
        frames = list(level)
        frames[10] = replace(
            level[10], poses=[replace(level[10].poses[0], keypoints=jump, scores=scores)]
        )
        moved = np.abs(points_of(LocalPolynomial()(frames))[9, 3] - 50).max()
        assert least < moved < most


@pytest.mark.parametrize('smooth', [OneEuro(), LocalPolynomial()], ids=['one-euro', 'savgol'])
@pytest.mark.parametrize('border', ['cut', 'identity', 'absence', 'score'])
def test_nothing_passes_a_border(smooth, border):
    """A level before it and another one after it stay levels."""
    frames = []
    for number in range(24):
        score, person = 1.0, pose(np.full((17, 2), 10.0 if number < 12 else 60.0), [0, 0, 80, 160])
        track_id = 1 + (border == 'identity' and number >= 12)
        poses = [replace(person, track_id=track_id)]
        if number == 12 and border == 'absence':
            poses = []
        if number == 12 and border == 'score':
            score = 0.1
            poses = [replace(poses[0], scores=np.full(17, score, np.float32))]
        frames.append(Frame(number, number / FPS, poses, border == 'cut' and number == 12))
    for before, after in zip(frames, smooth(frames), strict=True):
        for a, b in zip(before.poses, after.poses, strict=True):
            assert np.array_equal(a.keypoints, b.keypoints)


@pytest.mark.parametrize('noise', [0.01, 0.03])
@pytest.mark.parametrize('smooth', [OneEuro(), LocalPolynomial()], ids=['one-euro', 'savgol'])
def test_steadier_and_hardly_displaced(smooth, noise):
    """A third less error of acceleration, at most 2 % of the size more error of position."""
    film = Film(4, 150, seed=5)
    truth, noisy = filmed(film), filmed(film, noise)
    errors = []
    for frames in (noisy, list(smooth(noisy))):
        series: dict[tuple, list] = {}
        for frame, true in zip(frames, truth, strict=True):
            for a, b in zip(frame.poses, true.poses, strict=True):
                series.setdefault(a.track_id, []).append(
                    (frame.number, (a.keypoints - b.keypoints) / size_of(b))
                )
        position, acceleration = [], []
        for rows in series.values():
            numbers = np.array([number for number, _ in rows])
            for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(numbers) > 1) + 1):
                values = np.stack([rows[i][1] for i in part])
                position += [np.linalg.norm(values, axis=2).ravel()]
                acceleration += [np.linalg.norm(np.diff(values, 2, axis=0), axis=2).ravel()]
        errors.append((np.concatenate(position).mean(), np.concatenate(acceleration).mean()))
    (before, shaking), (after, steady) = errors
    assert steady < 2 / 3 * shaking
    assert after < before + 0.02


@pytest.mark.parametrize('smooth', [OneEuro(threshold=0.0), LocalPolynomial(threshold=0.0)])
def test_scores_of_zero_weigh_nothing(smooth):
    points = np.full((17, 2), 50.0)
    frames = [
        Frame(n, n / FPS, [pose(points, [0, 0, 80, 160], score=0.0, track_id=1)]) for n in range(9)
    ]
    for frame in smooth(frames):
        np.testing.assert_array_equal(frame.poses[0].keypoints, points)


@pytest.mark.parametrize('smooth', [OneEuro(), LocalPolynomial()], ids=['one-euro', 'savgol'])
def test_frames_leave_in_order_with_the_stated_delay(smooth):
    """A camera can be filtered: no frame waits for more frames than `delay` covers, and one."""
    taken = []
    source = (taken.append(frame) or frame for frame in walk(50, np.random.default_rng(0)))
    for number, frame in enumerate(smooth(source)):
        assert frame.number == number
        assert len(taken) - number - 1 <= smooth.delay * FPS + 1
    assert number == 49


class TestIntermittentDetector:
    """Boxes between detections, for people whose keypoints are known."""

    def test_boxes_follow_the_keypoints(self):
        film, calls = Film(1, 40, seed=5), []
        frame = iter(range(40))

        def detect(image):
            calls.append(image)
            return np.array([[*p.box, 1.0] for p in film.truth(image)], np.float32)

        detector, overlaps = IntermittentDetector(detect, 5), []
        for number in frame:
            boxes = detector(number)
            (person,) = film.truth(number)
            overlaps.append(iou(boxes[0, :4], person.box))
            detector.update([pose(person.keypoints, boxes[0, :4])])
        assert calls == list(range(0, 40, 5))
        assert min(overlaps) > 0.5
        assert min(overlaps[::5]) > 0.999

    @pytest.mark.parametrize('loss', ['score', 'keypoints', 'nobody'])
    def test_a_lost_person_calls_the_detector(self, loss):
        calls = []
        box, points = [0, 0, 50, 100], np.random.default_rng(0).uniform(0, 50, (17, 2))

        def detect(image):
            calls.append(image)
            return np.array([[*box, 1.0]], np.float32)

        detector = IntermittentDetector(detect, 100)
        lost = {
            'score': [pose(points, box, score=0.4)],
            'keypoints': [replace(pose(points, box), scores=np.eye(17, dtype=np.float32)[0])],
            'nobody': [],
        }[loss]
        for number in range(10):
            detector(number)
            detector.update(lost if number == 3 else [pose(points, box)])
        assert calls == [0, 4]

    @pytest.mark.parametrize(('score', 'is_lost'), [(0.25, True), (0.4, False)])
    def test_a_score_counts_beside_that_at_the_detection(self, score, is_lost):
        box, points = [0, 0, 50, 100], np.random.default_rng(0).uniform(0, 50, (17, 2))
        detector = IntermittentDetector(lambda image: np.array([[*box, 1.0]], np.float32), 100)
        for value in (0.6, score):
            detector(None)
            detector.update([pose(points, box, score=value)])
        assert (detector._left == 0) == is_lost

    def test_one_person_of_two_who_is_missing_calls_the_detector(self):
        detector = IntermittentDetector(lambda image: np.zeros((2, 5), np.float32), 100)
        people = persons(0, 100)
        detector(None)
        detector.update(people)
        assert detector._left == 99
        detector.update(people[:1])
        assert detector._left == 0

    def test_a_new_scene_calls_the_detector(self):
        calls = []
        detector = IntermittentDetector(lambda image: calls.append(image) or np.zeros((0, 5)), 100)
        detector._left = 50
        detector.restart()
        detector(7)
        assert calls == [7]


def iou(a, b) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = (high - low).clip(0).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


class TestFollowedBoxes:
    """Boxes drawn on the first frame, for people whose keypoints are known."""

    def test_boxes_follow_the_keypoints_without_a_detection(self):
        film, overlaps = Film(1, 40, seed=3), []
        detector = FollowedBoxes(np.stack([person.box for person in film.truth(0)]))
        for number in range(40):
            (box,) = detector(None)
            (person,) = film.truth(number)
            overlaps.append(iou(box[:4], person.box))
            detector.update([pose(person.keypoints, box[:4])])
        assert overlaps[0] > 0.999
        assert min(overlaps) > 0.5

    def test_a_lost_person_stays_lost_and_the_others_stay(self):
        points, box = np.random.default_rng(0).uniform(0, 50, (17, 2)), [0, 0, 50, 100]
        detector = FollowedBoxes([box, [100, 0, 150, 100]])
        gone = replace(pose(points, box), scores=np.eye(17, dtype=np.float32)[0])
        detector.update([gone, pose(points + np.array([100, 0]), [100, 0, 150, 100])])
        (left,) = detector(None)
        assert left[0] > 80

    def test_hidden_arms_and_legs_do_not_shrink_a_box_at_once(self):
        points = np.random.default_rng(0).uniform(0, 50, (17, 2))
        head = replace(pose(points / 10, [0, 0, 50, 50]), scores=np.full(17, 0.9, np.float32))
        detector = FollowedBoxes([[0, 0, 50, 50]])
        detector.update([head])
        (box,) = detector(None)
        np.testing.assert_allclose(box[2:4] - box[:2], 0.95 * 50, rtol=1e-4)

    @pytest.mark.parametrize('count', [1, 2])
    def test_networks_of_one_or_two_keypoints_follow_people(self, count):
        detector = FollowedBoxes([[0, 0, 50, 50]])
        detector.update([pose(np.full((count, 2), 30.0), [0, 0, 50, 50])])
        (box,) = detector(None)
        np.testing.assert_allclose(box[:4], 30 + 0.95 * 25 * np.array([-1, -1, 1, 1]), rtol=1e-4)

    def test_a_cut_loses_everybody(self):
        detector = FollowedBoxes([[0, 0, 50, 50]])
        detector.restart()
        assert detector(None).shape == (0, 5)

    def test_boxes_that_are_none(self):
        with pytest.raises(DataError, match='the boxes of the first frame'):
            FollowedBoxes([['a', 0, 1, 1]])


@pytest.mark.parametrize('smooth', [OneEuro(), LocalPolynomial()], ids=['one-euro', 'savgol'])
def test_people_without_an_identity_stay_as_they_are(smooth):
    frames = [
        Frame(number, number / FPS, [pose(np.full((17, 2), x + number**2), [0, 0, 80, 160])
                                     for x in (1, 100)])
        for number in range(12)
    ]  # fmt: skip
    for before, after in zip(frames, smooth(frames), strict=True):
        for a, b in zip(before.poses, after.poses, strict=True):
            np.testing.assert_array_equal(a.keypoints, b.keypoints)
