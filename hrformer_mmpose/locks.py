"""Advisory file locks, which the system releases when a process ends, however it ends."""

import errno
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock(file: IO) -> bool:
    """Take the exclusive lock of an open file, without waiting.

    Returns:
        False if another process (or another open file of this one) holds it. True also where
        there are no locks: on Windows and on some network file systems the user has to take care.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
