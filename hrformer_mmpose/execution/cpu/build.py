"""Build the kernels once with the machine's C compiler, and load them: a library for each type.

A compiler is optional: without one, or after any failure, `load` raises `Unavailable` and the
operators take their plain forms. The user's cache folder keeps the library under a hash of sources,
compiler and processor. A library is loaded only if no other user can have written it and if its
digest, the last bytes of the file, matches.
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

from ...cache import cache_root, is_private

FOLDER = Path(__file__).parent
# gnu11 because GCC emits no fused multiply-adds under c11.
FLAGS = ('-O3', '-march=native', '-std=gnu11', '-fno-math-errno', '-fno-trapping-math', '-fPIC')
SWITCH = 'HRFORMER_NATIVE'
TIMEOUT = 120  # seconds for a run of the compiler
_DIGEST = hashlib.sha256().digest_size


class Unavailable(Exception):
    """Error whose one line says why this machine has no kernels."""


def load(*defines: str) -> tuple[ctypes.CDLL, str | None]:
    """Load the library, and build it if necessary.

    Args:
        defines: arguments for the compiler, e.g. '-DBFLOAT16' for maps in bfloat16.

    Returns:
        library: the kernels.
        message: line for the log if it was built, else None.

    Raises:
        Unavailable: it can be neither loaded nor built.
    """
    if os.environ.get(SWITCH) == '0':
        raise Unavailable(f'{SWITCH}=0')
    try:
        compiler, openmp, folder = [*_compiler(), *defines], _openmp(), cache_folder()
        path = folder / f'kernels-{_fingerprint(compiler, openmp)}.so'
        message, library = None, _open(path)
        if library is None:
            message = _build(compiler, openmp, path)
            library = _open(path)
    except OSError as error:
        line = f"'{error.filename}': {error.strerror}" if error.filename else str(error)
        raise Unavailable(line) from error
    if library is None:
        raise Unavailable(f"'{path}' was just built, and is damaged or belongs to another user")
    return library, message


def _compiler() -> list[str]:
    """Return the compiler's command; CC may add arguments."""
    if platform.system() != 'Linux':
        raise Unavailable(f'they are built on Linux only, this is {platform.system()}')
    try:
        from_environment = shlex.split(os.environ.get('CC', ''))
    except ValueError as error:
        raise Unavailable(f'CC={os.environ["CC"]!r}: {error}') from error
    for name, *arguments in filter(None, (from_environment, ['gcc'], ['cc'])):
        if path := shutil.which(name):
            return [path, *arguments]
    raise Unavailable('no C compiler (gcc) was found')


def cache_folder() -> Path:
    """Return the cache folder; only this user or root may own it and write to it.

    Raises:
        Unavailable: another user can write to it, or it has no name.
        OSError: it cannot be made.
    """
    root = cache_root()
    if not root.is_absolute():
        raise Unavailable('there is no home folder: let XDG_CACHE_HOME name a folder')
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = root.resolve() / 'hrformer_mmpose'
    folder.mkdir(mode=0o700, exist_ok=True)
    if not is_private(folder.stat()):
        raise Unavailable(
            f"'{folder}' belongs to another user or can be written by others: "
            'chmod 700 it, or let XDG_CACHE_HOME name a folder of your own'
        )
    return folder


def _open(path: Path) -> ctypes.CDLL | None:
    """Load a library; None if the file is missing, damaged or another user's."""
    try:
        # Neither follow a link nor wait for a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, 'rb') as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not is_private(status):
            return None
        content = file.read()
        if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
            return None
        # Load the checked file by its descriptor: the path may name another one by now. The
        # descriptor stays open, because dlopen returns the old library for a name in use.
        return ctypes.CDLL(f'/proc/self/fd/{os.dup(descriptor)}')


def _fingerprint(compiler: list[str], openmp: Path) -> str:
    """Hash everything that affects the library: several kinds of machines may share a home folder.

    The compiler's macros include its version and this processor's features.
    """
    macros = _run([*compiler, *FLAGS, '-dM', '-E', '-x', 'c', os.devnull])
    if not macros.strip():
        raise Unavailable(f"'{compiler[0]}' is no C compiler: it prints nothing")
    sources = [path.read_bytes() for path in sorted(FOLDER.glob('*.[ch]'))]
    command = '\n'.join([*compiler, *FLAGS, str(openmp)])
    return hashlib.sha256(b'\n'.join([*sources, macros, command.encode()])).hexdigest()[:16]


def _openmp() -> Path:
    """Return the OpenMP library that PyTorch has loaded: a second one would start more threads."""
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
        # Without -fopenmp, which would link GCC's own OpenMP beside PyTorch's.
        _run([*compiler, '-shared', *objects, str(openmp), '-lm', '-o', str(library)])
        digest = hashlib.sha256(library.read_bytes()).digest()
        with open(library, 'ab') as file:
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        library.chmod(0o700)
        os.replace(library, path)  # atomic: other processes may build at the same time
    return f"built CPU kernels in {time.perf_counter() - start:.0f} s: '{path}'"


def _run(command: list[str]) -> bytes:
    """Run a command in its own process group, which a timeout kills, and return its output."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=TIMEOUT)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise Unavailable(f"'{command[0]}' takes longer than {TIMEOUT} s") from error
    if process.returncode:
        lines = errors.decode(errors='replace').splitlines()
        lines = [line for line in lines if 'error' in line] or lines
        reason = lines[0].strip() if lines else f'status {process.returncode}'
        raise Unavailable(f"'{command[0]}' fails: {reason}")
    return output
