"""Errors of an action of the page, as a sentence."""

import os
import sys
import traceback

from ...errors import TRACEBACK
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
        first = (str(error).strip().splitlines() or ['no message'])[0]
        line = f'this failed within the program: {type(error).__name__}: {first[:300]}'
        print(f'error: {line} ({TRACEBACK}=1 prints the traceback)', file=sys.stderr)
    return line[:1].upper() + line[1:]
