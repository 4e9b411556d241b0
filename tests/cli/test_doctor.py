"""The doctor's verdict and its exit status."""

import subprocess
import sys

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose.cli import doctor


def test_where_the_tests_run_training_works(capsys):
    assert doctor.main() == 0
    out = capsys.readouterr().out
    assert 'training works here' in out
    assert 'mmpose         1.3.2' in out
    assert 'CPU kernels: ' in out


def test_a_missing_package_is_named_with_its_command(tmp_path):
    code = (
        "import sys; sys.modules['munkres'] = None; "
        'from hrformer_mmpose import doctor; sys.exit(doctor.main())'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert 'problem 1: munkres' in done.stdout
    assert 'pip install munkres' in done.stdout
    assert 'Traceback' not in done.stdout + done.stderr


def test_a_failing_training_step_is_a_problem(monkeypatch, capsys):
    def fail():
        raise RuntimeError('no kernel image is available')

    monkeypatch.setattr(doctor, 'training_step', fail)
    assert doctor.main() == 1
    assert 'no kernel image is available' in capsys.readouterr().out
