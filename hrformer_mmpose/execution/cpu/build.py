"""Builds the kernels with the machine's C compiler, once, and loads them.

A compiler is no requirement: without one, or where anything fails, `load` says why and the layers
take PyTorch's operators. What is built is kept in the user's cache folder under a name that tells
source, compiler and processor. A library is loaded only if nobody else can have written it and its
digest, the last bytes of the file, shows it to be whole.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
# gnu11 and not c11, with which GCC makes no fused multiply-adds.
FLAGS = ('-O3', '-march=native', '-std=gnu11', '-fno-math-errno', '-fno-trapping-math', '-fPIC')
SWITCH = 'HRFORMER_NATIVE'
SECONDS = 120  # for a run of the compiler
_DIGEST = hashlib.sha256().digest_size


class Unavailable(Exception):
    """Why there are no kernels on this machine, as one line."""


def load() -> tuple[ctypes.CDLL, str | None]:
    """The library, and a line for the log if it was built just now.

    Raises:
        Unavailable: see there.
    """
    if os.environ.get(SWITCH) == '0':
        raise Unavailable(f'{SWITCH}=0')
    try:
        compiler, openmp, folder = _compiler(), _openmp(), _folder()
        path = folder / f'kernels-{_fingerprint(compiler, openmp)}.so'
        news, library = None, _open(path)
        if library is None:
            news = _build(compiler, openmp, path)
            library = _open(path)
    except OSError as error:
        where = f"'{error.filename}': {error.strerror}" if error.filename else str(error)
        raise Unavailable(where) from error
    if library is None:
        raise Unavailable(f"'{path}' was just built, and is damaged or belongs to another user")
    return library, news


def _compiler() -> list[str]:
    """The command, which in CC may have arguments."""
    if platform.system() != 'Linux':
        raise Unavailable(f'they are built on Linux only, this is {platform.system()}')
    try:
        given = shlex.split(os.environ.get('CC', ''))
    except ValueError as error:
        raise Unavailable(f'CC={os.environ["CC"]!r}: {error}') from error
    for name, *arguments in filter(None, (given, ['gcc'], ['cc'])):
        if path := shutil.which(name):
            return [path, *arguments]
    raise Unavailable('no C compiler (gcc) was found')


def _folder() -> Path:
    """The cache folder, which is this user's, or root's, and which others cannot write to."""
    root = Path(os.environ.get('XDG_CACHE_HOME', ''))
    if not root.is_absolute():  # to be ignored then, says the XDG specification
        root = Path(os.path.expanduser('~'), '.cache')
    if not root.is_absolute():
        raise Unavailable('there is no home folder: let XDG_CACHE_HOME name a folder')
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = root.resolve() / 'hrformer_mmpose'
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(folder.stat()):
        raise Unavailable(
            f"'{folder}' belongs to another user or can be written by others: "
            'chmod 700 it, or let XDG_CACHE_HOME name a folder of your own'
        )
    return folder


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _open(path: Path) -> ctypes.CDLL | None:
    """The library in a file; None if there is none, or a damaged one, or another user's."""
    try:
        # Neither follows a link nor waits for a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, 'rb') as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
            return None
        content = file.read()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            return None
        # By a descriptor: what was checked, whatever the path names by now. It stays open, for
        # dlopen takes a name that it knows for the library that it knows.
        return ctypes.CDLL(f'/proc/self/fd/{os.dup(descriptor)}')


def _fingerprint(compiler: list[str], openmp: Path) -> str:
    """Hash of all that the library depends on: a home folder may serve machines of several kinds.

    The compiler's macros tell its version and what this processor can do.
    """
    macros = _run([*compiler, *FLAGS, '-dM', '-E', '-x', 'c', os.devnull])
    if not macros.strip():
        raise Unavailable(f"'{compiler[0]}' is no C compiler: it prints nothing")
    sources = [path.read_bytes() for path in sorted(FOLDER.glob('*.[ch]'))]
    command = '\n'.join([*compiler, *FLAGS, str(openmp)])
    return hashlib.sha256(b'\n'.join([*sources, macros, command.encode()])).hexdigest()[:16]


def _openmp() -> Path:
    """The OpenMP library that PyTorch has loaded: a second one would bring threads of its own."""
    for line in Path('/proc/self/maps').read_bytes().splitlines():
        path = os.fsdecode(line.split(maxsplit=5)[-1])
        if os.path.basename(path).startswith('libgomp'):
            return Path(path)
    raise Unavailable("this PyTorch does not use GCC's OpenMP")


def _build(compiler: list[str], openmp: Path, path: Path) -> str:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        library, objects = Path(folder, 'kernels.so'), []
        for source in sorted(FOLDER.glob('*.c')):
            objects.append(os.path.join(folder, f'{source.stem}.o'))
            _run([*compiler, *FLAGS, '-fopenmp', '-c', str(source), '-o', objects[-1]])
        # Linked by hand: -fopenmp would bring GCC's own library beside PyTorch's.
        _run([*compiler, '-shared', *objects, str(openmp), '-lm', '-o', str(library)])
        digest = hashlib.sha256(library.read_bytes()).digest()
        with open(library, 'ab') as file:
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        library.chmod(0o700)
        os.replace(library, path)  # whole, or not at all: other processes may be building, too
    return f"built CPU kernels in {time.perf_counter() - start:.0f} s: '{path}'"


def _run(command: list[str]) -> bytes:
    """The output of a command. A process group of its own, so that all of it can be stopped."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise Unavailable(f"'{command[0]}' takes longer than {SECONDS} s") from error
    if process.returncode:
        lines = errors.decode(errors='replace').splitlines()
        lines = [line for line in lines if 'error' in line] or lines
        what = lines[0].strip() if lines else f'status {process.returncode}'
        raise Unavailable(f"'{command[0]}' fails: {what}")
    return output
