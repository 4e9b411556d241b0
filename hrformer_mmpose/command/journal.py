"""What a long prediction has done so far, a line for each image, so that it can go on after a kill.

The first line says by what the lines below were made; a run with other settings does not go on. A
line is written when all of its image is done, the picture included; a line that a kill cut short
has no end and is removed.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Journal:
    """An open journal; a context manager.

    Args:
        path: `.jsonl`. settings: what the predictions depend on; plain data.
        force: begin anew.

    Attributes:
        entries: name -> what is known of it, in the order of writing. finished: whether an earlier
            run came to its end.

    Raises:
        UserError: the journal is another one's, is being written, or cannot be read.
    """

    def __init__(self, path: Path, settings: dict, force: bool = False):
        self.path = path
        self.entries: dict[str, dict] = {}
        self.finished = False
        self._file = open(path, 'a+b')  # noqa: SIM115 (closed by close)
        self._lock()
        if force:
            self._file.truncate(0)
        self._take_up(json.loads(json.dumps(settings)))

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"'{self.path}' is being written by another run") from error

    def _take_up(self, settings: dict) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b'\n') + 1]
        self._file.truncate(len(whole))
        lines = list(_lines(whole, self.path))
        if not lines:
            self._write(dict(settings=settings))
            return
        made_by = lines[0].get('settings')
        for key in settings if made_by is None else sorted({*made_by, *settings}):
            before, now = (made_by or {}).get(key), settings.get(key)
            if before != now:
                raise UserError(
                    f"'{self.path}' holds predictions made with {key}={before!r}, now it is "
                    f'{now!r}: choose another --out, or --force to begin anew'
                )
        for line in lines[1:]:
            if line.get('finished'):
                self.finished = True
            else:
                self.entries[line['name']] = line
                self.finished = False

    def add(self, entry: dict) -> None:
        """A line for an image or a video that is done; `entry['name']` is its path."""
        self.entries[entry['name']] = entry
        self._write(entry)

    def finish(self) -> None:
        """Note that nothing is left to do."""
        self.finished = True
        self._write(dict(finished=True))
        os.fsync(self._file.fileno())

    def done(self, name: str) -> bool:
        """Whether `name` was dealt with; what failed is tried again."""
        return name in self.entries and not self.entries[name].get('failed')

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def __enter__(self) -> 'Journal':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _write(self, line: dict) -> None:
        self._file.write(json.dumps(line, separators=(',', ':')).encode() + b'\n')
        self._file.flush()


def read_entries(path: Path) -> tuple[dict[str, dict], bool]:
    """Entries of a journal that another process may be writing, and whether it is finished."""
    content = path.read_bytes()
    entries, finished = {}, False
    for line in _lines(content[: content.rfind(b'\n') + 1], path):
        finished = bool(line.get('finished'))
        if 'name' in line:
            entries[line['name']] = line
    return entries, finished


def _lines(content: bytes, path: Path) -> Iterator[dict]:
    for number, line in enumerate(content.splitlines(), start=1):
        with contextlib.suppress(ValueError):
            parsed = json.loads(line)
            if isinstance(parsed, dict):
                yield parsed
                continue
        raise UserError(
            f"'{path}', line {number}, is not of `hrformer predict`: choose another --out, or "
            '--force to begin anew'
        )
