"""Train a pose model: python tools/train.py CONFIG [flags]; --help lists them."""

from hrformer_mmpose.cli import terminal, train

if __name__ == '__main__':
    terminal.run(train.run, train.parser())
