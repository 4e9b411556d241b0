"""Drawn videos: encoders that are missing, and disks that fill up."""

import errno
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from hrformer_mmpose.cli.predict import video_writer
from hrformer_mmpose.cli.predict.video_writer import OpenCVWriter, open_writer
from hrformer_mmpose.inference.videos import open_video

from .helpers import lines
from .test_predict_motion import film

UNEVEN = [0.0, 0.04, 0.2, 0.21, 0.5]


def write(path: Path, times=UNEVEN, width=64) -> list[str]:
    with open_writer(path, 25, None) as writer:
        for number, time in enumerate(times):
            writer.write(np.full((48, width, 3), 40 * number, np.uint8), time)
        return writer.publish()


def test_another_encoder_takes_the_place_of_a_missing_one(tmp_path, monkeypatch, capsys):
    av = pytest.importorskip('av')
    monkeypatch.setattr(video_writer, 'ENCODERS', ('none-such', 'mpeg4'))
    assert write(tmp_path / 'a.mp4') == []
    assert capsys.readouterr().err == (
        f"'{tmp_path / 'a.mp4'}' is MPEG-4, which browsers do not play: this PyAV has no encoder "
        'for H.264 (pip install av brings one)\n'
    )
    with av.open(str(tmp_path / 'a.mp4')) as container:
        assert container.streams.video[0].codec_context.name == 'mpeg4'
    video = open_video(str(tmp_path / 'a.mp4'))
    levels = [round(float(frame.mean())) for frame in video]
    assert levels == pytest.approx([0, 40, 80, 120, 160], abs=4)
    assert [info.time for info in video.infos] == pytest.approx(UNEVEN, abs=1e-4)


def test_without_any_encoder_there_are_poses_and_no_drawn_video(run, monkeypatch):
    pytest.importorskip('av')
    monkeypatch.setattr(video_writer, 'ENCODERS', ('none-such',))
    film('clip.avi', 3)
    status, out = run('clip.avi')
    assert status == 1
    assert "'clip.avi', 3 frames, 3 persons: out/videos/clip.jsonl\n" in out
    assert (
        "problem: 'out/videos/clip.mp4' cannot be written: this PyAV has no encoder for mp4 "
        '(--no-pictures does not need one; pip install av brings one)'
    ) in out
    assert [path.name for path in Path('out/videos').iterdir()] == ['clip.jsonl']


def test_frames_closer_than_a_tick_are_all_written(tmp_path):
    pytest.importorskip('av')
    assert write(tmp_path / 'a.mp4', [0, 0.1, 0.100004, 0.100008, 0.3]) == []
    assert len(list(open_video(str(tmp_path / 'a.mp4')))) == 5


@pytest.mark.parametrize(
    ('times', 'width'), [([0, 40_000, 80_000], 64), ([0, 0.1, 0.2], 17_000)], ids=['times', 'size']
)
def test_what_mp4_or_its_encoder_refuses_is_one_problem(tmp_path, times, width):
    pytest.importorskip('av')
    path = tmp_path / 'a.mp4'
    (problem,) = write(path, times, width)
    assert problem.startswith(f"'{path}' cannot be written as video (")
    assert problem.endswith('): --no-pictures leaves it out')
    assert list(tmp_path.iterdir()) == []


def with_sound(path: str, start: float, sound_start: float) -> None:
    """Five frames and one second of silence, which begin at the given times."""
    import av

    with av.open(path, 'w') as container:
        video = container.add_stream('mpeg4', 10)
        video.width, video.height, video.pix_fmt = 64, 48, 'yuv420p'
        sound = container.add_stream('flac', 8000, layout='mono')
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), 'bgr24')
            frame.pts, frame.time_base = number + round(10 * start), Fraction(1, 10)
            container.mux(video.encode(frame))
        for number in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.int16), 's16', 'mono')
            frame.sample_rate, frame.pts = 8000, 1000 * number + round(8000 * sound_start)
            container.mux(sound.encode(frame))
        for stream in (video, sound):
            container.mux(stream.encode())


@pytest.mark.parametrize(('start', 'sound_start'), [(0, 0), (2, 2), (2, 2.5), (1, 0.5)])
def test_the_sound_keeps_its_distance_to_the_frames(run, start, sound_start):
    """Sound before the first frame is left out."""
    av = pytest.importorskip('av')
    with_sound('clip.mkv', start, sound_start)
    assert run('clip.mkv')[0] == 0
    with av.open('out/videos/clip.mp4') as container:
        first = next(container.decode(audio=0))
    assert first.time == pytest.approx(max(sound_start - start, 0), abs=0.002)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for the poses and not for the drawn video."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', str(folder)]
    if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('mounting a small file system needs root')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.parametrize('package', ['av', 'opencv'])
def test_a_disk_that_fills_up_while_the_video_is_drawn(
    run, network, small_disk, monkeypatch, package
):
    """One line; no half file under the final name; the poses are not predicted again."""
    if package == 'opencv':
        monkeypatch.setitem(sys.modules, 'av', None)
    else:
        pytest.importorskip('av')
    film('clip.avi')
    noise, seen = np.random.default_rng(0), []

    def draw(image, poses, options):
        seen.append(poses)
        return noise.integers(0, 255, (160, 240, 3), np.uint8)  # which no encoder makes small

    monkeypatch.setattr('hrformer_mmpose.cli.predict.videos.draw', draw)
    out = str(small_disk / 'out')
    status, _ = run('clip.avi', out=out)
    assert status.startswith('error: ')
    assert status.endswith(os.strerror(errno.ENOSPC))
    assert '\n' not in status
    names = [path.name for path in Path(out, 'videos').iterdir()]
    assert names == ['.part-clip.jsonl']
    count = network.seen
    assert count == 24
    monkeypatch.setattr('hrformer_mmpose.cli.predict.videos.draw', lambda image, *_: image)
    status, _ = run('clip.avi', out=out)
    assert status == 0
    assert network.seen == count
    assert len(list(open_video(f'{out}/videos/clip.mp4'))) == 24
    assert {path.name for path in Path(out, 'videos').iterdir()} == {'clip.jsonl', 'clip.mp4'}


def test_a_disk_that_fills_up_while_poses_are_written(run, network, small_disk):
    """The file is named; with more room the run continues behind the last whole line."""
    film('clip.avi')
    remount = ['mount', '-o', 'remount,size=16k', str(small_disk)]
    subprocess.run(remount, check=True)
    flags = '--batch-size', '1', '--no-pictures'
    status, _ = run('clip.avi', *flags, out=str(small_disk / 'out'))
    raw = small_disk / 'out/videos/.part-clip.jsonl'
    assert status == f"error: '{raw}': {os.strerror(errno.ENOSPC)}"
    whole = raw.read_bytes().count(b'\n') - 1  # the first line has the key
    assert 0 < whole < 24
    subprocess.run([part.replace('16k', '300k') for part in remount], check=True)
    seen = network.seen
    status, out = run('clip.avi', *flags, out=str(small_disk / 'out'))
    assert status == 0
    assert f"continuing 'clip.avi' at frame {whole}\n" in out
    assert network.seen == seen + 24 - whole
    assert [row['frame'] for row in lines(small_disk / 'out/videos/clip.jsonl')] == [*range(24)]


def test_opencv_writes_no_video_that_lacks_frames(tmp_path, monkeypatch):
    """OpenCV reports no error when nothing more can be written."""
    with OpenCVWriter(tmp_path / 'a.mp4', 25) as writer:
        for number in range(3):
            writer.write(np.full((48, 64, 3), number, np.uint8), 0)
        writer._count += 1
        with pytest.raises(OSError, match='No space left') as caught:
            writer.publish()
    assert caught.value.filename == str(tmp_path / 'a.mp4')
    assert list(tmp_path.iterdir()) == []
