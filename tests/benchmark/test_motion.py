"""The comparison of trackers and smoothers on generated films."""

import re

import numpy as np
import pytest

pytest.importorskip('scipy')
from hrformer_mmpose.benchmark import motion, motion_baselines
from hrformer_mmpose.benchmark.motion import Identified, MotionOptions, idf1
from hrformer_mmpose.benchmark.motion_baselines import IouTracker
from hrformer_mmpose.cli import benchmark
from hrformer_mmpose.synthetic.motion import Film


def test_idf1_by_hand():
    """Of five boxes, two keep the first person's identity, one the second's; one is missed."""
    people = [Identified(*row, False) for row in [(0, 7), (0, 7), (0, 8), (1, 8), (1, None)]]
    assert idf1(people) == pytest.approx(2 * 3 / (5 + 4))
    assert idf1([Identified(0, 3, False)] * 4) == 1
    assert idf1([Identified(0, None, False)] * 4) == 0


def square(x: float, side: float = 100) -> np.ndarray:
    return np.array([[x, 0], [x + side, side]])


def test_the_iou_tracker_is_greedy_and_forgets():
    tracker = IouTracker()
    assert tracker.update([square(0), square(200), square(400, 10)]) == [0, 1, None]
    # The first pose takes the box that overlaps most, although the second one fits it better.
    assert tracker.update([square(180), square(200)]) == [1, 2]
    assert tracker.update([]) == []
    assert tracker.update([square(200)]) == [0]


def test_the_published_filters():
    rng = np.random.default_rng(0)
    line = np.linspace(0, 50, 40)[:, None, None] + np.zeros((1, 17, 2))
    shaking = line + rng.normal(0, 2, line.shape)
    for name, smooth in motion_baselines.FILTERS.items():
        assert smooth(shaking).shape == smooth(shaking[:3])[[0] * 40].shape == line.shape, name
        if name != 'OneEuroFilter':
            assert np.abs(smooth(shaking) - line).mean() < np.abs(shaking - line).mean()
    assert np.abs(motion_baselines.savgol(line) - line).max() < 1e-9
    # At rest the cutoff is low: the second value counts 2 pi 0.004 / (1 + 2 pi 0.004) and more.
    still = np.zeros((2, 1, 1))
    still[1] = 1e-6
    assert motion_baselines.one_euro(still)[1].item() == pytest.approx(1e-6 * 0.02451, rel=0.01)


def test_one_command_fills_the_section_of_a_file(tmp_path, monkeypatch, capsys):
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- motion -->\nold\n<!-- end of motion -->\nafter\n')
    flags = ['motion', '--films', '1', '--frames', '12', '--rounds', '0', '--update', str(page)]
    benchmark.run(benchmark.parser().parse_args(flags))
    text = page.read_text()
    assert text.startswith('before\n<!-- motion -->\n')
    assert 'old' not in text
    assert text.endswith('<!-- end of motion -->\nafter\n')
    for row in ('here', 'rtmlib', 'raw', 'here, one-euro', 'MMPose 0.x, OneEuroFilter'):
        assert f'| {row} | ' in text
    raw = re.search(r'\| raw \| 100% / ([\d.]+)% \| 100% / ([\d.]+)% \|', text)
    expected = [100 * error * np.sqrt(np.pi / 2) for error in (0.01, 0.03)]  # of Rayleigh's law
    assert [float(value) for value in raw.groups()] == pytest.approx(expected, rel=0.05)
    assert text.splitlines()[2] in capsys.readouterr().out


def figures(row: dict) -> list[tuple[float, float]]:
    cells = [*row.values()][1:]
    return [tuple(map(float, re.findall(r'[\d.]+', cell))) for cell in cells]


@pytest.mark.slow
def test_bars():
    results = motion.run(MotionOptions(16, 200, None))
    ours, theirs = map(figures, results['tracking'])
    assert ours[0][0] >= 0.95
    assert np.all(np.array(ours) > np.array(theirs))
    raw, *filters = results['smoothing']
    for row in filters[:2]:
        assert next(iter(row.values())).startswith('here, ')
        for (shaking, position), (_, before) in zip(figures(row), figures(raw), strict=True):
            assert shaking <= 67
            assert position <= before + 2


@pytest.mark.slow
def test_the_time_of_a_video(capsys):
    pytest.importorskip('av')
    pytest.importorskip('mmpose')
    config = 'hrformer_tiny_coco_256x192'
    flags = ['motion', '--films', '0', '--config', config, '--length', '2', '--rounds', '1']
    benchmark.run(benchmark.parser().parse_args(flags))
    out = capsys.readouterr().out
    shares = {line[2:26].strip(): float(line.split()[-1][:-1]) for line in out.splitlines()[-8:]}
    steps = [
        value for name, value in shares.items() if name not in ('network', 'all but the network')
    ]
    assert len(steps) == 6
    assert shares['network'] == 100
    assert shares['all but the network'] == pytest.approx(sum(steps), abs=0.5)


def test_sequences_end_where_a_person_is_away():
    film = Film(3, 60, seed=2)
    frames = motion.disturbed(film, 0)
    places = motion.sequences(frames)
    assert sum(map(len, places)) == sum(len(frame.poses) for frame in frames)
    for sequence in places:
        assert len({frames[n].poses[i].track_id for n, i in sequence}) == 1
        assert np.all(np.diff([n for n, _ in sequence]) == 1)
