"""Images found in folders and globs; frames read from a broken video."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose.errors import DataError, UserError
from hrformer_mmpose.inference import sources
from hrformer_mmpose.inference.sources import Video, collect


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """data/ with images in two folders, a video, and what is to be passed over."""
    for name in (
        'b.jpg', 'a.PNG', 'sub/b.jpg', 'sub/deep/c.tiff', 'clip.MP4', 'notes.txt', '.hidden.jpg',
        '.cache/x.jpg', 'poses/pictures/b.jpg', 'poses/sheet.jpg', 'poses/videos/clip.mp4',
    ):  # fmt: skip
        path = tmp_path / 'data' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / 'data'


IMAGES = ('data/a.PNG', 'data/b.jpg', 'data/sub/b.jpg', 'data/sub/deep/c.tiff')


def test_a_folder_is_searched_with_all_that_is_in_it_but_the_results(folder):
    found = collect(['data'], 'data/poses')
    assert found.images == IMAGES
    assert found.videos == ('data/clip.MP4',)
    assert found.camera is None
    assert 'data/poses/pictures/b.jpg' in collect(['data']).images
    assert collect(['data'], folder / 'poses') == found
    os.symlink('data/poses', 'link')
    assert collect(['data'], 'link') == found
    # A folder whose name only begins like that of the results is no result.
    (folder / 'poses2').mkdir()
    (folder / 'poses2/z.jpg').touch()
    assert collect(['data'], 'data/poses').images == (
        *IMAGES[:2], 'data/poses2/z.jpg', *IMAGES[2:]
    )  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'images'),
    [
        (['data/b.jpg'], ('data/b.jpg',)),
        (['data/sub', 'data/b.jpg'], ('data/sub/b.jpg', 'data/sub/deep/c.tiff', 'data/b.jpg')),
        (['data/b.jpg', './data/b.jpg', 'data/sub/../b.jpg'], ('data/b.jpg',)),
        (['data/b.jpg', 'data'], ('data/b.jpg', 'data/a.PNG', *IMAGES[2:])),
        (['data/*.jpg'], ('data/b.jpg',)),
        (['data/?.*'], ('data/a.PNG', 'data/b.jpg')),
        (['data/**/*.jpg'], ('data/b.jpg', 'data/sub/b.jpg')),
        (['data/*'], IMAGES),
        (['data/s*'], IMAGES[2:]),
    ],
)
def test_in_the_order_given_and_none_twice(folder, arguments, images):
    assert collect(arguments, 'data/poses').images == images


def test_a_file_whose_name_looks_like_a_pattern(folder):
    (folder / '[1].jpg').touch()
    assert collect(['data/[1].jpg']).images == ('data/[1].jpg',)


def test_links_to_folders_are_followed_once(folder):
    os.symlink(folder.parent / 'data/sub', 'data/linked')
    os.symlink(folder.parent / 'data', 'data/sub/circle')
    far = folder.parent / 'far'
    far.mkdir()
    (far / 'd.jpg').touch()
    os.symlink(far, 'data/zoo')
    assert collect(['data'], 'data/poses').images == (
        'data/a.PNG', 'data/b.jpg', 'data/linked/b.jpg', 'data/linked/deep/c.tiff', 'data/zoo/d.jpg'
    )  # fmt: skip


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['nowhere'], "'nowhere' does not exist"),
        (['data', 'nowhere/*.jpg'], r"'nowhere/\*\.jpg' does not exist"),
        (['data/notes.txt'], r"'data/notes\.txt' has the name of neither an image nor a video"),
        (['data/*.txt'], r"nothing that 'data/\*\.txt' matches is an image or a video"),
        (['empty'], "folder 'empty' holds no images and no videos"),
        (['data/poses'], "all that is given lies in --out 'data/poses': choose another --out"),
        (['camera', 'data'], "'camera': a camera is given alone"),
        (['camera:one'], "'camera:one': a camera is given alone, as camera or camera:NUMBER"),
        (['camera:²'], "'camera:²'"),
        (['camera:99999999999'], "'camera:99999999999': a camera is given alone"),
        (['camera:' + '9' * 5000], "'camera:9999"),
        (['photos'], r"folder 'photos' holds no images and no videos, only \.gif, \.heic"),
        (
            ['photos/*'],
            r"nothing that 'photos/\*' matches is an image or a video, only \.gif, \.heic",
        ),
    ],
)
def test_arguments_that_name_nothing(folder, arguments, line):
    Path('empty').mkdir()
    Path('photos').mkdir()
    Path('photos/a.heic').touch(), Path('photos/b.GIF').touch()
    with pytest.raises(UserError, match=line) as caught:
        collect(arguments, 'data/poses')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('arguments', [['data'], ['data/*', 'data/sub/*']])
def test_files_that_are_skipped_are_counted_and_named(folder, arguments):
    for name in ('a.heic', 'sub/b.HEIC', 'sub/c.gif', 'README', 'poses/keypoints.json'):
        (folder / name).touch()
    found = collect(arguments, 'data/poses')
    assert found.images == IMAGES
    assert sorted(found.skipped) == [
        'data/README', 'data/a.heic', 'data/notes.txt', 'data/sub/b.HEIC', 'data/sub/c.gif'
    ]  # fmt: skip
    assert found.skipped_line().startswith(
        'skipped 5 files that are neither image nor video by name (2 .heic, 1 '
    )
    assert found.skipped_line().endswith("), e.g. 'data/README'")
    for number in range(8):
        (folder / f'x.a{number}').touch()
    assert ', 6 others), e.g. ' in collect(arguments, 'data/poses').skipped_line()
    assert collect(['data/b.jpg']).skipped_line() is None


@pytest.mark.parametrize(('text', 'number'), [('camera', 0), ('camera:', 0), ('camera:12', 12)])
def test_a_camera(text, number):
    assert collect([text]) == sources.Inputs((), (), number)


def test_a_folder_that_cannot_be_read(folder, monkeypatch):
    def scandir(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(os, 'scandir', scandir)
    with pytest.raises(UserError, match="folder 'data' cannot be read: Permission denied"):
        collect(['data'])


def film(path: Path, count: int = 20, size: tuple[int, int] = (64, 48)) -> Path:
    """Frames with a white bar of 2 pixels more on each."""
    code = cv2.VideoWriter_fourcc(*('MJPG' if path.suffix == '.avi' else 'mp4v'))
    writer = cv2.VideoWriter(str(path), code, 10, size)
    assert writer.isOpened()
    for number in range(count):
        frame = np.zeros((*size[::-1], 3), np.uint8)
        frame[:, : 2 * number + 2] = 255
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize('name', ['a.mp4', 'a.avi'])
def test_all_frames_in_their_order(tmp_path, name):
    video = Video(str(film(tmp_path / name)))
    assert (video.fps, video.frames) == (10, 20)
    frames = list(video)  # all held: each has memory of its own
    bars = [(frame[:, :, 0].mean(0) > 128).sum() for frame in frames]
    assert bars == list(range(2, 42, 2))
    assert video.read == 20
    assert video.truncation() is None


def turned_film(path: Path, turn: int, count: int = 6) -> Path:
    """96 x 64 as stored: red and green above, blue and black below; noted to be turned clockwise.

    As phones do it, the matrix of the track's header (ISO/IEC 14496-12, 8.3.2) maps what is stored
    to what is to be shown: x' = a x + c y, y' = b x + d y.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (96, 64))
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48, 2] = frame[:32, 48:, 1] = frame[32:, :48, 0] = 255
    for _ in range(count):
        writer.write(frame)
    writer.release()
    data = bytearray(path.read_bytes())
    at = data.find(b'tkhd') + 4 + 40
    assert struct.unpack_from('>9i', data, at) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    struct.pack_into('>9i', data, at, *matrix)
    path.write_bytes(data)
    return path


CORNERS = {0: 'RGBk', 90: 'BRkG', 180: 'kBGR', 270: 'GkRB'}  # row by row


def corners(frame: np.ndarray) -> str:
    """Colours of the four corners, row by row; k is black."""
    pixels = [frame[y, x] for y in (5, -6) for x in (5, -6)]
    return ''.join('BGRk'[np.argmax([*pixel, 60])] for pixel in pixels)


@pytest.mark.parametrize('turn', CORNERS)
def test_a_video_is_turned_as_the_phone_noted(tmp_path, turn):
    frames = list(Video(str(turned_film(tmp_path / 'a.mp4', turn))))
    assert len(frames) == 6
    for frame in frames:
        assert frame.shape == ((96, 64, 3) if turn in (90, 270) else (64, 96, 3))
        assert corners(frame) == CORNERS[turn]


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no such pipes')
def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / 'a.mp4')
    with pytest.raises(DataError, match=r"a\.mp4' is no file"):
        Video(str(tmp_path / 'a.mp4'))


def test_a_video_that_is_cut_short(tmp_path):
    whole = film(tmp_path / 'a.avi').read_bytes()
    path = tmp_path / 'cut.avi'
    path.write_bytes(whole[: len(whole) * 6 // 10])
    video = Video(str(path))
    count = len(list(video))
    assert 0 < count < 19
    assert video.truncation() == f"'{path}' is cut short: {count} of 20 frames can be read"


def test_videos_that_cannot_be_opened(tmp_path, capfd):
    whole = film(tmp_path / 'a.mp4').read_bytes()
    path = tmp_path / 'cut.mp4'
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(
        DataError, match=r"cut\.mp4' cannot be opened: broken, cut short, or no vid"
    ):
        Video(str(path))
    with pytest.raises(DataError, match=r"none\.mp4' does not exist"):
        Video(str(tmp_path / 'none.mp4'))
    with pytest.raises(DataError, match="'camera 77' cannot be opened: there is none, or it is in"):
        Video(77)


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
    video = Video(str(path))
    assert (video.fps, video.frames) == (25, None)
    assert len(list(video)) == 3
    assert video.truncation() is None
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: Capture(0))
    video = Video(str(path))
    assert list(video) == []
    assert video.truncation() == f"'{path}' is broken: no frame can be read"


def test_who_stops_in_the_middle_lets_go_of_the_file(tmp_path, monkeypatch):
    path, capture = film(tmp_path / 'a.avi'), Capture(3)
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: capture)
    frames = iter(Video(str(path)))
    next(frames)
    assert not capture.released
    frames.close()
    assert capture.released
