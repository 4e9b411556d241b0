"""Advisory file locks, released by the system when their process ends, also after a kill."""

import errno
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock(file: IO) -> bool:
    """Take the exclusive lock of an open file, without waiting.

    Returns:
        False if another process or another open file of this process holds it. True where locks are
        not supported: on Windows and on some network file systems.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
