"""Train a pose model: python tools/train.py CONFIG [flags]; --help lists them."""

from hrformer_mmpose.cli import arguments as cli
from hrformer_mmpose.cli import launch, terminal

if __name__ == '__main__':
    terminal.run(launch.train, cli.train_parser())
