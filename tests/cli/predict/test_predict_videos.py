"""Videos and cameras: the poses of each frame, drawn videos, and those that are broken."""

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose.cli import predict
from hrformer_mmpose.cli.predict import videos
from hrformer_mmpose.cli.predict.raw_lines import RawLines
from hrformer_mmpose.errors import DataError
from hrformer_mmpose.inference import videos as reading
from hrformer_mmpose.inference.estimator import Estimator
from hrformer_mmpose.inference.videos import OpenCVVideo, Video, open_video
from tests.inference.films import CORNERS, corners, film, turned_film

from .helpers import lines, names, photo


def test_a_video_is_drawn_frame_by_frame(run, network):
    film(Path('clip.avi'), 20, (96, 64))
    status, out = run('clip.avi')
    assert status == 0
    assert out == "'clip.avi', 20 frames, 20 persons: out/videos/clip.mp4, clip.jsonl\n"
    rows = lines('out/videos/clip.jsonl')
    assert [row['frame'] for row in rows] == list(range(20))
    frames = list(open_video('clip.avi'))
    for row, frame in zip(rows, frames, strict=True):
        (pose,) = Estimator(network)(frame, 'whole-image')
        assert row['poses'] == [pose.to_dict()]
    drawn = list(open_video('out/videos/clip.mp4'))
    assert [frame.shape for frame in drawn] == [(64, 96, 3)] * 20
    assert open_video('out/videos/clip.mp4').fps == 10
    # The bar grows from frame to frame: they are in order, and each is there.
    bars = [int((frame[30:40].mean((0, 2)) > 128).sum()) for frame in drawn]
    assert all(abs(bar - (2 * number + 2)) <= 2 for number, bar in enumerate(bars))
    status = Path('clip.avi').stat()
    assert lines()[1] == dict(
        name='clip.avi', kind='video', frames=20, persons=20, lines='videos/clip.jsonl',
        file=[status.st_size, status.st_mtime_ns], path=str(Path('clip.avi').resolve()),
    )  # fmt: skip
    assert {path.name for path in Path('out/videos').iterdir()} == {'clip.jsonl', 'clip.mp4'}


def test_a_video_that_is_done_is_not_done_again(run, network):
    film(Path('clip.mp4'), 5)
    run('clip.mp4')
    before = Path('out/videos/clip.mp4').stat().st_mtime_ns
    status, out = run('clip.mp4')
    assert status == 0
    assert out.splitlines() == [
        "'out' already holds all of this (--force begins anew)",
        "'clip.mp4', 5 frames, 5 persons: out/videos/clip.mp4, clip.jsonl",
    ]
    assert network.seen == 5
    assert Path('out/videos/clip.mp4').stat().st_mtime_ns == before


def test_a_video_that_was_replaced_is_done_again_under_its_name(run, network):
    film(Path('clip.mp4'), 5), film(Path('other.mp4'), 4)
    run('clip.mp4', 'other.mp4')
    film(Path('clip.mp4'), 7)
    status, out = run('clip.mp4', 'other.mp4')
    assert status == 0
    assert out.startswith(
        "continuing in 'out': 1 of 2 files are done\n"
        "'clip.mp4' has changed since the last run: predicted again\n"
        "'clip.mp4', 7 frames, 7 persons: out/videos/clip.mp4, clip.jsonl\n"
    )
    assert network.seen == 5 + 4 + 7
    assert len(lines('out/videos/clip.jsonl')) == 7


def test_a_video_that_was_interrupted_is_done_again(run, network):
    film(Path('clip.mp4'), 6)
    network.left, network.error = 3, SystemExit(9)
    run('clip.mp4', '--batch-size', '1')
    assert names() == []
    assert not Path('out/videos/clip.mp4').exists()
    network.left = float('inf')
    _, out = run('clip.mp4', '--batch-size', '1')
    assert "'clip.mp4', 6 frames, 6 persons" in out
    assert len(list(open_video('out/videos/clip.mp4'))) == 6
    assert len(lines('out/videos/clip.jsonl')) == 6
    assert {path.name for path in Path('out/videos').iterdir()} == {'clip.jsonl', 'clip.mp4'}


def test_videos_of_one_name_have_results_of_their_own(run):
    for path, count in (('x/clip.mp4', 3), ('y/clip.mp4', 4), ('y/clip.avi', 5)):
        Path(path).parent.mkdir(exist_ok=True)
        film(Path(path), count)
    status, out = run('x', 'y')
    assert status == 0
    counts = {line['name']: line['lines'] for line in lines() if 'name' in line}
    assert len(set(counts.values())) == 3
    for name, count in (('x/clip.mp4', 3), ('y/clip.mp4', 4), ('y/clip.avi', 5)):
        rows = Path('out', counts[name])
        assert len(lines(rows)) == count
        assert len(list(open_video(str(rows.with_suffix('.mp4'))))) == count
        assert f"'{name}', {count} frames" in out
    # One more of that name, later.
    Path('z').mkdir()
    film(Path('z/clip.mp4'), 6)
    run('x', 'y', 'z')
    now = {line['name']: line['lines'] for line in lines() if 'name' in line}
    assert counts.items() <= now.items()
    assert len(set(now.values())) == 4


def test_videos_that_are_cut_short(run, network):
    for name in ('a.avi', 'b.mp4'):
        whole = film(Path(name)).read_bytes()
        Path(name).write_bytes(whole[: len(whole) * 6 // 10])
    photo('c.png', 40)
    status, out = run('a.avi', 'b.mp4', 'c.png')
    assert status == 1
    count = len(lines('out/videos/a.jsonl'))
    assert 0 < count < 19
    assert out.splitlines()[-3:] == [
        f"problem: 'a.avi' is cut short: {count} of 20 frames can be read",
        "problem: 'b.mp4' cannot be opened: broken, cut short, or no video",
        '2 problems; 1 of 3 files could not be used',
    ]
    assert f"'a.avi', {count} frames" in out
    assert "'b.mp4', 0 frames, 0 persons\n" in out
    assert len(list(open_video('out/videos/a.mp4'))) == count
    assert not Path('out/videos/b.mp4').exists()
    # The file that cannot be opened is tried again, the other one is not; both are still named.
    seen = network.seen
    status, out = run('a.avi', 'b.mp4', 'c.png')
    assert status == 1
    assert network.seen == seen
    assert '2 problems; 1 of 3 files could not be used' in out


def test_a_video_without_a_frame(run, monkeypatch):
    film(Path('a.avi'), 3)
    monkeypatch.setattr(reading, 'open_video', OpenCVVideo)
    monkeypatch.setattr(OpenCVVideo, '__iter__', lambda self: iter(()))
    status, out = run('a.avi')
    assert status == 1
    assert "problem: 'a.avi' is broken: no frame can be read" in out
    assert '1 problem; 1 of 1 file could not be used' in out
    assert list(Path('out/videos').iterdir()) == []


def test_animated_images(run, network):
    """GIF is a video; of a WebP no frame is taken for the whole."""
    image = pytest.importorskip('PIL.Image')
    pytest.importorskip('av')
    frames = [image.fromarray(np.full((48, 64, 3), 9 + n, np.uint8)) for n in range(5)]
    for name in ('a.gif', 'b.webp'):
        options = dict(lossless=True) if name == 'b.webp' else {}
        frames[0].save(name, save_all=True, append_images=frames[1:], duration=300, **options)
    frames[0].save('still.gif')
    status, out = run('a.gif', 'b.webp', 'still.gif')
    assert status == 1
    assert "'a.gif', 5 frames, 5 persons: out/videos/a.mp4, a.jsonl\n" in out
    assert "'still.gif', 1 frame, 1 person: out/videos/still.mp4, still.jsonl\n" in out
    assert "problem: image 'b.webp' is animated: convert it to a video, e.g. by: magick" in out
    assert [row['time'] for row in lines('out/videos/a.jsonl')] == [0, 0.3, 0.6, 0.9, 1.2]
    drawn = open_video('out/videos/a.mp4')
    assert len(list(drawn)) == 5
    assert [round(info.time, 3) for info in drawn.infos] == [0, 0.3, 0.6, 0.9, 1.2]
    assert network.seen == 6


def test_a_video_whose_frames_are_turned_on_reading(run, monkeypatch):
    """The file's own width and height are those before."""
    film(Path('a.avi'), 4, (96, 64))
    frames = [frame.transpose(1, 0, 2).copy() for frame in open_video('a.avi')]
    with monkeypatch.context() as patch:
        patch.setattr(reading, 'open_video', OpenCVVideo)
        patch.setattr(
            OpenCVVideo, '__iter__', lambda self: (self._add(frame, None) for frame in frames)
        )
        patch.setattr(OpenCVVideo, 'truncation', lambda self: None)
        run('a.avi')
    drawn = list(open_video('out/videos/a.mp4'))
    assert [frame.shape for frame in drawn] == [(96, 64, 3)] * 4


@pytest.mark.parametrize('turn', [90, 180])
def test_a_portrait_video_of_a_phone_is_upright_in_all_results(run, network, turn):
    turned_film(Path('phone.mp4'), turn)
    status, out = run('phone.mp4')
    assert status == 0
    assert out == "'phone.mp4', 6 frames, 6 persons: out/videos/phone.mp4, phone.jsonl\n"
    size = (64, 96) if turn == 90 else (96, 64)
    for row in lines('out/videos/phone.jsonl'):
        assert row['poses'][0]['box'] == [0, 0, *size]
    drawn = list(open_video('out/videos/phone.mp4'))
    assert [frame.shape for frame in drawn] == [(*size[::-1], 3)] * 6
    assert {corners(frame) for frame in drawn} == {CORNERS[turn]}


def test_without_an_encoder_there_are_poses_and_no_drawn_video(run, monkeypatch):
    film(Path('clip.mp4'), 3)
    monkeypatch.setitem(sys.modules, 'av', None)
    no_encoder = type('', (), dict(isOpened=lambda self: False, release=lambda self: None))
    monkeypatch.setattr(cv2, 'VideoWriter', lambda *arguments: no_encoder())
    status, out = run('clip.mp4')
    assert status == 1
    assert "'clip.mp4', 3 frames, 3 persons: out/videos/clip.jsonl\n" in out
    assert (
        "problem: 'out/videos/clip.mp4' cannot be written: OpenCV has no encoder for mp4 here "
        '(--no-pictures does not need one; pip install av brings one)'
    ) in out
    assert len(lines('out/videos/clip.jsonl')) == 3
    assert [path.name for path in Path('out/videos').iterdir()] == ['clip.jsonl']


def test_a_file_of_boxes_is_refused_for_videos_before_any_work(run, annotated, network):
    film(Path('val/clip.mp4'), 3)
    status, _ = run('val', boxes='boxes.json')
    assert status == "error: --boxes boxes.json: a file of boxes is for images, not 'val/clip.mp4'"
    assert network.seen == 0
    assert not Path('out').exists()
    status, _ = run('camera:3', boxes='boxes.json')
    assert status.endswith("a file of boxes is for images, not 'camera 3'")


def test_a_box_of_a_frame_that_holds_nobody_is_named_by_the_frame(run, monkeypatch):
    film(Path('clip.mp4'), 3)
    tables = iter([[[0, 0, 30, 40]], [[0, 0, 30, 40], [5, 5, 5, 5]], []])
    detector = lambda image: next(tables)  # noqa: E731
    monkeypatch.setattr(predict.detectors, 'make_detector', lambda *arguments: detector)
    status, out = run('clip.mp4', '--no-pictures')
    assert status == 1
    assert "problem: box 1 of frame 1 of 'clip.mp4' has no area: 5, 5, 5, 5" in out
    assert [len(row['poses']) for row in lines('out/videos/clip.jsonl')] == [1, 1, 0]
    assert not Path('out/videos/clip.mp4').exists()


class Camera(Video):
    """Gives five frames, then someone presses Ctrl-C."""

    def __init__(self, source):
        assert source == 3
        super().__init__('camera 3', 25.0, None)

    def __iter__(self):
        for number in range(5):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[20, 10 + number] = 255
            yield self._add(frame, None)
        raise KeyboardInterrupt


def test_each_recording_of_a_camera_is_kept(run, monkeypatch, network):
    monkeypatch.setattr(reading, 'OpenCVVideo', Camera)
    for name in ('camera-3', 'camera-3-2', 'camera-3-3'):
        status, out = run('camera:3', *(['--no-pictures'] if name == 'camera-3-2' else []))
        assert status == 0
        files = f'{name}.mp4, {name}.jsonl' if name != 'camera-3-2' else f'{name}.jsonl'
        assert out == f"'camera 3', 5 frames, 5 persons: out/{files}\n"
        # Frames are not held until a batch is full.
        assert network.batches[-5:] == [1] * 5
        assert len(lines(f'out/{name}.jsonl')) == 5
        assert Path(f'out/{name}.mp4').exists() == (name != 'camera-3-2')


class Unplugged:
    """Capture of a camera that gives six frames and then nothing."""

    def __init__(self, source):
        self.left = 6

    def isOpened(self):
        return True

    def get(self, key):
        return 25.0 if key == cv2.CAP_PROP_FPS else -1.0

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), 20 * self.left, np.uint8)

    def release(self):
        pass


def test_a_camera_that_is_unplugged_leaves_what_it_recorded(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'VideoCapture', Unplugged)
        status, out = run('camera:3')
    assert status == 1
    assert out.splitlines() == [
        "'camera 3', 6 frames, 6 persons: out/camera-3.mp4, camera-3.jsonl",
        "problem: 'camera 3' gave no more frames after 6: it was unplugged, or taken by another "
        'program',
        '1 problem; 0 of 1 file could not be used',
    ]
    assert len(lines('out/camera-3.jsonl')) == 6
    assert {path.name for path in Path('out').iterdir()} == {'camera-3.mp4', 'camera-3.jsonl'}
    assert len(list(open_video('out/camera-3.mp4'))) == 6


def test_an_error_while_recording_leaves_what_was_recorded(run, monkeypatch, network):
    monkeypatch.setattr(reading, 'OpenCVVideo', Camera)
    network.left, network.error = 3, DataError('the network is gone')
    assert run('camera:3')[0] == 'error: the network is gone'
    assert len(lines('out/camera-3.jsonl')) == 3
    assert len(list(open_video('out/camera-3.mp4'))) == 3
    assert {path.name for path in Path('out').iterdir()} == {'camera-3.mp4', 'camera-3.jsonl'}


def test_two_recordings_at_once_have_names_of_their_own(run, monkeypatch):
    monkeypatch.setattr(reading, 'OpenCVVideo', Camera)
    Path('out').mkdir()
    Path('out/camera-3.jsonl.part').write_text('of another run')
    _, out = run('camera:3')
    assert out == "'camera 3', 5 frames, 5 persons: out/camera-3-2.mp4, camera-3-2.jsonl\n"
    assert Path('out/camera-3.jsonl.part').read_text() == 'of another run'


def test_a_video_that_another_run_is_predicting(run, network):
    """Of another number of parts, and so with another journal."""
    film(Path('clip.mp4'), 3), film(Path('other.mp4'), 3)
    run('other.mp4')
    with RawLines(Path('out/videos/.part-clip.jsonl'), {}):
        status, _ = run('clip.mp4')
    assert status == "error: 'out/videos/.part-clip.jsonl' is being written by another run"
    assert network.seen == 3
    assert run('clip.mp4')[0] == 0


def test_frames_that_cannot_be_read_again_keep_their_poses(run, monkeypatch):
    """The drawn video is made of a second reading."""
    film(Path('clip.mp4'), 8)
    monkeypatch.setattr(reading, 'open_video', Fading(reading.open_video))
    status, out = run('clip.mp4')
    assert status == 1
    assert (
        "problem: 'clip.mp4' changed or is damaged: 8 frames have poses, and only 5 could be read "
        'again for the drawn video'
    ) in out
    assert [row['frame'] for row in lines('out/videos/clip.jsonl')] == [*range(8)]


def test_a_video_that_is_deleted_after_its_poses_leaves_them_and_the_next_video(run, monkeypatch):
    film(Path('a.mp4'), 3), film(Path('b.mp4'), 3)
    opened, open_file = [], reading.open_video

    def open_once(source):
        opened.append(source)
        if opened.count('a.mp4') == 2:
            Path('a.mp4').unlink(missing_ok=True)
        return open_file(source)

    monkeypatch.setattr(reading, 'open_video', open_once)
    status, out = run('a.mp4', 'b.mp4')
    assert status == 1
    assert "'a.mp4', 3 frames, 3 persons: out/videos/a.jsonl\n" in out
    assert "'b.mp4', 3 frames, 3 persons: out/videos/b.mp4, b.jsonl\n" in out
    assert 'and only 0 could be read again for the drawn video' in out


class Fading:
    """Open videos; from the second time on they end after five frames."""

    def __init__(self, open_video):
        self.open_video, self.calls = open_video, 0

    def __call__(self, source):
        self.calls += 1
        video = self.open_video(source)
        return video if self.calls == 1 else FirstFrames(video)


class FirstFrames:
    """The first five frames of a video."""

    def __init__(self, video):
        self.video, self.name, self.start = video, video.name, video.start

    def __iter__(self):
        yield from itertools.islice(self.video, 5)


def test_a_recording_is_written_beside_files_of_others(run, monkeypatch):
    """Its names are always free ones, so that with --force it is in nobody's way."""
    monkeypatch.setattr(reading, 'OpenCVVideo', Camera)
    Path('out').mkdir()
    for name in ('keypoints.json', 'camera-3.mp4'):
        Path('out', name).write_text('mine')
    assert 'holds files that are not of' in run('camera:3')[0]
    status, out = run('camera:3', '--force')
    assert status == 0
    assert out == "'camera 3', 5 frames, 5 persons: out/camera-3-2.mp4, camera-3-2.jsonl\n"
    assert {Path('out', name).read_text() for name in ('keypoints.json', 'camera-3.mp4')} == {
        'mine'
    }


def test_a_camera_that_is_not_there_is_named(run, monkeypatch):
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: type('', (), dict(isOpened=bool))())
    status, out = run('camera:3')
    assert status == 1
    assert "'camera 3', 0 frames, 0 persons\n" in out
    assert "problem: 'camera 3' cannot be opened: there is none, or it is in use" in out


def test_show_ends_a_video_and_it_is_not_taken_for_done(run, monkeypatch, network):
    film(Path('clip.mp4'), 8)
    shown = []
    monkeypatch.setenv('DISPLAY', ':0')
    monkeypatch.setattr(videos, 'show', lambda picture: shown.append(picture) or len(shown) < 3)
    status, out = run('clip.mp4', '--show', '--no-pictures')
    assert status == 1
    assert "problem: 'clip.mp4' was ended by q: 3 frames" in out
    assert len(shown) == 3
    monkeypatch.setattr(videos, 'show', lambda picture: True)
    status, out = run('clip.mp4', '--no-pictures')
    assert status == 0
    assert "'clip.mp4', 8 frames" in out


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have no such variable')
def test_show_without_a_display_is_one_line(run, monkeypatch):
    """Qt would end the process."""
    film(Path('clip.mp4'), 3)
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    status, _ = run('clip.mp4', '--show')
    assert status == 'error: --show needs a display, and this session has none: leave it out'


def test_show_without_windows_says_so(run, monkeypatch):
    film(Path('clip.mp4'), 3)

    def imshow(*_):
        raise cv2.error('not implemented')

    monkeypatch.setattr(cv2, 'imshow', imshow)
    monkeypatch.setenv('DISPLAY', ':0')
    status, _ = run('clip.mp4', '--show')
    assert status == 'error: --show: this OpenCV has no windows (opencv-python has)'
