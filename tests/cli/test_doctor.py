"""The doctor's verdict and its exit status."""

import subprocess
import sys

import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose.cli import doctor
from hrformer_mmpose.execution import cuda


def test_where_the_tests_run_training_works(capsys):
    assert doctor.main() == 0
    out = capsys.readouterr().out
    assert 'training works here' in out
    assert 'mmpose         1.3.2' in out
    assert 'CPU kernels: ' in out


@pytest.mark.parametrize(
    ('reason', 'line'), [(None, 'compile'), ('no Triton', "PyTorch's are used (no Triton)")]
)
def test_kernels_of_a_gpu_are_described(monkeypatch, capsys, reason, line):
    for name, value in (
        ('is_available', True),
        ('get_device_name', 'H100'),
        ('get_device_capability', (9, 0)),
        ('get_arch_list', ['sm_75', 'sm_90a']),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(cuda, 'reason', lambda: reason)
    assert [*doctor._device()] == []
    out = capsys.readouterr().out
    assert 'device: H100, compute capability 9.0' in out
    assert 'CPU kernels: ' in out
    assert f'CUDA kernels: {line}' in out


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
