"""Terminal output of commands: one-line errors and progress."""

import argparse
import errno
import importlib.util
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable

from ..errors import TRACEBACK, UserError

INTERRUPTED = 130  # exit status of shells for Ctrl-C
DISPLAYS = ('DISPLAY', 'WAYLAND_DISPLAY')  # variables of the environment
CLOSED_PIPE = 141  # exit status of shells for a closed pipe, as with `| head`
# Errors of the machine and of names of files, not of the program.
MACHINE_ERRORS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG,
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP,
}  # fmt: skip


def run(tool: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line, run a command and exit with its status.

    A user's mistake is printed as one line, with status 1; Ctrl-C likewise, with status 130. The
    environment variable HRFORMER_TRACEBACK=1 shows the traceback instead.

    Args:
        tool: function of the parsed arguments that returns the exit status.
        parser: parser of the command line.
    """
    args = parser.parse_args()
    # A log that cannot be written, as on a full disk, would print a traceback for each line. What
    # matters fails with a line of its own.
    logging.raiseExceptions = False
    os.environ.setdefault('LOCAL_RANK', str(getattr(args, 'local_rank', 0)))
    if hasattr(sys.stdout, 'reconfigure'):  # terminals may lack characters of file names
        sys.stdout.reconfigure(errors='backslashreplace', line_buffering=True)
    try:
        status = tool(args)
    except KeyboardInterrupt:
        if os.environ.get(TRACEBACK):
            raise
        print('interrupted', file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        if not _output_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for buffered output
        status = CLOSED_PIPE
    except Exception as error:
        line = one_line(error)
        if line is None or os.environ.get(TRACEBACK):
            raise
        sys.exit(f'error: {line}')
    if status:
        sys.exit(status)


def _output_closed() -> bool:
    """Return whether the reader has closed standard output."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def one_line(error: BaseException) -> str | None:
    """Return the line to print for an error; None if it is not a user's mistake.

    A mistake in a config may also raise the registry's KeyError.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, UserError):
        # A worker of a data loader passes its traceback on as text that ends with the message.
        if 'Traceback (most recent call last)' in text:
            text = text.split(f'{type(error).__name__}: ')[-1]
        return r'\n'.join(text.strip().splitlines())  # of names of files
    if isinstance(error, KeyError) and 'is not in the' in text and 'registry' in text:
        return text.split('. Please check')[0] + ': check `type` in the config'
    if isinstance(error, KeyError) and 'must contain the key "type"' in text:
        return f'{text.splitlines()[0]}: check the config'
    if isinstance(error, ImportError) and 'pip install' in text:  # of this package
        return ' '.join(text.split())
    if package := missing_package(error):
        where = 'docs/getting_started.md'
        return f'this needs the package {package}, which is not installed: see {where}'
    if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
        return f"'{error.filename}': {error.strerror}" if error.filename else error.strerror
    return None


def missing_package(error: BaseException) -> str | None:
    """Return the third-party package that an import did not find; None for any other error.

    A missing module of this package or of an installed package is a bug, which installing a package
    would not fix.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    package = error.name.partition('.')[0]
    ours = package == __name__.partition('.')[0]
    return None if ours or importlib.util.find_spec(package) else package


class Progress:
    """Progress line, updated on a terminal and repeated in a log; a context manager.

    A final line is printed on exit, even after an exception.

    Args:
        total: number of images or frames; None if unknown.
        unit: name of the counted items.
        done: number of items finished before this run.
        shown: print the line.
    """

    EVERY = 0.2, 15.0  # seconds between lines on a terminal, in a log
    BAR = 24  # characters

    def __init__(self, total: int | None, unit: str, done: int = 0, shown: bool = True):
        self.total, self.unit, self.before, self.done = total, unit, done, done
        self.persons = 0
        self._shown, self._terminal = shown, sys.stderr.isatty()
        self._start = time.monotonic()
        self._last = self._start
        self._width = 0  # characters of the current line on the terminal

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def step(self, persons: int) -> None:
        """Count one more item with its number of persons."""
        self.done += 1
        self.persons += persons
        now = time.monotonic()
        if self._shown and now - self._last >= self.EVERY[not self._terminal]:
            self._last = now
            self._print()

    def close(self) -> None:
        """Print the final line."""
        if self._shown:
            self._print()
            if self._terminal:
                print(file=sys.stderr)

    @property
    def rate(self) -> float:
        """Persons a second."""
        return self.persons / max(time.monotonic() - self._start, 1e-9)

    def _print(self) -> None:
        parts = [f'{self.done} {self.unit}']
        # A video may hold more frames than its header says.
        if self.total and self.done <= self.total:
            full = self.BAR * self.done // self.total
            blocks = '█░' if 'utf' in (sys.stderr.encoding or '').lower() else '#.'
            bar = blocks[0] * full + blocks[1] * (self.BAR - full)
            parts = [f'{bar} {self.done}/{self.total} {self.unit}']
            if self.before < self.done < self.total:
                left = (time.monotonic() - self._start) / (self.done - self.before)
                left = round(left * (self.total - self.done))
                parts.append(f'{left // 60}:{left % 60:02d} left')
        people = f'{self.persons} person{"" if self.persons == 1 else "s"}'
        text = ', '.join([*parts, people, f'{self.rate:.1f} persons/s'])
        if not self._terminal:
            print(text, file=sys.stderr, flush=True)
            return
        # A wrapped line could not be overwritten.
        text = text[: shutil.get_terminal_size().columns - 1]
        print(f'\r{text:<{self._width}}', end='', file=sys.stderr, flush=True)
        self._width = len(text)


def check_display() -> None:
    """Check that windows can be opened: Qt, in OpenCV, ends the process where it finds no display.

    Raises:
        UserError: there is no display.
    """
    if sys.platform == 'linux' and not any(os.environ.get(name) for name in DISPLAYS):
        raise UserError('--show needs a display, and this session has none: leave it out')
