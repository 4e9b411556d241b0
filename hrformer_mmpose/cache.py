"""The user's cache folder, and who may write to what is in it."""

import os
import stat
from pathlib import Path


def cache_root() -> Path:
    """Return the folder of the user's caches; relative if there is no home folder."""
    root = Path(os.environ.get('XDG_CACHE_HOME', ''))
    if root.is_absolute():  # the XDG specification ignores relative paths
        return root
    return Path(os.path.expanduser('~'), '.cache')


def is_private(status: os.stat_result) -> bool:
    """Return whether only this user or root can write to a file or folder."""
    owners = (0, os.geteuid()) if hasattr(os, 'geteuid') else (0,)  # Windows: all files have 0
    return status.st_uid in owners and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
