"""Inputs of `hrformer predict` by name: images, videos, a camera."""

import glob
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..imaging import unsupported
from ..imaging.images import SUFFIXES as IMAGES

VIDEOS = {'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.gif', '.apng'}
CAMERA = 'camera'
MAX_CAMERAS = 10_000  # OpenCV encodes the system's interface in the thousands


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
        line = (
            f'skipped {number} file{"s" * (number != 1)} that {"are" if number != 1 else "is"} '
            f"neither image nor video by name ({kinds}), e.g. '{self.skipped[0]}'"
        )
        images = [path for path in self.skipped if _suffix(path) in unsupported.BY_SUFFIX]
        return line + (f"; '{images[0]}' {_refusal(images[0])}" if images else '')


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


def _refusal(path: str) -> str | None:
    """Return what to do with a photo that is not read, by its name; None for other files."""
    return unsupported.BY_SUFFIX.get(_suffix(path))


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
        if refusal := _refusal(argument):
            raise UserError(f"'{argument}' {refusal}")
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
    files = _without_loops(files)
    if not any(map(_is_input, files)):
        raise UserError(f"nothing that '{argument}' matches is an image or a video{_only(files)}")
    return files


def _without_loops(files: list[str]) -> list[str]:
    """Drop the files of folders that were seen under another name, through a link."""
    names: dict[str, str] = {}
    folders = dict.fromkeys(map(os.path.dirname, files))
    kept = {name for name in folders if names.setdefault(os.path.realpath(name), name) == name}
    return [path for path in files if os.path.dirname(path) in kept]


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
