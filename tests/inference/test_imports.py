"""Importing `PoseEstimator` loads nothing of training or evaluation."""

import subprocess
import sys

UNNEEDED = ('engine', 'evaluation', 'datasets', 'benchmark', 'cli')


def test_importing_the_estimator_loads_no_training_and_no_evaluation():
    script = 'from hrformer_mmpose import PoseEstimator; import sys; print(*sys.modules)'
    output = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True
    ).stdout
    unneeded = tuple(f'hrformer_mmpose.{room}' for room in UNNEEDED)
    assert not [name for name in output.split() if name.startswith(unneeded)]
