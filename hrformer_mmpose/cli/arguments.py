"""Command line of the tools: MMPose's flags."""

import argparse

from mmengine.config import DictAction

from ..execution.precision import AUTOCAST_DTYPES


def common_parser(description: str) -> argparse.ArgumentParser:
    """The flags that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument('--show-dir', help='folder for pictures of predictions')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--interval', type=int, default=1, help='picture every n-th sample')
    parser.add_argument('--wait-time', type=float, default=1, help='seconds a window stays')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='override entries of the config, e.g. train_dataloader.batch_size=16; lists as '
        'key="[a,b]", no white space',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='automatic mixed precision, in the type that the hardware has',
    )
    parser.add_argument(
        '--amp-dtype',
        choices=AUTOCAST_DTYPES,
        help="mixed precision in this type; 'auto' is what --amp takes",
    )
    parser.add_argument(
        '--compile', action='store_true', help="compile the network with PyTorch's compiler"
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def train_parser() -> argparse.ArgumentParser:
    """The flags of tools/train.py."""
    parser = common_parser('Train a pose model')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a value, from the latest in the work folder',
    )
    parser.add_argument('--no-validate', action='store_true', help='train without evaluating')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the actual batch size',
    )
    return parser


def test_parser() -> argparse.ArgumentParser:
    """The flags of tools/test.py."""
    parser = common_parser('Test a pose model')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', help='file for the figures (.json, .yaml or .pkl)')
    parser.add_argument('--dump', help='file for all predictions (.pkl)')
    parser.add_argument(
        '--no-fuse', dest='fuse', action='store_false', help='test the network as it was trained'
    )
    parser.add_argument('--badcase', action='store_true', help='picture the worst predictions')
    return parser
