"""Journal of a prediction: one line for each finished image, so that a killed run can continue.

The first line records the settings; a run with other settings is refused. The line of an image is
written after all its results, the picture included. An incomplete last line, left by a kill, is
removed. Each line ends with a checksum.
"""

import contextlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ...errors import UserError
from ...io import naming
from ...locks import lock

START = b'{"settings":'  # of the first line
CHECKSUM = b',"crc32":'  # of the line without it
ADVICE = 'choose another --out, or --force to begin anew'
ADVICE_FOR_LINE = 'delete it to do its file again, or --force to begin anew'
Stamp = list[int] | None  # size and modification time of a file, see `shards.stamp`


@dataclass
class Content:
    """Content of a journal.

    Attributes:
        settings: settings that its predictions depend on; None for an empty journal.
        entries: entry of each finished file by name, in the order of writing.
        finished: a run completed, and nothing was added since.
        length: bytes of its complete lines.
    """

    settings: dict | None = None
    entries: dict[str, dict] = field(default_factory=dict)
    finished: bool = False
    length: int = 0

    def difference(self, settings: dict) -> str | None:
        """Return the first setting that differs, as text; None if all are equal."""
        before, now = self.settings or {}, plain(settings)
        for key in dict.fromkeys([*now, *before]):
            if before.get(key) != now.get(key):
                return f'{key}={before.get(key)!r}, now it is {now.get(key)!r}'
        return None

    def current(self, name: str, stamp: Stamp = None) -> dict | None:
        """Return the entry of a file; None if there is none, or if the file has changed since.

        Args:
            name: path of the file.
            stamp: present stamp of the file, to compare with the recorded one. Entries of earlier
                versions have no stamp and count as unchanged.
        """
        entry = self.entries.get(name)
        changed = entry is not None and stamp is not None and entry.get('file', stamp) != stamp
        return None if changed else entry

    def done(self, name: str, stamp: Stamp = None) -> bool:
        """Return whether a file is finished and has not failed, see `current`."""
        entry = self.current(name, stamp)
        return entry is not None and not entry.get('failed')


class Journal(Content):
    """A journal open for writing; a context manager.

    Args:
        path: `.jsonl` file.
        settings: settings that the predictions depend on, as plain data. The list of images is not
            among them, because a folder may grow.
        force: start over.

    Raises:
        UserError: the journal has other settings, is being written, or cannot be read or written.
    """

    def __init__(self, path: Path, settings: dict, force: bool = False):
        super().__init__()
        self.path = path
        try:
            self._file = open(path, 'a+b')  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise UserError(f"'{path}' cannot be written: {error.strerror or error}") from error
        try:
            if not lock(self._file):
                raise UserError(f"'{path}' is being written by another run")
            self._resume(settings, force)
            self._file.truncate(self.length)
            if self.settings is None:
                self._write(dict(settings=plain(settings)))
        except BaseException:
            self._file.close()
            raise

    def _resume(self, settings: dict, force: bool) -> None:
        self._file.seek(0)
        if force:
            check_start(self._file.read(len(START)), self.path, 'choose another --out')
            return
        content = parse(self._file.read(), self.path)
        if not content.entries:  # without entries, other settings do no harm
            return
        if difference := content.difference(settings):
            raise UserError(f"'{self.path}' holds predictions made with {difference}: {ADVICE}")
        vars(self).update(vars(content))

    def add(self, entry: dict) -> None:
        """Write the line of a finished image or video; `entry['name']` is its path."""
        self._write(entry)
        self.entries[entry['name']] = plain(entry)
        self.finished = False

    def finish(self) -> None:
        """Record that the run completed."""
        if not self.finished:
            self._write(dict(finished=True))
            os.fsync(self._file.fileno())
            self.finished = True

    def close(self) -> None:
        """Close the file and release its lock."""
        with naming(self.path):
            self._file.close()

    def __enter__(self) -> 'Journal':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _write(self, line: dict) -> None:
        write_line(self._file, line)


def write_line(file: BinaryIO, values: dict) -> int:
    """Write a line of JSON with its checksum, at once; return its length in bytes."""
    text = json.dumps(values, separators=(',', ':')).encode()
    line = b'%s%s%d}\n' % (text[:-1], CHECKSUM, zlib.crc32(text))
    with naming(file.name):
        file.write(line)
        file.flush()
    return len(line)


def parse_line(line: bytes) -> dict | None:
    """Return the content of a whole line of `write_line`; None if it is damaged or cut short."""
    values = _values(line.removesuffix(b'\n'), has_checksum=True) if line[-1:] == b'\n' else None
    return values if isinstance(values, dict) else None


def plain(values: dict) -> dict:
    """Convert values as JSON does: tuples to lists."""
    return json.loads(json.dumps(values))


def read(path: Path) -> Content:
    """Read a journal, which another process may be writing.

    Raises:
        UserError: the file cannot be read, or is not a journal.
    """
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}") from error


def parse(data: bytes, path: Path) -> Content:
    """Parse the content of a journal.

    Args:
        data: bytes of the file.
        path: path for messages.

    Raises:
        UserError: the file is not a journal, or is damaged.
    """
    check_start(data, path)
    content = Content(length=data.rfind(b'\n') + 1)
    lines = data[: content.length].splitlines()
    has_checksums = bool(lines) and CHECKSUM in lines[0]  # earlier versions wrote none
    for number, line in enumerate(lines, start=1):
        values = _values(line, has_checksums)
        key, kind = ('settings', dict) if number == 1 else ('name', str)
        is_valid = isinstance(values, dict) and isinstance(values.get(key), kind)
        if number == 1 and is_valid:
            content.settings = values['settings']
        elif is_valid:
            content.entries[values['name']] = values
            content.finished = False
        elif number > 1 and values == dict(finished=True):
            content.finished = True
        else:
            advice = ADVICE if number == 1 else ADVICE_FOR_LINE
            raise UserError(f"'{path}' is damaged in line {number}: {advice}")
    return content


def check_start(data: bytes, path: Path, advice: str = ADVICE) -> None:
    """Check that a file starts like a journal, possibly with a truncated first line.

    Raises:
        UserError: it does not.
    """
    if not is_start(data):
        raise UserError(f"'{path}' is not of `hrformer predict`: {advice}")


def is_start(data: bytes) -> bool:
    """Return whether data start like a journal, possibly truncated within the start."""
    return data.startswith(START) or START.startswith(data)


def _values(line: bytes, has_checksum: bool) -> object:
    """Return the content of a line without its checksum; None if it is damaged."""
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
