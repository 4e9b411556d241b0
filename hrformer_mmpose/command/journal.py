"""What a long prediction has done so far, a line for each image, so that it can go on after a kill.

The first line says by what the lines below were made; a run with other settings does not go on. A
line is written when all of its image is done, the picture included; a line that a kill cut short
has no end and is removed.
"""

import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..locks import lock

START = b'{"settings":'  # of the first line
ADVICE = 'choose another --out, or --force to begin anew'


@dataclass
class Content:
    """What a journal holds.

    Attributes:
        settings: what its predictions depend on; None where there is nothing yet. entries: name ->
            what is known of it, in the order of writing. finished: whether a run came to its end,
            and nothing was added since. length: bytes of its whole lines.
    """

    settings: dict | None = None
    entries: dict[str, dict] = field(default_factory=dict)
    finished: bool = False
    length: int = 0

    def difference(self, settings: dict) -> str | None:
        """The first setting that is another one, as text; None if all are equal."""
        before, now = self.settings or {}, plain(settings)
        for key in dict.fromkeys([*now, *before]):
            if before.get(key) != now.get(key):
                return f'{key}={before.get(key)!r}, now it is {now.get(key)!r}'
        return None

    def done(self, name: str) -> bool:
        """Whether `name` was dealt with; what failed is to be tried again."""
        return name in self.entries and not self.entries[name].get('failed')


class Journal:
    """An open journal; a context manager.

    Args:
        path: `.jsonl`. settings: what the predictions depend on; plain data. What only adds or
            takes away images is no setting: a folder may grow.
        force: begin anew.

    Attributes:
        entries, finished: see `Content`.

    Raises:
        UserError: the journal is another one's, is being written, or cannot be read or written.
    """

    def __init__(self, path: Path, settings: dict, force: bool = False):
        self.path = path
        self._content = Content()
        try:
            self._file = open(path, 'a+b')  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror}") from error
        try:
            if not lock(self._file):
                raise UserError(f"'{path}' is being written by another run")
            if not force:
                self._take_up(settings)
            self._file.truncate(self._content.length)
            if self._content.settings is None:
                self._write(dict(settings=plain(settings)))
        except BaseException:
            self._file.close()
            raise

    @property
    def entries(self) -> dict[str, dict]:
        """Name -> what is known of it, in the order of writing."""
        return self._content.entries

    @property
    def finished(self) -> bool:
        """Whether a run came to its end, and nothing was added since."""
        return self._content.finished

    def _take_up(self, settings: dict) -> None:
        """Go on with what is there, unless it holds predictions that differ."""
        self._file.seek(0)
        found = parse(self._file.read(), self.path)
        if not found.entries:  # nothing that could be mixed up
            return
        if difference := found.difference(settings):
            raise UserError(f"'{self.path}' holds predictions made with {difference}: {ADVICE}")
        self._content = found

    def add(self, entry: dict) -> None:
        """A line for an image or a video that is done; `entry['name']` is its path."""
        self._write(entry)
        self._content.entries[entry['name']] = plain(entry)
        self._content.finished = False

    def finish(self) -> None:
        """Note that nothing is left to do."""
        if not self._content.finished:
            self._write(dict(finished=True))
            os.fsync(self._file.fileno())
            self._content.finished = True

    def done(self, name: str) -> bool:
        """See `Content`."""
        return self._content.done(name)

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


def plain(values: dict) -> dict:
    """As JSON gives them back: tuples as lists."""
    return json.loads(json.dumps(values))


def read(path: Path) -> Content:
    """A journal that another process may be writing.

    Raises:
        UserError: it cannot be read, or is another one's.
    """
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}") from error


def parse(data: bytes, path: Path) -> Content:
    """The content of a journal; `path` is for messages.

    Raises:
        UserError: it is not one.
    """
    # The very first line, too, may be cut.
    if not (data.startswith(START) or START.startswith(data)):
        raise UserError(f"'{path}' is not of `hrformer predict`: {ADVICE}")
    found = Content(length=data.rfind(b'\n') + 1)
    for number, line in enumerate(data[: found.length].splitlines(), start=1):
        values = None
        with contextlib.suppress(ValueError):
            values = json.loads(line)
        known = isinstance(values, dict) and ('settings' if number == 1 else 'name') in values
        if number == 1 and known:
            found.settings = values['settings']
        elif known:
            found.entries[values['name']] = values
            found.finished = False
        elif number > 1 and values == dict(finished=True):
            found.finished = True
        else:
            raise UserError(f"'{path}' is damaged in line {number}: {ADVICE}")
    return found
