"""Hostile inputs end in a right result or in one line; disturbed runs lose nothing.

FUZZ_INPUTS and FUZZ_SEED choose other numbers of inputs and other inputs.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('mmpose')
from tests.conftest import ROOT

from . import harness
from .harness import Campaign
from .kinds import DISTURBED, SHARES
from .planted import OUTCOME_OF, Planted
from .report import defects
from .worker import Bounds, Result

INPUTS, SEED = int(os.environ.get('FUZZ_INPUTS', 10_000)), os.environ.get('FUZZ_SEED', '17')


def fuzz(*arguments: str, module: str = 'tests.fuzz') -> str:
    """Run in a process of its own, which must be free of threads, since it forks."""
    command = [sys.executable, '-m', module, *arguments]
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    return ended.stdout


def test_the_harness_tells_each_outcome(tmp_path):
    # Little memory, since a slow machine needs long to hand it out: the bound of the time would be
    # met first.
    bounds = Bounds(cpu=1, wall=30, memory=20 << 20, threads=50)
    told = []
    results = Campaign(tmp_path, 0, bounds).run([(Planted(), range(len(OUTCOME_OF)))], told.append)
    assert [result.outcome for result in results] == [*OUTCOME_OF]
    assert [result.name for result in results] == [f'plant {n}' for n in range(len(OUTCOME_OF))]
    assert len(told) == len(results)
    assert (results[1].error, results[1].message) == ('DataError', 'one line')
    assert (results[2].error, results[2].where) == ('KeyError', 'planted.py <lambda>')
    assert (results[3].error, results[3].where) == ('SIGSEGV', 'planted.py <lambda>')
    assert results[4].where == 'planted.py _hang'
    assert results[6].error == 'os.system'
    assert results[11].error == 'exit 3'
    assert not [*tmp_path.glob('planted-*')], 'files are left behind'


class Slow:
    """Input 0 needs too much time and ends; input 1 stays until its worker is killed, once."""

    name = 'slow'
    isolate = executes = False

    def __init__(self, begun: Path):
        self.begun = begun

    def make(self, rng, folder):
        return folder.name, int(folder.name)

    def judge(self, given):
        if given == 0:
            end = time.process_time() + 0.4
            while time.process_time() < end:
                pass
        elif not self.begun.exists():
            self.begun.touch()
            time.sleep(60)


def test_an_input_after_one_that_hangs_is_not_blamed(tmp_path, monkeypatch):
    """The worker goes on while its stack is written."""
    kind = Slow(tmp_path / 'begun')

    def wait(log):
        while not kind.begun.exists():
            time.sleep(0.01)

    monkeypatch.setattr(harness, '_wait_for_stack', wait)
    results = Campaign(tmp_path, 0, Bounds(cpu=0.1, wall=30)).run([(kind, range(2))])
    assert [result.outcome for result in results] == ['right', 'right']


def test_some_inputs():
    kinds = ('checkpoints', 'images', 'annotations', 'detections')
    out = fuzz(*kinds, '--inputs', '20', '--seed', '3')
    assert re.search(r'^\| all \| 20 \| ', out, re.MULTILINE)


@pytest.mark.slow
def test_an_interrupted_run_reports_and_leaves_nothing_behind(tmp_path):
    command = [sys.executable, '-m', 'tests.fuzz', 'detections', '--jobs', '1']
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'TMPDIR': str(tmp_path)}
    run = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    while run.poll() is None and not [*tmp_path.glob('fuzz-*/detections-*/*')]:
        time.sleep(0.01)
    time.sleep(1)  # of about a hundred inputs
    run.terminate()
    out = run.communicate(timeout=60)[0]
    count = int(re.match(r'interrupted: seed 17, (\d+) inputs', out)[1])
    assert 0 < count < 10_000
    assert f'| all | {count} | ' in out
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
def test_a_defect_comes_with_the_command_that_shows_it():
    result = Result('images', 7, 'traceback', 'cut', 'KeyError', 'a.py f', 'x')
    assert '`python -m tests.fuzz images --seed 3 --only 7`' in defects([result], 3)
    out = fuzz('detections', '--seed', '3', '--only', '7')
    assert '| all | 1 | ' in out
    assert 'number 7\n' in out


@pytest.mark.slow
@pytest.mark.parametrize('kind', SHARES)
def test_inputs(kind):
    fuzz(kind, '--inputs', str(INPUTS * SHARES[kind] // 10_000), '--seed', SEED)


@pytest.mark.slow
@pytest.mark.parametrize('kind', DISTURBED)
def test_disturbed_runs(kind):
    fuzz(kind, '--wall', '600')


@pytest.mark.slow
def test_memory_is_flat():
    fuzz(module='tests.fuzz.soak')
