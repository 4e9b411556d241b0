"""Hostile inputs end in a right result or in one line; disturbed runs lose nothing.

FUZZ_INPUTS and FUZZ_SEED choose other numbers of inputs and other inputs.
"""

import os
import re
import subprocess
import sys
import time

import pytest

pytest.importorskip('mmpose')
from tests.conftest import ROOT

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
    bounds = Bounds(cpu=1, wall=30, memory=100 << 20, threads=50)
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


def test_some_inputs():
    kinds = ('checkpoints', 'images', 'annotations', 'detections')
    out = fuzz(*kinds, '--inputs', '40', '--seed', '3')
    assert re.search(r'^\| all \| 40 \| ', out, re.MULTILINE)


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
