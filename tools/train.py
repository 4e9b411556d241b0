"""Train a pose model: python tools/train.py CONFIG [flags]; --help lists them."""

from hrformer_mmpose import terminal
from hrformer_mmpose.engine import cli, launch

if __name__ == '__main__':
    terminal.run(launch.train, cli.train_parser())
