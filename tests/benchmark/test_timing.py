"""Turns, time budget and failures, on a clock that the tests set."""

import contextlib

import pytest
import torch

from hrformer_mmpose.benchmark.timing import Budget, Timer, device_of, line, time_in_turns
from hrformer_mmpose.errors import ConfigError


class FakeTimer(Timer):
    """Clock on which a call takes the seconds that it returns."""

    def __init__(self, is_cuda: bool = False):
        super().__init__(torch.device('cpu'))
        self.clock, self.freed, self.peak = 0.0, 0, 2**20 if is_cuda else None

    def now(self):
        return self.clock

    def seconds_and_peak(self, call):
        seconds = call()
        self.clock += seconds
        return seconds, self.peak

    def free_cache(self):
        self.freed += 1


def steps(log: list[str], **seconds: float) -> dict:
    def step(name: str):
        log.append(name)
        return seconds[name]

    return {name: lambda name=name: step(name) for name in seconds}


def fail(error: Exception, after: int = 0):
    calls = []

    def step():
        calls.append(1)
        if len(calls) > after:
            raise error
        return 1.0

    return step


def test_networks_take_turns():
    log = []
    rows = time_in_turns('x', steps(log, mmpose=2.0, ours=0.5), 3, FakeTimer(), warm_up=1)
    assert log == ['mmpose', 'ours'] * 4
    theirs, ours = rows
    assert (theirs['seconds'], theirs['ratios']) == ([2.0] * 3, [1.0] * 3)
    assert (ours['median_s'], ours['ratios']) == (0.5, [4.0] * 3)
    assert '4.00' in line(ours)
    assert '500.0' in line(ours)


def test_ratios_are_of_the_same_round():
    theirs, ours = iter([1.0, 2.0, 4.0]), iter([1.0, 1.0, 1.0])
    calls = dict(mmpose=lambda: next(theirs), ours=lambda: next(ours))
    row = time_in_turns('x', calls, 3, FakeTimer(), warm_up=0)[1]
    assert row['ratios'] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(('deadline', 'rounds'), [(None, 9), (100.0, 9), (5.5, 6), (0.0, 3)])
def test_rounds_end_at_the_deadline(deadline, rounds):
    """Of a second each; at least three of them, even if the warm-up took all the time."""
    calls = steps([], mmpose=1.0)
    row = time_in_turns('x', calls, 9, FakeTimer(), warm_up=0, deadline=deadline)[0]
    assert len(row['seconds']) == rounds


def test_cases_share_the_time():
    timer = FakeTimer()
    budget = Budget(timer, 90.0, 3)
    assert budget.next_deadline() == 30
    timer.clock = 10.0  # a short case leaves its time to the others
    assert budget.next_deadline() == 10 + 80 / 2
    timer.clock = 89.0
    assert not budget.is_spent()
    assert budget.next_deadline() == 90
    timer.clock = 90.0
    assert budget.is_spent()


def test_no_limit():
    budget = Budget(FakeTimer(), None, 1)
    assert budget.next_deadline() is None
    assert not budget.is_spent()


def test_out_of_memory_is_a_row():
    timer, log = FakeTimer(), []
    calls = steps(log, mmpose=1.0) | dict(ours=fail(torch.OutOfMemoryError('CUDA out of memory.')))
    calls |= steps(log, hrnet=2.0)
    theirs, ours, hrnet = time_in_turns('x', calls, 2, timer, tolerate=(RuntimeError,))
    assert ours == dict(network='ours', failure='out of memory')
    assert 'out of memory' in line(ours)
    assert log == ['mmpose', 'hrnet'] * 4  # it gets no further turn, the others do
    assert len(theirs['seconds']) == len(hrnet['seconds']) == 2
    assert timer.freed == 1


def test_without_mmposes_time_there_is_no_ratio():
    calls = dict(mmpose=fail(RuntimeError('no kernel\nat line 3'), after=3), ours=lambda: 1.0)
    theirs, ours = time_in_turns('x', calls, 3, FakeTimer(True), tolerate=(RuntimeError,))
    assert theirs['failure'] == 'failed: no kernel'
    assert ours['ratios'] == []
    assert line(ours).split() == ['ours', '1000.0', '(1000.0', 'to', '1000.0)', 'peak', '1', 'MiB']


def test_other_errors_end_the_benchmark():
    calls = dict(mmpose=fail(KeyError('x')))
    with pytest.raises(KeyError):
        time_in_turns('x', calls, 1, FakeTimer(), tolerate=(RuntimeError,))


def test_cuda_is_timed_by_events(monkeypatch):
    """From the record of one event to that of another, in milliseconds."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append('record')

        def synchronize(self):
            log.append('synchronize')

        def elapsed_time(self, end):
            assert end is not self
            return 250.0

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'device', contextlib.nullcontext)
    seconds = Timer(torch.device('cuda')).seconds(lambda: log.append('call'))
    assert seconds == 0.25
    assert log == ['record', 'call', 'record', 'synchronize']


def test_the_peak_is_what_a_call_adds(monkeypatch):
    allocated = iter([1000])
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: None)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda device: next(allocated))
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda device: 1700)
    timer = Timer(torch.device('cuda'))
    monkeypatch.setattr(timer, 'seconds', lambda call: 1.0)
    assert timer.seconds_and_peak(lambda: None) == (1.0, 700)


@pytest.mark.parametrize('name', ['nonsense', 'cuda:99', 'cuda:x', 'meta:-2', 'xpu', 'mps'])
def test_devices_that_do_not_exist(name):
    if name == 'mps' and torch.backends.mps.is_available():
        pytest.skip('there is one')
    with pytest.raises(ConfigError, match=f'^--device {name}: .+$'):
        device_of(name)
