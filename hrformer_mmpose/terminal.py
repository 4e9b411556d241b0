"""What a command shows: user errors as one line, and how far long work is."""

import argparse
import os
import sys
import time
from collections.abc import Callable

from .errors import UserError

TRACEBACK = 'HRFORMER_TRACEBACK'


def run(tool: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and run `tool`; a user's mistake ends it with one line and status 1.

    What `tool` returns is the status otherwise.
    Set the environment variable HRFORMER_TRACEBACK=1 to see where an error came from.
    """
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(getattr(args, 'local_rank', 0)))
    try:
        status = tool(args)
    except Exception as error:
        line = one_line(error)
        if line is None or os.environ.get(TRACEBACK):
            raise
        sys.exit(f'error: {line}')
    if status:
        sys.exit(status)


def one_line(error: BaseException) -> str | None:
    """What to tell the user; None if the error is not theirs to mend.

    A mistake in a config also surfaces as the registry's KeyError or as a TypeError for an
    unexpected argument of a class that the config names.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, UserError):
        # A data loader's worker hands on its traceback as text, the message last.
        return (
            text.strip()
            .splitlines()[-1]
            .removeprefix(f'{type(error).__module__}.')
            .split(f'{type(error).__name__}: ')[-1]
        )
    if isinstance(error, KeyError) and 'is not in the' in text and 'registry' in text:
        return text.split('. Please check')[0] + ': check `type` in the config'
    if isinstance(error, TypeError) and 'unexpected keyword argument' in text:
        return f'{text}: check the config'
    return None


class Progress:
    """A line on the terminal, or in a log now and then, that says how far work is.

    Args:
        total: of images or frames; None where nobody knows. unit: what they are. done: of them
            before this run. shown: False keeps silent.
    """

    EVERY = 0.2, 15.0  # seconds between lines on a terminal, in a log

    def __init__(self, total: int | None, unit: str, done: int = 0, shown: bool = True):
        self.total, self.unit, self.before, self.done = total, unit, done, done
        self.persons = 0
        self._shown, self._terminal = shown, sys.stderr.isatty()
        self._start = time.monotonic()
        self._last = self._start

    def step(self, persons: int) -> None:
        """One more image, with so many persons."""
        self.done += 1
        self.persons += persons
        now = time.monotonic()
        if self._shown and now - self._last >= self.EVERY[not self._terminal]:
            self._last = now
            self._print()

    def close(self) -> None:
        """The last line."""
        if self._shown:
            self._print()
            if self._terminal:
                print(file=sys.stderr)

    @property
    def rate(self) -> float:
        """Persons a second."""
        return self.persons / max(time.monotonic() - self._start, 1e-9)

    def _print(self) -> None:
        text = f'{self.done} {self.unit}'
        if self.total:
            share = self.done / self.total
            left = (time.monotonic() - self._start) / max(self.done - self.before, 1)
            left = round(left * (self.total - self.done))
            bar = '█' * round(24 * share) + '░' * (24 - round(24 * share))
            text = f'{bar} {self.done}/{self.total} {self.unit}, {left // 60}:{left % 60:02d} left'
        text += f', {self.persons} persons, {self.rate:.1f} persons/s'
        ends = ('\r', '') if self._terminal else ('', '\n')
        width = 100 if self._terminal else 0
        print(f'{ends[0]}{text:<{width}}', end=ends[1], file=sys.stderr, flush=True)
