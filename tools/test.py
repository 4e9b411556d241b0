"""Test a pose model: python tools/test.py CONFIG CHECKPOINT [flags]; --help lists them."""

from hrformer_mmpose.cli import terminal, test

if __name__ == '__main__':
    terminal.run(test.run, test.parser())
