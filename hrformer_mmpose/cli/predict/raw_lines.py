"""Raw lines of a video: the network's poses, appended frame by frame, so that a kill loses none."""

import json
from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError
from ...io import naming
from ...locks import lock
from .journal import parse_line, plain, write_line


class RawLines:
    """File of the poses of a video that is being predicted; a context manager.

    The first line holds the key. Each line ends with a checksum, as in the journal. Lines after the
    first damaged one, and those of another key, are dropped.

    Args:
        path: `.jsonl` file.
        key: what the poses depend on, as plain data.
        force: drop all lines.

    Attributes:
        count: number of frames in the file.
        is_whole: whether all frames of the video are in the file.

    Raises:
        UserError: the file cannot be read or written, or another run is writing it.
    """

    def __init__(self, path: Path, key: dict, force: bool = False):
        self.path, self.count, self.is_whole = path, 0, False
        self._problems: list[str] = []
        try:
            self._file = open(path, 'a+b')  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error
        if not lock(self._file):
            self._file.close()
            raise UserError(f"'{path}' is being written by another run")
        self._start = 0 if force else self._resume(plain(key))
        if not self._start:
            self._file.truncate(0)
            self._start = write_line(self._file, dict(key=plain(key)))

    def _resume(self, key: dict) -> int:
        """Read the file; return the length of its first line, 0 if it cannot be continued."""
        self._file.seek(0)
        first = self._file.readline()
        if parse_line(first) != dict(key=key):
            return 0
        length = len(first)
        for line in self._file:
            values = parse_line(line)
            if values is None:
                break
            length += len(line)
            self._take(values)
        self._file.truncate(length)
        return len(first)

    def _take(self, values: dict) -> None:
        self._problems += values.get('problems', ())
        self.is_whole = 'end' in values
        self.count += not self.is_whole

    def add(self, row: dict, problems: list[str]) -> None:
        """Append the line of a frame."""
        self._add(dict(row, problems=problems) if problems else row)

    def finish(self, problems: list[str]) -> None:
        """Record that all frames are in the file."""
        self._add(dict(end=True, problems=problems))

    def _add(self, values: dict) -> None:
        write_line(self._file, values)
        self._take(values)

    def problems(self) -> list[str]:
        """Return the problems of all frames, those of earlier runs included."""
        return list(self._problems)

    def rows(self) -> Iterator[dict]:
        """Yield the lines of the frames."""
        with open(self.path, 'rb') as file:
            file.seek(self._start)
            for _, line in zip(range(self.count), file, strict=False):
                yield json.loads(line)

    def remove(self) -> None:
        """Remove the file: its content is in the final lines."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> 'RawLines':
        return self

    def __exit__(self, *exception) -> None:
        with naming(self.path):  # after a full disk, closing writes once more, in vain
            self._file.close()
