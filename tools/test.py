"""Test a pose model: python tools/test.py CONFIG CHECKPOINT [flags]; --help lists them."""

from hrformer_mmpose import terminal
from hrformer_mmpose.engine import cli, launch

if __name__ == '__main__':
    terminal.run(launch.test, cli.test_parser())
