"""Frames of videos: whole, upright, in order, with their times; and files that are broken."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.inference.videos import AvVideo, OpenCVVideo, Video, open_video

from .films import CORNERS, corners, film, turned_film


@pytest.fixture(params=['av', 'opencv'], autouse=True)
def reader(request, monkeypatch):
    """Let `open_video` read with either package."""
    if request.param == 'opencv':
        monkeypatch.setitem(sys.modules, 'av', None)  # which makes its import fail
    else:
        pytest.importorskip('av')
    return request.param


@pytest.mark.parametrize('name', ['a.mp4', 'a.avi'])
def test_all_frames_in_their_order(tmp_path, name):
    video = open_video(str(film(tmp_path / name)))
    assert (video.fps, video.frames) == (10, 20)
    frames = list(video)  # all held: each has memory of its own
    bars = [(frame[:, :, 0].mean(0) > 128).sum() for frame in frames]
    assert bars == list(range(2, 42, 2))
    assert video.read == 20
    assert video.truncation() is None


@pytest.mark.parametrize('turn', CORNERS)
def test_a_video_is_turned_as_the_phone_noted(tmp_path, turn):
    frames = list(open_video(str(turned_film(tmp_path / 'a.mp4', turn))))
    assert len(frames) == 6
    for frame in frames:
        assert frame.shape == ((96, 64, 3) if turn in (90, 270) else (64, 96, 3))
        assert corners(frame) == CORNERS[turn]


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no such pipes')
def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / 'a.mp4')
    with pytest.raises(DataError, match=r"a\.mp4' is no file"):
        open_video(str(tmp_path / 'a.mp4'))


def read_cut_short(path, tenths: int) -> tuple[Video, int]:
    """Cut a file off after some tenths of its bytes; return the video, and its frames when read."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenths // 10])
    video = open_video(str(path))
    return video, len(list(video))


def test_a_video_that_is_cut_short(tmp_path):
    path = film(tmp_path / 'a.avi')
    video, count = read_cut_short(path, 6)
    assert 0 < count < 19
    assert video.truncation() == f"'{path}' is cut short: {count} of 20 frames can be read"


def test_matroska_that_is_cut_short(tmp_path):
    """It states no number of frames."""
    path = film(tmp_path / 'a.mkv')
    video = open_video(str(path))
    assert len(list(video)) == 20
    assert video.truncation() is None
    video, count = read_cut_short(path, 6)
    assert 0 < count < 19
    assert video.truncation() == f"'{path}' is cut short: {count} frames can be read"


def test_videos_that_cannot_be_opened(tmp_path, capfd):
    whole = film(tmp_path / 'a.mp4').read_bytes()
    path = tmp_path / 'cut.mp4'
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(
        DataError, match=r"cut\.mp4' cannot be opened: broken, cut short, or no vid"
    ):
        open_video(str(path))
    with pytest.raises(DataError, match=r"none\.mp4' does not exist"):
        open_video(str(tmp_path / 'none.mp4'))
    with pytest.raises(DataError, match="'camera 77' cannot be opened: there is none, or it is in"):
        open_video(77)


class Capture:
    """Capture of a video that states neither frame rate nor length."""

    def __init__(self, count):
        self.left = count
        self.released = False

    def isOpened(self):
        return True

    def get(self, key):
        return float('nan') if key == cv2.CAP_PROP_FPS else -1.0

    def set(self, key, value):
        return False

    def read(self):
        self.left -= 1
        return self.left >= 0, np.zeros((4, 4, 3), np.uint8)

    def release(self):
        self.released = True


def test_a_video_that_tells_nothing_of_itself(tmp_path, monkeypatch):
    path = film(tmp_path / 'a.avi')
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: Capture(3))
    video = OpenCVVideo(str(path))
    assert (video.fps, video.frames) == (25, None)
    assert len(list(video)) == 3
    assert video.truncation() is None
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: Capture(0))
    video = OpenCVVideo(str(path))
    assert list(video) == []
    assert video.truncation() == f"'{path}' is broken: no frame can be read"


def test_who_stops_in_the_middle_lets_go_of_the_file(tmp_path, monkeypatch):
    path, capture = film(tmp_path / 'a.avi'), Capture(3)
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: capture)
    frames = iter(OpenCVVideo(str(path)))
    next(frames)
    assert not capture.released
    frames.close()
    assert capture.released


def animation(path, count=5, **options) -> Path:
    """Grey frames, each a little brighter, written by Pillow."""
    image = pytest.importorskip('PIL.Image')
    frames = [image.fromarray(frame) for frame in levels(count)]
    for number, frame in enumerate(frames):
        frame.putpixel((number, 0), (255, 0, 0))  # equal frames would be merged
    options = dict(duration=[40, 160, 10, 290, 100][:count]) | options
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


@pytest.mark.parametrize('name', ['a.gif', 'a.apng'])
def test_animated_images_are_videos(tmp_path, reader, name):
    path = animation(tmp_path / name, format='PNG' if name == 'a.apng' else 'GIF')
    video = open_video(str(path))
    frames = list(video)
    assert [round(float(frame.mean())) for frame in frames] == LEVELS
    assert video.truncation() is None
    if reader == 'av':
        assert [round(info.time, 3) for info in video.infos] == [0, 0.04, 0.2, 0.21, 0.5]
    video, count = read_cut_short(path, 7)
    assert 0 < count < 5
    assert video.truncation() == f"'{path}' is cut short: {count} frames can be read"


# Files of PyAV's own.


def encoded(path, frames, codec='libx264', pix_fmt='yuv420p', times=None, options=None, fps=25):
    """Write frames (H, W, 3), optionally at given times in seconds."""
    import av

    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format='bgr24')
            if times is not None:
                picture.pts, picture.time_base = round(1000 * times[number]), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


LEVELS = [20, 60, 100, 140, 180]


def levels(count, size=(48, 64)) -> list[np.ndarray]:
    return [np.full((*size, 3), level, np.uint8) for level in LEVELS[:count]]


@pytest.fixture
def av_reader(reader):
    if reader != 'av':
        pytest.skip('OpenCV cannot')


@pytest.mark.usefixtures('av_reader')
class TestAv:
    def test_uneven_times_are_kept(self, tmp_path):
        times = [0.0, 0.04, 0.2, 0.21, 0.5]
        video = open_video(str(encoded(tmp_path / 'a.mp4', levels(5), times=times)))
        assert isinstance(video, AvVideo)
        frames = list(video)
        assert [round(info.time, 3) for info in video.infos] == times
        assert [round(float(f.mean())) for f in frames] == pytest.approx(LEVELS[:5], abs=5)

    def test_a_frame_that_is_damaged(self, tmp_path):
        """The frames behind it are missing, and the container states no number of frames."""
        times = [0, 0.1, 0.2, 2, 5]
        path = encoded(tmp_path / 'a.webm', levels(5), 'libvpx', times=times, options={'g': '1'})
        video = open_video(str(path))
        assert len(list(video)) == 5
        assert video.truncation() is None
        code = b'\x9d\x01\x2a'  # of key frames
        images = path.read_bytes().split(code)
        path.write_bytes(code.join(images[:4]) + b'\0\0\0' + code.join(images[4:]))
        video = open_video(str(path))
        assert len(list(video)) == 3
        line = video.truncation()
        assert line.startswith(f"'{path}' is damaged: 3 frames can be read (")

    def test_ten_bits_and_odd_sizes(self, tmp_path):
        path = encoded(tmp_path / 'a.mkv', levels(3, (47, 63)), 'ffv1', 'yuv444p10le')
        frames = list(open_video(str(path)))
        assert [frame.shape for frame in frames] == [(47, 63, 3)] * 3
        assert [frame.dtype for frame in frames] == [np.uint8] * 3
        assert [round(float(frame.mean())) for frame in frames] == pytest.approx(LEVELS[:3], abs=2)

    def test_interlaced_frames_become_whole(self, tmp_path):
        """A bar that jumps between the half frames leaves a comb without deinterlacing."""
        frames = []
        for number in range(8):
            frame = np.full((64, 96, 3), 16, np.uint8)
            for field in range(2):
                left = 8 * number + 4 * field
                frame[field::2, left : left + 16] = 230
            frames.append(frame)
        options = {'flags': '+ildct+ilme', 'x264-params': 'tff=1:qp=1'}
        path = encoded(tmp_path / 'a.mp4', frames, options=options)
        read = list(open_video(str(path)))
        assert len(read) == 8

        def comb(frame):
            return np.abs(np.diff(frame[8:-8, :, 0].astype(int), axis=0)).mean()

        assert comb(frames[4]) > 10
        assert comb(read[4]) < comb(frames[4]) / 3

    def test_mirrored_frames(self, tmp_path):
        path = turned_film(tmp_path / 'a.mp4', 0)
        data = bytearray(path.read_bytes())
        at = data.find(b'tkhd') + 44
        data[at : at + 4] = (-(1 << 16)).to_bytes(4, 'big', signed=True)  # x' = -x
        path.write_bytes(data)
        assert {corners(frame) for frame in open_video(str(path))} == {'GRkB'}

    def test_a_file_of_sound_alone(self, tmp_path):
        import av

        path = tmp_path / 'a.mp4'
        with av.open(str(path), 'w') as container:
            stream = container.add_stream('aac', 44100, layout='mono')
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), 'fltp', 'mono')
            sound.sample_rate = 44100
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
        with pytest.raises(DataError, match=r"a\.mp4' holds sound and no video"):
            open_video(str(path))

    def test_who_stops_in_the_middle_lets_go_of_the_file(self, tmp_path):
        frames = iter(open_video(str(film(tmp_path / 'a.mp4'))))
        next(frames)
        frames.close()
        os.remove(tmp_path / 'a.mp4')


def test_cuts(tmp_path):
    """Two scenes, with motion in each."""
    rng = np.random.default_rng(0)
    scenes = [cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (96, 64)) for _ in range(2)]
    writer = cv2.VideoWriter(str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (96, 64))
    for number in range(20):
        frame = scenes[number >= 12].copy()
        frame[20:50, 4 * number : 4 * number + 16] = 255
        writer.write(frame)
    writer.release()
    video = open_video(str(tmp_path / 'a.avi'))
    list(video)
    assert [info.is_cut for info in video.infos] == [number == 12 for number in range(20)]
