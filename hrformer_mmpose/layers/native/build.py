"""Builds the kernels with the machine's C compiler, once, and loads them.

A compiler is no requirement: without one, or where anything fails, `load` says why and the layers
take PyTorch's operators. What is built is kept in the user's cache folder under a name that tells
source, compiler and processor.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parent
# gnu11 and not c11, with which GCC makes no fused multiply-adds.
FLAGS = ('-O3', '-march=native', '-std=gnu11', '-fno-math-errno', '-fno-trapping-math', '-fPIC')
SWITCH = 'HRFORMER_NATIVE'
SECONDS = 120


class Unavailable(Exception):
    """Why there are no kernels on this machine, as one line."""


def load() -> tuple[ctypes.CDLL, str | None]:
    """The library, and a line for the log if it was built just now.

    Raises:
        Unavailable: see there.
    """
    if os.environ.get(SWITCH) == '0':
        raise Unavailable(f'{SWITCH}=0')
    compiler = _compiler()
    path = _folder() / f'kernels-{_fingerprint(compiler)}.so'
    try:
        news = None if path.is_file() else _build(compiler, path)
        return ctypes.CDLL(str(path)), news
    except OSError as error:
        raise Unavailable(f"'{path}' cannot be written or loaded: {error}") from error


def _compiler() -> str:
    if platform.system() != 'Linux':
        raise Unavailable(f'they are built on Linux only, this is {platform.system()}')
    names = (os.environ.get('CC'), 'gcc', 'cc')
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise Unavailable('no C compiler (gcc) was found')
    return found


def _folder() -> Path:
    root = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    folder = Path(root, 'hrformer_mmpose')
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"'{folder}' cannot be made: {error.strerror}") from error
    return folder


def _fingerprint(compiler: str) -> str:
    """Of all that makes the result another: a home folder may serve machines of several kinds."""
    version = _run([compiler, '--version'])
    processor = Path('/proc/cpuinfo').read_text().split('\n\n')[0]
    features = sorted({line for line in processor.splitlines() if _tells(line)})
    sources = [path.read_text() for path in sorted(FOLDER.glob('*.[ch]'))]
    parts = (*sources, version, *features, str(_openmp()), *FLAGS)
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:16]


def _tells(line: str) -> bool:
    return line.partition('\t')[0] in ('model', 'model name', 'flags', 'Features', 'CPU part')


def _openmp() -> Path:
    """The OpenMP library that PyTorch has loaded: a second one would bring threads of its own."""
    for line in Path('/proc/self/maps').read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if os.path.basename(path).startswith('libgomp'):
            return Path(path)
    raise Unavailable("this PyTorch does not use GCC's OpenMP")


def _build(compiler: str, path: Path) -> str:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made, objects = os.path.join(folder, 'kernels.so'), []
        for source in sorted(FOLDER.glob('*.c')):
            objects.append(os.path.join(folder, f'{source.stem}.o'))
            _run([compiler, *FLAGS, '-fopenmp', '-c', str(source), '-o', objects[-1]])
        # Linked by hand: -fopenmp would bring GCC's own library beside PyTorch's.
        _run([compiler, '-shared', *objects, str(_openmp()), '-lm', '-o', made])
        os.replace(made, path)  # whole, or not at all: other processes may be building, too
    return f"built CPU kernels in {time.perf_counter() - start:.0f} s: '{path}'"


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"'{command[0]}' does not run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if 'error' in line] or [done.stderr]
        raise Unavailable(f"'{command[0]}' fails: {lines[0].strip()}")
    return done.stdout
