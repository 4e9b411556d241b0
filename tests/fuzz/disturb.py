"""Disturb a run at one of its file operations: kill the process there, or report a full disk.

Operations are counted where they change a folder: opening for writing, writing, syncing, renaming,
removing and making folders. Metadata operations are seen by an audit hook; written bytes by a file
class, so that a disturbed write leaves half of them behind.
"""

import builtins
import errno
import io
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

KILL, FULL = 'kill', 'full'
# Audit events of operations that change a folder; `os.replace` is reported as a rename.
_EVENTS = {'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir', 'os.truncate', 'os.link', 'os.symlink'}
ALLOCATES = {'open', 'write', 'fsync', 'os.mkdir', 'os.rename'}  # may fail on a full disk


class Operations:
    """Counts the file operations below a folder in this process; disturbs number `at`.

    There is no way back: to be used in a process forked for it.

    Args:
        folder: see above. at: number of the operation, from 0; None only counts. how: `KILL` or
            `FULL`: from operation `at` on, whatever needs space fails with ENOSPC.
        log: file that gets a line for each operation.
    """

    def __init__(self, folder: Path, at: int | None, how: str = KILL, log: Path | None = None):
        self.folder, self.at, self.how = os.path.realpath(folder), at, how
        self.log = None if log is None else os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        self.count = 0

    def install(self) -> None:
        """Count from now on."""
        sys.addaudithook(self._audit)
        raw = type('Counted', (_Counted,), {'operations': self})
        real, self._fsync = io.open, os.fsync

        def opened(
            file,
            mode='r',
            buffering=-1,
            encoding=None,
            errors=None,
            newline=None,
            closefd=True,
            opener=None,
        ):
            if isinstance(file, int) or not set(mode) & set('wax+') or not self.concerns(file):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            stream = raw(file, mode.replace('b', '').replace('t', ''), closefd, opener)
            stream = (io.BufferedRandom if '+' in mode else io.BufferedWriter)(stream)
            if 'b' in mode:
                return stream
            return io.TextIOWrapper(
                stream, encoding, errors, newline, line_buffering=buffering == 1
            )

        builtins.open = io.open = opened
        os.fsync = self._counted_fsync

    def concerns(self, path: Any) -> bool:
        """Whether a path lies below the folder."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(self.folder + os.sep)

    def next(self, operation: str, path: Any) -> bool:
        """Count an operation; whether it is to be disturbed."""
        number, self.count = self.count, self.count + 1
        if self.log is not None:
            os.write(self.log, f'{number} {operation} {os.fsdecode(path)}\n'.encode())
        if self.at is None or number < self.at:
            return False
        return number == self.at if self.how == KILL else operation in ALLOCATES

    def strike(self, path: Any) -> None:
        """End the process, or raise what a full disk raises."""
        if self.how == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    def _audit(self, event: str, arguments: tuple) -> None:
        if event == 'open':
            path, _, flags = arguments
            if (
                flags & (os.O_WRONLY | os.O_RDWR)
                and self.concerns(path)
                and self.next('open', path)
            ):
                self.strike(path)
        elif event in _EVENTS and self.concerns(arguments[0]) and self.next(event, arguments[0]):
            self.strike(arguments[0])

    def _counted_fsync(self, descriptor: int) -> None:
        path = os.readlink(f'/proc/self/fd/{descriptor}')
        if self.concerns(path) and self.next('fsync', path):
            self.strike(path)
        self._fsync(descriptor)


class _Counted(io.FileIO):
    """A file whose writes are counted."""

    operations: Operations

    def write(self, data: Any) -> int:
        if self.operations.next('write', self.name):
            super().write(memoryview(data)[: len(data) // 2])
            self.operations.strike(self.name)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        if self.operations.next('os.truncate', self.name):
            self.operations.strike(self.name)
        return super().truncate(size)


def in_fork(
    call: Any, folder: Path, at: int | None = None, how: str = KILL, log: Path | None = None,
    output: Path | None = None,
) -> int:  # fmt: skip
    """Call a function in a forked process with its operations disturbed.

    Args:
        call: exits with the status of a command. output: file for what it prints. others: see
            `Operations`.

    Returns:
        Its exit status, negative for a signal.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            descriptor = os.open(output or os.devnull, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            Operations(folder, at, how, log).install()
            call()
            status = 0
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, flush=True)
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            traceback.print_exc()
            status = 99
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
