"""Videos of people in motion: identities, smoothing, boxes between detections, resuming."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('scipy')
from hrformer_mmpose.cli import predict
from hrformer_mmpose.inference.videos import open_video
from tests.conftest import ROOT

from .helpers import hrformer, lines

COUNT = 24
SIDE = 24


def spots(frame: int) -> list[tuple[int, int]]:
    """Two spots that pass each other."""
    return [(16 + 4 * frame, 20 + frame % 2), (112 - 4 * frame, 52 + frame % 3)]


def film(path: str | Path, count: int = COUNT) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 25, (128, 72))
    for number in range(count):
        frame = np.full((72, 128, 3), 0, np.uint8)
        for spot in spots(number % COUNT):
            cv2.circle(frame, spot, 2, (255, 255, 255), -1)
        writer.write(frame)
    writer.release()


class Detector:
    """Boxes around the spots of successive frames; counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        count, _, _, centers = cv2.connectedComponentsWithStats(
            (image[..., 0] > 128).astype(np.uint8)
        )
        boxes = [[*(c - SIDE / 2), *(c + SIDE / 2), 0.9] for c in centers[1:count]]
        return np.array(boxes, np.float32).reshape(-1, 5)


@pytest.fixture
def detector(monkeypatch) -> Detector:
    detector = Detector()
    monkeypatch.setattr(predict.detectors, 'make_detector', lambda *arguments: detector)
    return detector


def rows(path='out/videos/clip.jsonl') -> list[dict]:
    return lines(path)


def test_identities_and_smoothed_keypoints_beside_the_raw_ones(run, detector):
    film('clip.avi')
    run('clip.avi', out='plain')
    status, out = run('clip.avi', '--track', '--smooth', 'savgol', '--color-by', 'id')
    assert status == 0
    assert out.endswith("'clip.avi', 24 frames, 48 persons: out/videos/clip.mp4, clip.jsonl\n")
    identities = set()
    for row, plain in zip(rows(), rows('plain/videos/clip.jsonl'), strict=True):
        assert row['time'] == pytest.approx(row['frame'] / 25)
        poses = [dict(pose) for pose in row['poses']]
        smoothed = [pose.pop('smoothed') for pose in poses]
        numbers = [pose.pop('track_id') for pose in poses]
        assert poses == plain['poses']
        for pose, number, smooth in zip(poses, numbers, smoothed, strict=True):
            identities.add((number, pose['keypoints']['nose'][1] > 36))
            assert smooth.keys() == pose['keypoints'].keys()
            assert abs(smooth['nose'][0] - pose['keypoints']['nose'][0]) < 3
    assert identities == {(1, False), (2, True)}
    drawn = list(open_video('out/videos/clip.mp4'))
    assert len(drawn) == COUNT


def test_a_killed_run_continues_at_its_frame(run, network, detector):
    """The lines are those of a run without a kill, and no frame is predicted twice."""
    film('clip.avi')
    flags = '--track', '--smooth', 'one-euro', '--batch-size', '1'
    run('clip.avi', *flags, out='straight')
    expected = Path('straight/videos/clip.jsonl').read_bytes()
    for after in (0, 1, 2, 25, 47):
        before, network.left, network.error = network.seen, after, SystemExit(9)
        out = f'out{after}'
        run('clip.avi', *flags, out=out)
        network.left = float('inf')
        status, printed = run('clip.avi', *flags, out=out)
        assert status == 0
        if after > 1:
            assert f"continuing 'clip.avi' at frame {after // 2}" in printed
        assert Path(out, 'videos/clip.jsonl').read_bytes() == expected
        # The second person of a frame may have been predicted in vain.
        assert network.seen - before == 2 * COUNT + after % 2
        assert len(list(open_video(f'{out}/videos/clip.mp4'))) == COUNT
        names = {path.name for path in Path(out, 'videos').iterdir()}
        assert names == {'clip.jsonl', 'clip.mp4'}


def test_a_damaged_end_of_the_raw_lines_is_predicted_again(run, network, detector):
    film('clip.avi')
    network.left, network.error = 20, SystemExit(9)
    run('clip.avi', '--batch-size', '1')
    network.left = float('inf')
    (raw,) = Path('out/videos').glob('.part-*.jsonl')
    content = raw.read_bytes()
    raw.write_bytes(content[:-30])
    _, printed = run('clip.avi')
    assert "continuing 'clip.avi' at frame 9" in printed
    assert [row['frame'] for row in rows()] == list(range(COUNT))


def test_force_begins_an_interrupted_video_anew(run, network, detector):
    film('clip.avi')
    network.left, network.error = 20, SystemExit(9)
    run('clip.avi', '--batch-size', '1')
    network.left, seen = float('inf'), network.seen
    _, printed = run('clip.avi', '--force')
    assert 'continuing' not in printed
    assert network.seen == seen + 2 * COUNT


def test_raw_lines_of_another_video_are_not_continued(run, network, detector):
    film('clip.avi')
    network.left, network.error = 20, SystemExit(9)
    run('clip.avi', '--batch-size', '1')
    network.left = float('inf')
    film('clip.avi', COUNT - 5)
    _, printed = run('clip.avi')
    assert 'continuing' not in printed
    assert len(rows()) == COUNT - 5


def test_people_are_detected_on_each_nth_frame(run, detector):
    film('clip.avi')
    run('clip.avi', '--no-pictures')
    assert detector.calls == COUNT
    every = rows()
    detector.calls = 0
    status, _ = run('clip.avi', '--no-pictures', '--detect-every', '6', boxes='hog', out='sixth')
    assert status == 0
    # All keypoints of this network lie on one spot, whose box has no area: lost at once.
    assert detector.calls >= COUNT // 6
    assert [len(row['poses']) for row in rows('sixth/videos/clip.jsonl')] == [2] * COUNT
    assert len(every) == COUNT


def test_boxes_are_asked_for(monkeypatch, capsys):
    status, _ = hrformer(monkeypatch, capsys, 'predict', 'clip.avi', '--model', 'm.onnx')
    assert status.startswith('error: --boxes is missing: give whole-image (')
    assert all(way in status for way in ('FILE.json', 'onnx:FILE', 'torchvision:FILE', 'hog'))


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        (['--smooth', 'savgol'], '--smooth works person by person: add --track'),
        (['--color-by', 'id'], '--color-by id works person by person: add --track'),
        (['--detect-every', '0'], '--detect-every 0: give 1 to 10,000'),
        (['--detect-every', '2'], '--detect-every is for detectors: --boxes whole-image detects'),
    ],
)
def test_options_that_do_not_fit(run, flags, line):
    film('clip.avi')
    assert run('clip.avi', *flags)[0].startswith(f'error: {line}')


def test_a_camera_is_not_smoothed_by_a_filter_that_looks_ahead(run):
    status, _ = run('camera:3', '--track', '--smooth', 'savgol')
    assert status == 'error: --smooth savgol looks ahead: one-euro is for cameras'


def test_tracking_without_scipy_is_one_line(run, detector, monkeypatch):
    film('clip.avi')
    monkeypatch.setitem(sys.modules, 'scipy.optimize', None)
    assert run('clip.avi', '--track')[0] == 'error: tracking needs a package: pip install scipy'


def start(folder: Path, frames: int) -> subprocess.Popen:
    command = [sys.executable, '-m', 'tests.cli.predict.long_film', str(folder), str(frames)]
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_ten_thousand_frames_and_ten_kills(tmp_path):
    """Every frame once and in order; memory flat within 5 %."""
    frames, rng = 10_000, np.random.default_rng(0)
    film(tmp_path / 'clip.avi', frames)
    kills = 0
    while kills < 10:
        run = start(tmp_path, frames)
        try:
            run.wait(timeout=rng.uniform(4, 12))
            break
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
    out, _ = start(tmp_path, frames).communicate()
    rows = [
        json.loads(line) for line in (tmp_path / 'out/videos/clip.jsonl').read_text().splitlines()
    ]
    assert [row['frame'] for row in rows] == list(range(frames))
    assert all(len(row['poses']) == 2 for row in rows)
    assert kills == 10
    # Without kills, from the start: what a tenth of the frames needs is what all need.
    shutil.rmtree(tmp_path / 'out')
    out, _ = start(tmp_path, frames).communicate()
    early, late = map(float, out.splitlines()[-1].split()[1:])
    assert late < 1.05 * early
    again = (tmp_path / 'out/videos/clip.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in again] == rows
