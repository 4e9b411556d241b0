"""Inputs of `hrformer predict`: images, videos, a camera."""

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError, UserError

IMAGES = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'}
VIDEOS = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'}
CAMERA = 'camera'
MAX_CAMERAS = 10_000  # OpenCV encodes the system's interface in the thousands
# Share of frames that may be missing: containers state the number of frames only roughly.
MAX_MISSING_FRAMES = 0.02


@dataclass(frozen=True)
class Inputs:
    """Paths of images and videos in a fixed order without repetition, or a camera.

    Attributes:
        images: paths of images.
        videos: paths of videos.
        camera: number of the camera, or None.
        skipped: paths of other files in folders and globs.
    """

    images: tuple[str, ...]
    videos: tuple[str, ...]
    camera: int | None = None
    skipped: tuple[str, ...] = ()

    def skipped_line(self) -> str | None:
        """Return a line that counts the skipped files; None if there are none."""
        if not self.skipped:
            return None
        counts = Counter(_suffix(path) or 'no extension' for path in self.skipped).most_common()
        kinds = ', '.join(f'{count} {kind}' for kind, count in counts[:6])
        kinds += f', {sum(count for _, count in counts[6:])} others' if counts[6:] else ''
        number = len(self.skipped)
        return (
            f'skipped {number} file{"s" * (number != 1)} that {"are" if number != 1 else "is"} '
            f"neither image nor video by name ({kinds}), e.g. '{self.skipped[0]}'"
        )


def collect(arguments: list[str], out: str | os.PathLike | None = None) -> Inputs:
    """Collect the inputs that command-line arguments name.

    Folders are searched recursively, hidden files and folders are ignored, links to folders are
    followed, and a path counts once.

    Args:
        arguments: images, videos, folders and globs, or 'camera[:NUMBER]' alone.
        out: folder of the results, ignored where a searched folder contains it.

    Raises:
        UserError: an argument that names no input.
    """
    paths: dict[str, str] = {}  # by absolute path
    for argument in arguments:
        name, _, number = argument.partition(':')
        if name == CAMERA:
            number = number or '0'
            valid = number.isdecimal() and len(number) <= 9 and int(number) < MAX_CAMERAS
            if len(arguments) > 1 or not valid:
                raise UserError(
                    f"'{argument}': a camera is given alone, as camera or camera:NUMBER"
                )
            return Inputs((), (), int(number))
        for path in _files(argument):
            paths.setdefault(os.path.abspath(path), path)
    if out is not None:
        paths = _outside(paths, os.path.realpath(out))
        if not any(map(_is_input, paths.values())):
            raise UserError(f"all that is given lies in --out '{out}': choose another --out")
    suffixes = {path: _suffix(path) for path in paths.values()}
    return Inputs(
        images=tuple(path for path, suffix in suffixes.items() if suffix in IMAGES),
        videos=tuple(path for path, suffix in suffixes.items() if suffix in VIDEOS),
        skipped=tuple(path for path in suffixes if not _is_input(path)),
    )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_input(path: str) -> bool:
    return _suffix(path) in IMAGES | VIDEOS


def _outside(paths: dict[str, str], out: str) -> dict[str, str]:
    """Drop the paths (by absolute path) whose folder is `out`, a resolved path, or in it."""
    folders = {os.path.dirname(path) for path in paths.values()}
    real = {folder: Path(os.path.realpath(folder)) for folder in folders}
    inside = {folder for folder, path in real.items() if Path(out) in (path, *path.parents)}
    return {key: path for key, path in paths.items() if os.path.dirname(path) not in inside}


def _files(argument: str) -> list[str]:
    """List the files that an argument names; raise unless one is an image or a video by name."""
    if os.path.isfile(argument):
        if not _is_input(argument):
            raise UserError(
                f"'{argument}' has the name of neither an image nor a video "
                f'({", ".join(sorted(IMAGES | VIDEOS))})'
            )
        return [argument]
    if os.path.isdir(argument):
        files = _in_folder(argument)
        if not any(map(_is_input, files)):
            raise UserError(f"folder '{argument}' holds no images and no videos{_only(files)}")
        return files
    matches = sorted(glob.glob(argument, recursive=True))
    if not matches:
        raise UserError(f"'{argument}' does not exist")
    files = []
    for path in matches:
        files += _in_folder(path) if os.path.isdir(path) else [path]
    if not any(map(_is_input, files)):
        raise UserError(f"nothing that '{argument}' matches is an image or a video{_only(files)}")
    return files


def _only(files: list[str]) -> str:
    kinds = sorted({_suffix(path) for path in files} - {''})
    return f', only {", ".join(kinds[:6])}' if kinds else ''


def _in_folder(top: str) -> list[str]:
    """List the files in a folder and its subfolders, sorted by path."""

    def fail(error: OSError):
        raise UserError(f"folder '{error.filename}' cannot be read: {error.strerror}") from error

    files, seen = [], set()
    for folder, folders, names in os.walk(top, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # through a link
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        files += [os.path.join(folder, name) for name in names if not name.startswith('.')]
    return sorted(files)


def source_name(source: str | int) -> str:
    """Return the name of a video (path) or camera (number) in messages and results."""
    return f'camera {source}' if isinstance(source, int) else source


class Video:
    """Frames of a video file or a camera.

    Args:
        source: path of the file, or number of the camera.

    Attributes:
        name: for messages.
        fps: frames per second.
        frames: number of frames as stated by the file; None if it states none.
        read: number of frames read so far.

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, source: str | int):
        is_file = not isinstance(source, int)
        self.name = source_name(source)
        if is_file and not os.path.isfile(source):
            state = 'is no file' if os.path.exists(source) else 'does not exist'
            raise DataError(f"'{self.name}' {state}")
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            hint = 'broken, cut short, or no video' if is_file else 'there is none, or it is in use'
            raise DataError(f"'{self.name}' cannot be opened: {hint}")
        if is_file:  # apply a phone's orientation: OpenCV's default differs between versions
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 25.0
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if count > 0 else None
        self.read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield a new array (H, W, 3) BGR uint8 for each frame."""
        try:
            while True:
                success, frame = self._capture.read()
                if not success:
                    return
                self.read += 1
                yield frame
        finally:
            self._capture.release()

    def truncation(self) -> str | None:
        """Return one line if frames are missing at the end; call it after reading all frames."""
        if self.read == 0:
            return f"'{self.name}' is broken: no frame can be read"
        if self.frames is None or self.read >= self.frames * (1 - MAX_MISSING_FRAMES) - 1:
            return None
        return f"'{self.name}' is cut short: {self.read} of {self.frames} frames can be read"
