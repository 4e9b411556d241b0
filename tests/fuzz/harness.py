"""Run many inputs in worker processes and record the outcome of each.

The process that imported the project forks a worker for each kind of input. The worker announces
each input before it handles it, so that a crash or a hang is attributed to that input and a new
worker goes on with the next one.
"""

import contextlib
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .worker import CANARY_CODE, CANARY_MODULE, HARNESS_FAILED, PACKAGE, Bounds, Kind, Result, work


@dataclass
class _Worker:
    kind: Kind
    numbers: deque
    pid: int
    pipe: int
    log: Path
    number: int | None = None
    name: str | None = None  # None while the input is being made
    started: float = 0.0
    cpu: float = 0.0
    rss: int = 0
    buffer: bytes = b''
    killed: str | None = None
    victim: int | None = None  # the input for which it is killed
    message: str = ''


@dataclass
class Campaign:
    """Inputs of several kinds, `jobs` workers at a time.

    Args:
        folder: for the workers' files. seed: of all inputs. bounds: of each input.
    """

    folder: Path
    seed: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    jobs: int = 1

    def run(
        self,
        tasks: Iterable[tuple[Kind, Iterable[int]]],
        tell: Callable[[Result], None] = lambda result: None,
    ) -> list[Result]:
        """Handle the inputs of these numbers; `tell` is called with each result."""
        (self.folder / f'{CANARY_MODULE}.py').write_text(CANARY_CODE)
        waiting = deque((kind, deque(numbers)) for kind, numbers in tasks)
        workers: list[_Worker] = []
        results: list[Result] = []
        try:
            while waiting or workers:
                while waiting and len(workers) < self.jobs:
                    workers.append(self._start(*waiting.popleft()))
                select.select([worker.pipe for worker in workers], [], [], 0.05)
                for worker in [*workers]:
                    for result in self._watch(worker):
                        results.append(result)
                        tell(result)
                    if worker.pid == 0:
                        workers.remove(worker)
                        if worker.numbers:
                            waiting.appendleft((worker.kind, worker.numbers))
        finally:  # of an interrupted run: what they write would survive the folder's removal
            for worker in workers:
                _kill(worker)
                os.waitpid(worker.pid, 0)
        return sorted(results, key=lambda result: (result.kind, result.number))

    def _start(self, kind: Kind, numbers: deque) -> _Worker:
        ours, theirs = os.pipe()
        log = self.folder / f'{kind.name}-{numbers[0]}.log'
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            try:
                work(kind, [*numbers], self.seed, self.folder, theirs, log, self.bounds)
            except BaseException:
                traceback.print_exc()
                os._exit(HARNESS_FAILED)
            os._exit(0)
        os.close(theirs)
        os.set_blocking(ours, False)
        return _Worker(kind, numbers, pid, ours, log, started=time.monotonic())

    def _watch(self, worker: _Worker) -> list[Result]:
        """Results that arrived; a worker that ended gets the pid 0."""
        found = self._read(worker)
        ended, status, _ = os.wait4(worker.pid, os.WNOHANG)
        if not ended:
            self._enforce(worker)
            return found
        found += self._read(worker)
        os.close(worker.pipe)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == HARNESS_FAILED:
            raise RuntimeError(f'{worker.kind.name} {worker.number}: {worker.log.read_text()}')
        # While the stack was written, the worker may have gone on to the next input, which is
        # not to blame and handled again.
        if worker.number is not None and worker.victim in (None, worker.number):
            found.append(_post_mortem(worker, status))
            worker.numbers.popleft()
        worker.log.unlink(missing_ok=True)
        shutil.rmtree(self.folder / f'{worker.kind.name}-{worker.pid}', ignore_errors=True)
        worker.pid = 0
        return found

    def _read(self, worker: _Worker) -> list[Result]:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(worker.pipe, 1 << 16):
                worker.buffer += data
        *lines, worker.buffer = worker.buffer.split(b'\n')
        found = []
        for line in lines:
            values = json.loads(line)
            if 'outcome' in values:
                found.append(Result(**values))
                worker.numbers.popleft()
                worker.number = None
            elif 'name' in values:
                worker.name = values['name']
                worker.started = time.monotonic()
                worker.cpu, worker.rss, _ = _usage(worker.pid)
            else:
                worker.number, worker.name = values['number'], None
        return found

    def _enforce(self, worker: _Worker) -> None:
        if worker.name is None or worker.number is None or worker.killed:
            return
        with contextlib.suppress(OSError, IndexError):
            cpu, rss, threads = _usage(worker.pid)
            wall = time.monotonic() - worker.started
            if cpu - worker.cpu > self.bounds.cpu or wall > self.bounds.wall:
                worker.killed = 'hang'
                worker.message = f'{cpu - worker.cpu:.0f} s of CPU, {wall:.0f} s'
                os.kill(worker.pid, signal.SIGUSR1)
                _wait_for_stack(worker.log)
            elif rss - worker.rss > 4 * self.bounds.memory:
                worker.killed, worker.message = 'memory', f'{(rss - worker.rss) >> 20} MiB'
            elif threads > self.bounds.threads:
                worker.killed, worker.message = 'memory', f'{threads} threads'
        if worker.killed:
            worker.victim = worker.number
            _kill(worker)


def _kill(worker: _Worker) -> None:
    """Kill a worker and the processes that its inputs have started."""
    with contextlib.suppress(ProcessLookupError):  # it has not made its group yet
        os.killpg(worker.pid, signal.SIGKILL)
    os.kill(worker.pid, signal.SIGKILL)


def _wait_for_stack(log: Path, seconds: float = 5) -> None:
    """Wait until faulthandler has written the stack; on a busy machine that takes a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and '  File "' not in log.read_text(errors='replace'):
        time.sleep(0.05)
    time.sleep(0.1)  # for the rest of it


def _usage(pid: int) -> tuple[float, int, int]:
    """CPU seconds, resident bytes and threads of a process."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    ticks = int(fields[11]) + int(fields[12])
    resident = int(fields[21]) * resource.getpagesize()
    return ticks / os.sysconf('SC_CLK_TCK'), resident, int(fields[17])


def _post_mortem(worker: _Worker, status: int) -> Result:
    """Result of the input at which a worker ended."""
    outcome, error = worker.killed or 'crash', ''
    if not worker.killed:
        if os.WIFSIGNALED(status):
            error = signal.Signals(os.WTERMSIG(status)).name
        else:
            error = f'exit {os.WEXITSTATUS(status)}'
    text = worker.log.read_text(errors='replace') if worker.log.exists() else ''
    # faulthandler's lines, innermost first:   File "/a/b.py", line 7 in function
    frames = re.findall(r'^  File "(.*)", line \d+ in (.*)$', text, re.MULTILINE)
    names = [f'{Path(file).name} {function}' for file, function in frames]
    ours = [name for name, (file, _) in zip(names, frames, strict=True) if file.startswith(PACKAGE)]
    where = ' < '.join(dict.fromkeys([*ours[:1], *names[:1]]))
    name = worker.name or ''
    return Result(worker.kind.name, worker.number, outcome, name, error, where, worker.message)
