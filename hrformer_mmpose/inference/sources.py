"""What `hrformer predict` is given, brought into one order: images, videos, a camera."""

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
MOST_CAMERAS = 10_000  # OpenCV adds up to some thousands for the system's interface
# Containers tell the number of frames only roughly; what is missing beyond this was cut off.
MISSING_FRAMES = 0.02


@dataclass(frozen=True)
class Inputs:
    """Paths of images and videos, in a fixed order without repetition; or a camera's number.

    Attributes:
        skipped: other files of folders and globs.
    """

    images: tuple[str, ...]
    videos: tuple[str, ...]
    camera: int | None = None
    skipped: tuple[str, ...] = ()

    def skipped_line(self) -> str | None:
        """Count and name the files that are skipped; None if there are none."""
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
    """Images, folders (searched with all that is in them), globs, videos, or 'camera[:NUMBER]'.

    Hidden files and folders are passed over, links to folders are followed, and what leads to the
    same path twice counts once.

    Args:
        arguments: see above. out: the folder for results. What lies in it is passed over, since
            it may be in a folder that is searched, and pictures of poses are no inputs.

    Raises:
        UserError: an argument that names nothing.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        name, _, number = argument.partition(':')
        if name == CAMERA:
            number = number or '0'
            good = number.isdecimal() and len(number) <= 9 and int(number) < MOST_CAMERAS
            if len(arguments) > 1 or not good:
                raise UserError(
                    f"'{argument}': a camera is given alone, as camera or camera:NUMBER"
                )
            return Inputs((), (), int(number))
        for path in _files(argument):
            found.setdefault(os.path.abspath(path), path)
    if out is not None:
        kept = _outside([os.path.dirname(path) for path in found], os.path.realpath(out))
        found = {key: path for (key, path), keep in zip(found.items(), kept, strict=True) if keep}
        if not any(map(_is_input, found.values())):
            raise UserError(f"all that is given lies in --out '{out}': choose another --out")
    paths = {path: _suffix(path) for path in found.values()}
    return Inputs(
        images=tuple(path for path, suffix in paths.items() if suffix in IMAGES),
        videos=tuple(path for path, suffix in paths.items() if suffix in VIDEOS),
        skipped=tuple(path for path in paths if not _is_input(path)),
    )


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_input(path: str) -> bool:
    return _suffix(path) in IMAGES | VIDEOS


def _outside(folders: list[str], out: str) -> list[bool]:
    """Whether each folder is neither `out`, a resolved path, nor in it."""
    real = {folder: Path(os.path.realpath(folder)) for folder in set(folders)}
    inside = {folder: Path(out) in (path, *path.parents) for folder, path in real.items()}
    return [not inside[folder] for folder in folders]


def _files(argument: str) -> list[str]:
    """Files that an argument names, at least one of them an image or a video by its name."""
    if os.path.isfile(argument):
        if not _is_input(argument):
            raise UserError(
                f"'{argument}' has the name of neither an image nor a video "
                f'({", ".join(sorted(IMAGES | VIDEOS))})'
            )
        return [argument]
    if os.path.isdir(argument):
        found = _in_folder(argument)
        if not any(map(_is_input, found)):
            raise UserError(f"folder '{argument}' holds no images and no videos{_only(found)}")
        return found
    matches = sorted(glob.glob(argument, recursive=True))
    if not matches:
        raise UserError(f"'{argument}' does not exist")
    found = []
    for path in matches:
        found += _in_folder(path) if os.path.isdir(path) else [path]
    if not any(map(_is_input, found)):
        raise UserError(f"nothing that '{argument}' matches is an image or a video{_only(found)}")
    return found


def _only(found: list[str]) -> str:
    kinds = sorted({_suffix(path) for path in found} - {''})
    return f', only {", ".join(kinds[:6])}' if kinds else ''


def _in_folder(top: str) -> list[str]:
    """Files in a folder and the folders in it, sorted by path."""

    def fail(error: OSError):
        raise UserError(f"folder '{error.filename}' cannot be read: {error.strerror}") from error

    found, seen = [], set()
    for folder, folders, names in os.walk(top, onerror=fail, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # by a link
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        found += [os.path.join(folder, name) for name in names if not name.startswith('.')]
    return sorted(found)


def source_name(source: str | int) -> str:
    """What messages and results call a video, a path, or a camera, a number."""
    return f'camera {source}' if isinstance(source, int) else source


class Video:
    """Frames of a video file or a camera.

    Args:
        source: a path, or a camera's number.

    Attributes:
        name: for messages. fps: frames a second. frames: their number as the file tells it, None
            where it does not. read: how many were read.

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
        if is_file:  # turn it as a phone notes in it: OpenCV's default differs between versions
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else 25.0
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if count > 0 else None
        self.read = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """(H, W, 3) BGR uint8, an array of its own for each frame."""
        try:
            while True:
                good, frame = self._capture.read()
                if not good:
                    return
                self.read += 1
                yield frame
        finally:
            self._capture.release()

    def cut_short(self) -> str | None:
        """After reading: one line if frames are missing at the end."""
        if self.read == 0:
            return f"'{self.name}' is broken: no frame can be read"
        if self.frames is None or self.read >= self.frames * (1 - MISSING_FRAMES) - 1:
            return None
        return f"'{self.name}' is cut short: {self.read} of {self.frames} frames can be read"
