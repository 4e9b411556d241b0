"""Test a pose model: python tools/test.py CONFIG CHECKPOINT [flags]; --help lists them."""

from hrformer_mmpose.cli import arguments as cli
from hrformer_mmpose.cli import launch, terminal

if __name__ == '__main__':
    terminal.run(launch.test, cli.test_parser())
