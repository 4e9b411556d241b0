"""Check a config's data: python tools/check_dataset.py CONFIG [--full]; --help lists the flags."""

from hrformer_mmpose.cli import check_dataset, terminal

if __name__ == '__main__':
    terminal.run(check_dataset.run, check_dataset.parser())
