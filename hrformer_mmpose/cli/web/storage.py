"""Files of the page: one temporary folder, deleted at the end.

    hrformer-web-XXXX/
      lock        held while the process lives
      uploads/    files as they arrive
      sessions/   a folder of a secret name for each open tab: its upload and its results

A file leaves `uploads` for its session's folder when the page takes it. A session's folder is
deleted when the tab is closed, or after an hour without use. A process that was killed leaves its
folder; the next one deletes it.
"""

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DataError
from ...locks import lock

PREFIX = 'hrformer-web-'
IDLE = 3600.0  # seconds
SWEEP = 60.0  # seconds between two searches for idle sessions
MAX_SESSIONS = 200
MAX_NAME = 60  # characters


@dataclass(eq=False)
class Session:
    """Files and results of a tab.

    Attributes:
        folder: of the session.
        used: time of the last use, by `time.monotonic`.
        work: of each tab of the page, by name: the picture, the video.
        lock: one action of a session at a time.
    """

    folder: Path
    used: float
    work: dict = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Storage:
    """Temporary files by session; a context manager.

    Args:
        idle: seconds without use after which a session is deleted.
        clock: time in seconds.

    Attributes:
        root: folder of all files.
        uploads: folder for files as they arrive.
    """

    def __init__(self, idle: float = IDLE, clock: Callable[[], float] = time.monotonic):
        remove_left_over()
        folder = Path(tempfile.mkdtemp(prefix=f'new-{PREFIX}')).resolve()
        self._lock_file = open(folder / 'lock', 'w')  # noqa: SIM115 (closed by `close`)
        lock(self._lock_file)
        # It gets its name when it is locked: others delete what is not.
        self.root = folder.with_name(folder.name.removeprefix('new-'))
        if os.name == 'nt':  # where nobody does, and a folder of an open file cannot be renamed
            self.root = folder
        else:
            os.rename(folder, self.root)
        self.uploads = self.root / 'uploads'
        self.uploads.mkdir()
        self._idle, self._clock = idle, clock
        self._sessions: dict[str, Session] = {}
        self._taken: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._sweep_again, daemon=True, name='hrformer-sweep').start()

    def session(self, key: str) -> Session:
        """Return the session of a tab, a new one if there is none.

        Args:
            key: name that the browser chose; not used as a path.
        """
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is None:
                folder = self.root / 'sessions' / secrets.token_hex(16)
                folder.mkdir(parents=True)
                session = Session(folder, 0.0)
            self._sessions[key] = session  # the last used one is the last one
            session.used = self._clock()
            while len(self._sessions) > MAX_SESSIONS:
                self._remove(next(iter(self._sessions)))
            return session

    def touch(self, session: Session) -> bool:
        """Note a use of a session; return whether it still exists."""
        session.used = self._clock()
        return session.folder.is_dir()

    def end(self, key: str) -> None:
        """Delete a session and its files."""
        with self._lock:
            self._remove(key)

    def take(self, upload: str | os.PathLike, target: Path) -> None:
        """Move a file that has arrived to a session's folder.

        Equal files of several sessions arrive at one path; the later ones are copies of the first.

        Raises:
            DataError: it is no upload, or has been deleted.
        """
        path = Path(os.path.abspath(upload))
        gone = DataError('the upload is no longer here: drop the file again')
        if self.uploads not in path.parents or path.is_symlink():
            raise gone
        with self._lock:
            source = path if path.is_file() else self._taken.get(str(path))
            if source is None or not source.is_file():
                raise gone
            if source == path:
                os.replace(path, target)
                self._taken[str(path)] = target
            else:
                shutil.copyfile(source, target)

    def sweep(self) -> None:
        """Delete idle sessions, and uploads that no session took."""
        with self._lock:
            limit = self._clock() - self._idle
            for key in [key for key, session in self._sessions.items() if session.used < limit]:
                self._remove(key)
            self._taken = {name: path for name, path in self._taken.items() if path.is_file()}
            oldest = time.time() - self._idle
            for folder, folders, names in os.walk(self.uploads, topdown=False):
                for name in names:
                    path = os.path.join(folder, name)
                    with contextlib.suppress(OSError):
                        if os.lstat(path).st_mtime < oldest:
                            os.unlink(path)
                for name in folders:
                    with contextlib.suppress(OSError):  # not empty
                        os.rmdir(os.path.join(folder, name))

    def _sweep_again(self) -> None:
        while not self._closed.wait(SWEEP):
            self.sweep()

    def _remove(self, key: str) -> None:
        session = self._sessions.pop(key, None)
        if session is not None:
            shutil.rmtree(session.folder, ignore_errors=True)

    def close(self) -> None:
        """Delete all files."""
        self._closed.set()
        with self._lock:
            self._sessions.clear()
            self._lock_file.close()
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> 'Storage':
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def remove_left_over() -> None:
    """Delete the folders of processes of this user that were killed."""
    if os.name == 'nt':  # without locks a running process cannot be told from a killed one
        return
    for folder in Path(tempfile.gettempdir()).glob(f'{PREFIX}*'):
        with contextlib.suppress(OSError), open(folder / 'lock', 'r+') as file:
            if os.stat(folder).st_uid == os.getuid() and lock(file):
                shutil.rmtree(folder, ignore_errors=True)


def display_name(name: str) -> str:
    """Return a name for messages: no folders, no control characters, at most 60 characters."""
    name = re.split(r'[/\\]', name)[-1]
    name = ''.join(c if c.isprintable() else ' ' for c in name).strip()
    if len(name) > MAX_NAME:
        name = f'{name[: MAX_NAME // 2]}…{name[-MAX_NAME // 2 + 1 :]}'
    return name or 'upload'


def file_stem(name: str) -> str:
    """Return the beginning of the names of results: letters, digits, - and _ alone."""
    stem = display_name(name).rpartition('.')[0] or display_name(name)
    return re.sub(r'[^\w-]+', '_', stem).strip('_') or 'upload'
