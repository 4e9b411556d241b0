"""Journal of a prediction: one line for each finished image, so that a killed run can continue.

The first line says by what the lines below were made; a run with other settings does not go on. A
line is written when all of its image is done, the picture included; a line that a kill cut short
has no end and is removed. Each line ends in the checksum of what stands before it.
"""

import contextlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError
from ...locks import lock

START = b'{"settings":'  # of the first line
CHECKSUM = b',"crc32":'  # of the line without it
ADVICE = 'choose another --out, or --force to begin anew'


@dataclass
class Content:
    """Content of a journal.

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

    def current(self, name: str, stamp: list[int] | None = None) -> dict | None:
        """The entry of a file; None if there is none, or if the file has changed since.

        Args:
            stamp: of the file as it is now (`parts.stamp`), to compare with the recorded one.
                Entries of earlier versions have none and count as unchanged.
        """
        entry = self.entries.get(name)
        changed = entry is not None and stamp is not None and entry.get('file', stamp) != stamp
        return None if changed else entry

    def done(self, name: str, stamp: list[int] | None = None) -> bool:
        """Return whether a file is finished; a failed one is tried again. See `current`."""
        entry = self.current(name, stamp)
        return entry is not None and not entry.get('failed')


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
            raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error
        try:
            if not lock(self._file):
                raise UserError(f"'{path}' is being written by another run")
            self._take_up(settings, force)
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
        """Return whether a run completed and nothing was added since."""
        return self._content.finished

    def _take_up(self, settings: dict, force: bool) -> None:
        """Go on with what is there, unless it holds predictions that differ or is no journal."""
        self._file.seek(0)
        if force:
            check_start(self._file.read(len(START)), self.path, 'choose another --out')
            return
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

    def current(self, name: str, stamp: list[int] | None = None) -> dict | None:
        """See `Content`."""
        return self._content.current(name, stamp)

    def done(self, name: str, stamp: list[int] | None = None) -> bool:
        """See `Content`."""
        return self._content.done(name, stamp)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def __enter__(self) -> 'Journal':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _write(self, line: dict) -> None:
        text = json.dumps(line, separators=(',', ':')).encode()
        self._file.write(b'%s%s%d}\n' % (text[:-1], CHECKSUM, zlib.crc32(text)))
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
    check_start(data, path)
    found = Content(length=data.rfind(b'\n') + 1)
    lines = data[: found.length].splitlines()
    has_checksums = bool(lines) and CHECKSUM in lines[0]  # earlier versions wrote none
    for number, line in enumerate(lines, start=1):
        values = _values(line, has_checksums)
        known = isinstance(values, dict) and ('settings' if number == 1 else 'name') in values
        if number == 1 and known:
            found.settings = values['settings']
        elif known:
            found.entries[values['name']] = values
            found.finished = False
        elif number > 1 and values == dict(finished=True):
            found.finished = True
        else:
            advice = (
                ADVICE
                if number == 1
                else 'delete it to do its file again, or --force to begin anew'
            )
            raise UserError(f"'{path}' is damaged in line {number}: {advice}")
    return found


def check_start(data: bytes, path: Path, advice: str = ADVICE) -> None:
    """Raise a `UserError` if a file does not start as a journal does; its first line may be cut."""
    if not is_start(data):
        raise UserError(f"'{path}' is not of `hrformer predict`: {advice}")


def is_start(data: bytes) -> bool:
    """Return whether data start like a journal, possibly truncated within the start."""
    return data.startswith(START) or START.startswith(data)


def _values(line: bytes, has_checksum: bool) -> object:
    """Content of a line without its checksum; None if it is damaged."""
    if has_checksum or CHECKSUM in line:
        start, _, number = line.rpartition(CHECKSUM)
        line = start + b'}'
        if number != b'%d}' % zlib.crc32(line):
            return None
    with contextlib.suppress(ValueError):
        return json.loads(line, parse_constant=_refuse)
    return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity
