"""Images on the disk: their sizes, and where they are if not where the file says."""

import os
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..imaging import headers
from ..imaging.images import SUFFIXES, decode

HEADER = 1 << 16  # bytes; a header with a large preview or colour profile takes the whole file


def upright_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image as it is decoded; None if it cannot be read."""
    try:
        with open(path, 'rb') as file:
            data = file.read(HEADER)
            if headers.may_end_with_exif(data):
                data += file.read()
            shape = headers.upright_shape(data)
            if shape is None:
                data += file.read()
                shape = headers.upright_shape(data) or decode(data, str(path)).shape[:2]
    except (OSError, DataError):
        return None
    return shape[1], shape[0]


class ImageFolder:
    """Folder of images, found by the names in an annotation file.

    Args:
        root: the folder.

    Raises:
        DataError: `root` is not a folder.
    """

    def __init__(self, root: str):
        if not os.path.isdir(root):
            raise DataError(f"--images '{root}' is not a folder")
        self.root = Path(os.path.abspath(root))  # links unresolved: names stay relative to it
        self._by_name: dict[str, list[PurePosixPath]] | None = None

    def has(self, name: str) -> bool:
        """Return whether a file is where `name` says, relative to the folder or absolute."""
        return os.path.isfile(self._stated(name))

    def _stated(self, name: str) -> Path:
        return self.root / name.replace('\\', '/')  # as Windows writes paths

    def find(self, name: str) -> str | None:
        """Return a file's path relative to the folder, with /; an absolute one if it is elsewhere.

        A file that is not where `name` says is found by its own name in the folder and its
        subfolders; of several, the one that shares most folders with `name`.

        Returns:
            None if there is no such file, or if several fit equally well.
        """
        path = self._stated(name)
        if os.path.isfile(path):
            path = Path(os.path.abspath(path))
            return (
                path.relative_to(self.root).as_posix() if self.root in path.parents else str(path)
            )
        wanted = PurePosixPath(_normalised(name.replace('\\', '/')))
        candidates = self._index().get(wanted.name, [])
        common = [_common_tail(wanted, PurePosixPath(_normalised(str(c)))) for c in candidates]
        best = [c for c, n in zip(candidates, common, strict=True) if n == max(common)]
        return str(best[0]) if len(best) == 1 else None

    def _index(self) -> dict[str, list[PurePosixPath]]:
        """List the images of the folder by name, at first use."""
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for folder, _, files in os.walk(self.root):
                place = PurePosixPath(Path(folder).relative_to(self.root).as_posix())
                for file in files:
                    if os.path.splitext(file)[1].lower() in SUFFIXES:
                        self._by_name[_normalised(file)].append(place / file)
        return self._by_name


def _normalised(name: str) -> str:
    """Return a name in the form that file systems and tools agree on: composed, lower case."""
    return unicodedata.normalize('NFC', name).casefold()


def _common_tail(a: PurePosixPath, b: PurePosixPath) -> int:
    """Return the number of equal parts at the ends of two paths."""
    count = 0
    for left, right in zip(reversed(a.parts), reversed(b.parts), strict=False):
        if left != right:
            break
        count += 1
    return count
