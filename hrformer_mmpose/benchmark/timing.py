"""Time functions in turns, on the CPU's clock or by CUDA events, within a time budget.

In every round each function takes its turn, so that whatever else the machine does affects all of
them alike.
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from ..errors import ConfigError, first_line
from . import baselines

MiB = 2**20
WARM_UP = 2  # rounds: the first ones pay for memory that the machine has not handed out yet
LEAST_ROUNDS = 3  # also where they exceed the budget


class Timer:
    """Clock of a device.

    Args:
        device: on CUDA devices a call is timed from its first to its last kernel, by events.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.is_cuda = device.type == 'cuda'

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.perf_counter()

    def seconds(self, call: Callable) -> float:
        """Time a call."""
        if not self.is_cuda:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            call()
            end.record()
            end.synchronize()
        return start.elapsed_time(end) / 1e3

    def seconds_and_peak(self, call: Callable) -> tuple[float, int | None]:
        """Time a call and measure the bytes it allocates at most; None on CPUs."""
        if not self.is_cuda:
            return self.seconds(call), None
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        seconds = self.seconds(call)
        return seconds, torch.cuda.max_memory_allocated(self.device) - before

    def free_cache(self) -> None:
        """Return unused memory to the device, after a call has failed for lack of it."""
        if self.is_cuda:
            torch.cuda.empty_cache()


class Budget:
    """Seconds for several cases; each may take an equal share of those left when it starts.

    Args:
        timer: clock.
        seconds: for all cases; None for no limit.
        cases: number of cases.
    """

    def __init__(self, timer: Timer, seconds: float | None, cases: int):
        self.timer, self.cases = timer, cases
        self.end = None if seconds is None else timer.now() + seconds

    def is_spent(self) -> bool:
        """Return whether no time is left."""
        return self.end is not None and self.timer.now() >= self.end

    def next_deadline(self) -> float | None:
        """Start a case; return when it should end, or None."""
        self.cases -= 1
        if self.end is None:
            return None
        now = self.timer.now()
        return now + (self.end - now) / (self.cases + 1)


def device_of(name: str) -> torch.device:
    """Return a device by name.

    Raises:
        ConfigError: no such device, or PyTorch cannot compute on it.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f'--device {name}: no device of PyTorch; cpu, cuda, cuda:1, ...'
        ) from None
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ConfigError(f'--device {name}: there is no CUDA device here')
    try:
        torch.zeros(1, device=device).add_(1)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f'--device {name}: {first_line(error)}') from None
    return device


def time_in_turns(
    what: str,
    steps: dict[str, Callable],
    rounds: int,
    timer: Timer,
    warm_up: int = WARM_UP,
    pause: float = 0.0,
    deadline: float | None = None,
    tolerate: tuple[type[Exception], ...] = (),
    reference: str = baselines.MMPOSE,
) -> list[dict]:
    """Time functions, one call of each a round.

    Args:
        what: title.
        steps: functions by name.
        rounds: number of timed rounds.
        timer: clock.
        warm_up: number of rounds before them.
        pause: seconds before each call, where several libraries take turns: the threads of one go
            on spinning for a while and would take the processor from the next.
        deadline: time of the timer after which no more than `LEAST_ROUNDS` are timed.
        tolerate: errors that end a function's turns, not the benchmark.
        reference: name of the function with whose time the others are compared.

    Returns:
        For each its name (`network`), `seconds` by round, `median_s`, sorted `ratios` of the
        reference's time over its own, `cuda_peak_bytes`; or its name and `failure`.
    """
    turns = _Turns(steps, timer, pause, tolerate, reference)
    for index in range(warm_up + rounds):
        done = index - warm_up
        if deadline is not None and done >= LEAST_ROUNDS and timer.now() > deadline:
            break
        print(f'\r\x1b[K  {what}: round {index + 1} of {warm_up + rounds}', end='', flush=True)
        turns.run(is_timed=done >= 0)
    print(
        f'\r\x1b[K  {what:<34}{"ms":>9}{"(lowest to highest)":>24}'
        f'{"times MMPose" if reference == baselines.MMPOSE else "speedup":>14}'
        f'{"(lowest to highest)":>21}'
    )
    return turns.rows()


class _Turns:
    def __init__(
        self,
        steps: dict[str, Callable],
        timer: Timer,
        pause: float,
        tolerate: tuple,
        reference: str,
    ):
        self.reference = reference
        self.steps, self.timer, self.pause, self.tolerate = steps, timer, pause, tolerate
        self.seconds: dict[str, list[float]] = {name: [] for name in steps}
        self.peaks: dict[str, int | None] = dict.fromkeys(steps)
        self.failures: dict[str, str] = {}

    def run(self, is_timed: bool) -> None:
        """Run one round."""
        for name in self.steps:
            if name not in self.failures:
                self._turn(name, is_timed)

    def _turn(self, name: str, is_timed: bool) -> None:
        time.sleep(self.pause)
        try:
            seconds, peak = self.timer.seconds_and_peak(self.steps[name])
        except self.tolerate as error:
            self.failures[name] = _failure(error)
            error.__traceback__ = None  # which holds the call's tensors
            self.timer.free_cache()
            return
        if is_timed:
            self.seconds[name].append(seconds)
            self.peaks[name] = peak

    def rows(self) -> list[dict]:
        """Rows of the table, in the order of the functions."""
        return [
            dict(network=name, failure=self.failures[name])
            if name in self.failures
            else self._row(name)
            for name in self.steps
        ]

    def _row(self, name: str) -> dict:
        seconds, theirs = self.seconds[name], self.seconds[self.reference]
        failed = self.reference in self.failures
        pairs = [] if failed else zip(theirs, seconds, strict=True)
        ratios = sorted(a / b for a, b in pairs)
        row = dict(network=name, median_s=median(seconds), seconds=seconds, ratios=ratios)
        return row | dict(cuda_peak_bytes=self.peaks[name])


def _failure(error: Exception) -> str:
    is_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    return 'out of memory' if is_memory else f'failed: {first_line(error)}'


def line(row: dict) -> str:
    """A row of `time_in_turns` for the terminal."""
    if 'failure' in row:
        return f'  {row["network"]:<34} {row["failure"]}'
    low, high = 1e3 * min(row['seconds']), 1e3 * max(row['seconds'])
    ratios, peak = row['ratios'], row['cuda_peak_bytes']
    compared = ''
    if ratios:
        compared = f'{median(ratios):14.2f}{f"({ratios[0]:.2f} to {ratios[-1]:.2f})":>21}'
    return (
        f'  {row["network"]:<34}{1e3 * row["median_s"]:9.1f}{f"({low:.1f} to {high:.1f})":>24}'
        + f'{compared:35}'
        + (f'{row["share_of_matmul_rate"]:16.0%}' if 'share_of_matmul_rate' in row else '')
        + ('' if peak is None else f'   peak {peak / MiB:.0f} MiB')
    )
