"""Command-line arguments that several commands share, named after MMPose's."""

import argparse
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mmengine.config import DictAction

from ..errors import ConfigError
from ..execution.precision import AUTOCAST_DTYPES

Options = TypeVar('Options')


class CfgOptions(DictAction):
    """`DictAction` that names the entry that is not KEY=VALUE."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        """Store the entries; argparse calls this."""
        for entry in values:
            key, equals, _ = entry.partition('=')
            if not (equals and all(key.split('.'))):
                raise argparse.ArgumentError(self, f'{entry!r} is not KEY=VALUE')
            try:
                super().__call__(parser, namespace, [entry], option_string)
            except AssertionError as error:  # unbalanced brackets
                raise argparse.ArgumentError(self, f'{entry!r}: {error}') from error


def positive(text: str) -> int:
    """Parse an integer of at least 1, as a `type` of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 1')
    return int(text)


def natural(text: str) -> int:
    """Parse an integer of at least 0, as a `type` of argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least 0')
    return int(text)


def common_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results')
    parser.add_argument('--show-dir', help='folder for drawn predictions')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--interval', type=positive, default=1, help='draw every n-th sample')
    parser.add_argument('--wait-time', type=float, default=1, help='seconds a window is shown')
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
        help='program that started the processes',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='automatic mixed precision, in the type that the hardware supports',
    )
    parser.add_argument(
        '--amp-dtype',
        choices=AUTOCAST_DTYPES,
        help="automatic mixed precision in this type; 'auto' is the same as --amp",
    )
    parser.add_argument(
        '--compile', action='store_true', help="compile the network with PyTorch's compiler"
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser


def options_of(kind: type[Options], args: argparse.Namespace, **overrides) -> Options:
    """Build a dataclass from the arguments of the same names.

    Args:
        kind: the dataclass.
        args: parsed command line.
        overrides: values of fields that differ from the arguments.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: getattr(args, name) for name in names} | overrides)


def write_json(file: str | None, content: dict) -> None:
    """Write measurements as JSON, if a file is given; create its folder."""
    if file:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(content, indent=1))


def check_folder(flag: str, folder: str | None) -> None:
    """Check that files can be written to a folder, which need not exist yet.

    Raises:
        ConfigError: the folder can neither be written to nor created.
    """
    if folder is None:
        return
    if not folder:
        raise ConfigError(f"{flag} '': give a folder")
    path = Path(folder).absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    if not existing.is_dir():
        raise ConfigError(f"{flag} '{folder}': '{existing}' is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{flag} '{folder}': nothing can be written in '{existing}'")


def check_out(flag: str, file: str | None, extensions: Sequence[str]) -> None:
    """Check that a result can be written, before the work that computes it.

    Raises:
        ConfigError: the extension is not one of `extensions`, or the file cannot be written.
    """
    if file is None:
        return
    if Path(file).suffix not in extensions:
        raise ConfigError(f"{flag} '{file}': the file's name must end in {', '.join(extensions)}")
    if Path(file).is_dir():  # an OSError if the name is too long
        raise ConfigError(f"{flag} '{file}' is a folder: give a file")
    check_folder(flag, os.path.dirname(os.path.abspath(file)))
