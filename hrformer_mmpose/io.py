"""Atomic writes: after a crash a file is the old one or the new one, never a part."""

import errno
import functools
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = '.partial'  # suffix of a file that is being written
MAX_NAME = 255  # bytes of a file's name on usual file systems
# Errors of the disk or folder, which the next file would meet as well.
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


@contextmanager
def replacing(path: str | os.PathLike, sync: bool = True) -> Iterator[str]:
    """Replace a file atomically.

    Args:
        path: of the file, in an existing folder.
        sync: wait until the disk has it. Without, a crash of the machine may leave an empty file.

    Yields:
        Path of an empty temporary file in the same folder, which is renamed to `path` on exit.
        After an error `path` is unchanged and the temporary file is removed.
    """
    folder, name = os.path.split(os.fspath(path))
    suffix = f'.{_host()}-{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}'
    is_too_long = len(os.fsencode(name + suffix)) > MAX_NAME
    partial = os.path.join(folder, suffix if is_too_long else name + suffix)
    # O_EXCL: an existing link of this name would redirect the write.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        if sync:
            _sync(partial, os.O_RDWR)
        os.replace(partial, path)
        if sync:
            with suppress(OSError):  # some file systems know no sync of a folder
                _sync(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(partial)
        raise


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Add the file's name to an OSError that has none, as those of writing to an open file."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def remove_partials(folder: Path, name: str = '**/*') -> None:
    """Remove what killed processes of this machine and container left, see `replacing`.

    Args:
        folder: to search; need not exist.
        name: pattern of the files' names; the default means all, in subfolders as well.
    """
    for partial in folder.glob(f'{name}.{_host()}-*-*{PARTIAL}'):
        number = partial.name.removesuffix(PARTIAL).split('-')[-2]
        if number.isdecimal() and not _is_running(int(number)):
            partial.unlink(missing_ok=True)


@functools.cache
def _host() -> str:
    """Return a token of the machine and of the container whose process numbers hold here."""
    host = socket.gethostname()
    with suppress(OSError):  # Linux only
        host += f' {os.stat("/proc/self/ns/pid").st_ino}'
    return hashlib.sha256(host.encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    """Return whether a process of that number may be running on this machine."""
    if os.name == 'nt':  # signal 0 is Ctrl-C there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        return True
    return True


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
