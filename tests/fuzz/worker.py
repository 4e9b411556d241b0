"""A worker process: handles inputs one after the other and reports what came of each."""

import contextlib
import ctypes
import faulthandler
import gc
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

import hrformer_mmpose
from hrformer_mmpose.errors import UserError

OUTCOMES = ('right', 'line', 'wrong', 'traceback', 'crash', 'hang', 'memory', 'canary')
CANARY = 'canary_sang'  # file in the working directory that code of an input would create
CANARY_MODULE = 'fuzz_canary'  # importing it or calling its function creates that file
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>: a worker ends with its parent
MIN_ADDRESS_SPACE = 2**31  # bytes; threads reserve much more than they use
HARNESS_FAILED = 70  # status of a worker that failed by itself, not by its input
CANARY_CODE = f"""
def sing(*args, **kwargs):
    open({CANARY!r}, 'w').close()

class Bird:
    def __init__(self, *args, **kwargs):
        sing()

    def __setstate__(self, state):
        sing()

sing()
"""
PACKAGE = os.path.join(os.path.dirname(hrformer_mmpose.__file__), '')
_RUNS_CODE = {'os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'subprocess.Popen'}


@dataclass(frozen=True)
class Bounds:
    """Limits of one input.

    Attributes:
        cpu, wall: seconds. memory: bytes that an input may add to the worker's resident memory.
        threads: that a worker may have.
    """

    cpu: float = 20
    wall: float = 300
    memory: int = 2**30
    threads: int = 64


@dataclass
class Result:
    """Outcome of one input.

    Attributes:
        kind, number: of the input, which with the seed generate it again. outcome: of `OUTCOMES`.
        name: of the mutation. error: type of the exception or name of the signal. where: innermost
            frame of the project and innermost frame. message: first line. seconds, memory: used.
        trace: end of the traceback.
    """

    kind: str
    number: int
    outcome: str
    name: str = ''
    error: str = ''
    where: str = ''
    message: str = ''
    seconds: float = 0.0
    memory: int = 0
    trace: str = ''


class Refused(Exception):
    """A command ended with a line and a status other than 0."""


class Kind(Protocol):
    """A kind of input; an instance is made in each worker's parent, in its working directory.

    Attributes:
        name: of the kind. isolate: fork a worker for each input, where global state is left behind.
        executes: inputs are code or start programs by design: no canary.
    """

    name: str
    isolate: bool = False
    executes: bool = False

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """Name of the mutation and the input; its files are written to `folder`."""

    def judge(self, given: Any) -> None:
        """Use the input; raise an AssertionError if the result is wrong."""


def work(
    kind: Kind, numbers: list[int], seed: int, folder: Path, pipe: int, log: Path, bounds: Bounds
) -> None:
    """Handle inputs until all are done; the worker's main function."""

    def send(**values: Any) -> None:
        os.write(pipe, json.dumps(values).encode() + b'\n')

    os.setpgid(0, 0)  # killed together with what its inputs start; Ctrl-C reaches the parent only
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)
    gc.freeze()  # a collection would cost an input the time for all objects of the parent
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable(descriptor)
    faulthandler.register(signal.SIGUSR1, descriptor)
    space = folder / f'{kind.name}-{os.getpid()}'
    space.mkdir()
    os.chdir(space)
    sys.path.insert(0, str(folder))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = memory('VmSize') + max(16 * bounds.memory, MIN_ADDRESS_SPACE)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sang: list[str] = []
    if not kind.executes:
        sys.addaudithook(lambda event, _: sang.append(event) if event in _RUNS_CODE else None)
    for number in numbers[:1] if kind.isolate else numbers:
        send(number=number)
        sang.clear()
        place = space / str(number)
        place.mkdir()
        name, given = kind.make(random.Random(f'{seed}/{kind.name}/{number}'), place)
        send(name=name)
        result = _handle(kind, given, bounds)
        if not kind.executes and (sang or Path(CANARY).exists()):
            result.outcome, result.error = 'canary', ', '.join(sang) or CANARY
            Path(CANARY).unlink(missing_ok=True)
        result.number, result.name = number, name
        shutil.rmtree(place, ignore_errors=True)
        send(**asdict(result))
    os.chdir(folder)
    shutil.rmtree(space, ignore_errors=True)


def _handle(kind: Kind, given: Any, bounds: Bounds) -> Result:
    Path('/proc/self/clear_refs').write_text('5')  # VmHWM starts at the present size
    before, start = memory('VmRSS'), time.monotonic()
    result = Result(kind.name, -1, 'right')
    try:
        kind.judge(given)
    except BaseException as error:
        result = _classify(kind.name, error)
    result.seconds = round(time.monotonic() - start, 3)
    result.memory = max(0, memory('VmHWM') - before)
    if result.memory > bounds.memory:
        result.outcome = 'memory'
    return result


def _classify(kind: str, error: BaseException) -> Result:
    text = str(error)
    lines = text.splitlines() or ['']
    outcome = 'traceback'
    if isinstance(error, UserError | Refused) and len(lines) == 1 and text.strip():
        outcome = 'line'
    elif isinstance(error, MemoryError):
        outcome = 'memory'
    elif isinstance(error, AssertionError) and _ours(error.__traceback__) is None:
        outcome = 'wrong'
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    where = _frame(innermost)
    ours = _ours(error.__traceback__)
    if ours is not None and _frame(ours) != where:
        where = f'{_frame(ours)} < {where}'
    trace = '' if outcome == 'line' else ''.join(traceback.format_exception(error))[-4000:]
    return Result(
        kind, -1, outcome, error=type(error).__name__, where=where, message=lines[0][:200],
        trace=trace,
    )  # fmt: skip


def _ours(trace: Any) -> traceback.FrameSummary | None:
    """Innermost frame of the project."""
    frames = [f for f in traceback.extract_tb(trace) if f.filename.startswith(PACKAGE)]
    return frames[-1] if frames else None


def _frame(frame: traceback.FrameSummary) -> str:
    return f'{Path(frame.filename).name} {frame.name}'


def memory(key: str) -> int:
    """Bytes of an entry of /proc/self/status."""
    with open('/proc/self/status') as file:
        line = next(line for line in file if line.startswith(key + ':'))
    return int(line.split()[1]) * 1024


def run_command(main: Callable[[], Any]) -> str:
    """Run a command in this process; what it printed, if its status is 0.

    Raises:
        Refused: it ended with one line and another status. AssertionError: with none, or several.
    """
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    if not code:
        return out.getvalue()
    if isinstance(code, str):
        assert len(code.splitlines()) == 1, f'{len(code.splitlines())} lines: {code}'
        assert code.startswith('error: '), code
        raise Refused(code)
    printed = out.getvalue() + err.getvalue()
    assert printed.strip(), f'status {code} without a line'
    assert 'Traceback' not in printed, f'status {code} and a traceback'
    raise Refused(printed.strip().splitlines()[-1])
