"""Run the tests of `interpreted/` in a process of its own, which imports Triton as interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('triton')


def run(*options: str) -> None:
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *options]
    process = subprocess.run(
        [*command, str(Path(__file__).parent / 'interpreted')],
        env=os.environ | {'TRITON_INTERPRET': '1'}, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-2000:]
    assert ' passed' in process.stdout


def test_kernels():
    run('-m', 'not slow')


@pytest.mark.slow
def test_kernels_on_more_maps_and_types():
    run('-m', 'slow')
