"""Command line of the tools: MMPose's flags."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from ..engine import optim_wrapper
from ..errors import ConfigError


class CfgOptions(DictAction):
    """`DictAction` that says which entry is not KEY=VALUE."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Called by argparse with the entries."""
        for entry in values:
            key, equals, _ = entry.partition('=')
            if not (equals and all(key.split('.'))):
                raise argparse.ArgumentError(self, f'{entry!r} is not KEY=VALUE')
            try:
                super().__call__(parser, namespace, [entry], option_string)
            except AssertionError as error:  # brackets that do not match
                raise argparse.ArgumentError(self, f'{entry!r}: {error}') from error


def positive(text: str) -> int:
    """A whole number of at least 1, as a type of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def common_parser(description: str) -> argparse.ArgumentParser:
    """The flags that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument('--show-dir', help='folder for pictures of predictions')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--interval', type=positive, default=1, help='picture every n-th sample')
    parser.add_argument('--wait-time', type=float, default=1, help='seconds a window stays')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
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
        choices=optim_wrapper.DTYPES,
        help="mixed precision in this type; 'auto' is what --amp takes",
    )
    parser.add_argument(
        '--compile', action='store_true', help="compile the network with PyTorch's compiler"
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def check_folder(flag: str, folder: str | None) -> None:
    """Raise a `ConfigError` if a folder can be neither written to nor made."""
    if folder is None:
        return
    path = Path(folder).absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir():
        raise ConfigError(f"{flag} '{folder}': '{existing}' is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{flag} '{folder}': nothing can be written in '{existing}'")


def check_out(flag: str, file: str | None, extensions: Sequence[str]) -> None:
    """Raise a `ConfigError` if a file cannot be written, before the work whose result it is for."""
    if file is None:
        return
    if Path(file).suffix not in extensions:
        raise ConfigError(f"{flag} '{file}': the file's name must end in {', '.join(extensions)}")
    if os.path.isdir(file):
        raise ConfigError(f"{flag} '{file}' is a folder: give a file")
    check_folder(flag, os.path.dirname(os.path.abspath(file)))
