"""Command line of `hrformer web`."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import UserError
from ..predict.arguments import (
    DETECTORS_HELP,
    Options,
    add_drawing_flags,
    add_network_flags,
    read_options,
)

DRAW = 'draw'  # --boxes: nobody is detected
PORT = 7860
MAX_MB = 200
MAX_SECONDS = 60.0
MAX_FPS = 60  # frames a second of a video as long as the bound
# Options of `hrformer predict` that are not asked for: an upload is the only input.
FIXED: Mapping = dict(
    inputs=('upload',),
    annotations=None,
    out='results',
    force=False,
    pictures=True,
    show=False,
    shard='0/1',
)


@dataclass(frozen=True)
class Limits:
    """Bounds of an upload.

    Attributes:
        megabytes: of a file.
        seconds: of a video.
    """

    megabytes: int = MAX_MB
    seconds: float = MAX_SECONDS

    @property
    def frames(self) -> int:
        """Frames of a video."""
        return round(self.seconds * MAX_FPS)


@dataclass(frozen=True)
class Address:
    """Where the page listens.

    Attributes:
        host: name or number of an interface.
        port: 0 selects a free one.
    """

    host: str
    port: int


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='A page to try a network on: drop an image or a video, or use the camera, draw '
        'or detect boxes, see the poses, download them. Nothing leaves this machine, and nothing '
        'is kept.'
    )
    add_network_flags(flags)
    flags.add_argument(
        '--boxes',
        default=DRAW,
        help="where persons are: 'draw', as drawn on the page (%(default)s); 'whole-image'; "
        f'{DETECTORS_HELP}',
    )
    flags.add_argument(
        '--host',
        default='127.0.0.1',
        help='interface to listen on; others than %(default)s let other machines use the page',
    )
    flags.add_argument('--port', type=int, default=PORT, help='0 takes a free one (%(default)s)')
    flags.add_argument(
        '--max-mb', type=int, default=MAX_MB, help='size of an upload in megabytes (%(default)s)'
    )
    flags.add_argument(
        '--max-seconds', type=float, default=MAX_SECONDS, help='length of a video (%(default)g)'
    )
    add_drawing_flags(flags)
    flags.set_defaults(**FIXED)
    return flags


def read(args: argparse.Namespace) -> tuple[Options, Address, Limits]:
    """Check the parsed command line, without reading a file.

    Returns:
        Options of `hrformer predict`, whose `threshold`, `track`, `smooth`, `detect_every` and
        `color_by` are those that the page starts with.

    Raises:
        UserError: a value cannot be used.
    """
    values = dict(vars(args))
    host, port = values.pop('host'), values.pop('port')
    megabytes, seconds = values.pop('max_mb'), values.pop('max_seconds')
    options = read_options(argparse.Namespace(**values))
    if options.boxes.lower().endswith('.json'):
        raise UserError(
            f'--boxes {options.boxes}: a file of boxes is for images that it names, not for '
            f'uploads; give {DRAW}, whole-image, onnx:FILE, torchvision:FILE or hog'
        )
    if options.detect_every > 1 and options.boxes == DRAW:
        raise UserError(f'--detect-every is for detectors: --boxes {DRAW} detects nothing')
    if not host:
        raise UserError("--host '' is empty: give 127.0.0.1 for this machine alone")
    if not 0 <= port <= 65535:
        raise UserError(f'--port {port}: give 1 to 65535, or 0 for a free one')
    if not 1 <= megabytes <= 10_000:
        raise UserError(f'--max-mb {megabytes}: give 1 to 10,000')
    if not 0 < seconds <= 86_400:
        raise UserError(f'--max-seconds {seconds:g}: give more than 0 and at most 86,400')
    return options, Address(host, port), Limits(megabytes, seconds)
