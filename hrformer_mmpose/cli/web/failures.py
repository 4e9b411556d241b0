"""Errors of an action of the page, as a sentence."""

import os
import sys
import traceback

from ...errors import TRACEBACK, first_line
from .. import terminal


def sentence(error: Exception) -> str:
    """Return the line that the page shows for an error.

    An error that is not the user's is also printed on the terminal: as one line, or as a traceback
    if the environment variable HRFORMER_TRACEBACK is set.
    """
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    line = terminal.one_line(error)
    if line is None:
        line = f'this failed within the program: {type(error).__name__}: {first_line(error)}'
        print(f'error: {line} ({TRACEBACK}=1 prints the traceback)', file=sys.stderr)
    return line[:1].upper() + line[1:]


def print_exception() -> None:
    """Print the exception that is being handled, as one line; see `sentence`."""
    error = sys.exc_info()[1]
    if isinstance(error, Exception):
        print(
            f'error: a request failed: {type(error).__name__}: {first_line(error)}',
            file=sys.stderr,
        )
        if os.environ.get(TRACEBACK):
            traceback.print_exception(error)
