"""Command line of `hrformer predict`."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...imaging.drawing import DRAW_THRESHOLD
from ...inference.networks import BACKENDS, check_threads
from ...inference.pairing import WHOLE_IMAGE
from ...inference.smoothing import FILTERS
from ...inference.sources import CAMERA

BOXES = (
    '--boxes is missing: give whole-image (one person in each image), FILE.json (boxes in COCO '
    'format), onnx:FILE or torchvision:FILE (a detector), or hog (built in, finds one person in '
    'eight on COCO)'
)
DETECTORS_HELP = (
    "onnx:FILE or torchvision:FILE, a detector; 'hog', OpenCV's built-in people detector, which "
    'finds few'
)
MAX_DETECT_EVERY = 10_000
MAX_SHARDS = 10_000  # each run looks for the journals of all shards


@dataclass(frozen=True)
class Options:
    """Options of `hrformer predict`, see `parser` for their meaning.

    Attributes:
        shard: index of this shard.
        num_shards: number of shards.
    """

    inputs: Sequence[str]
    model: str
    checkpoint: str | None
    boxes: str
    annotations: str | None
    out: Path
    force: bool
    pictures: bool
    show: bool
    threshold: float
    box_threshold: float | None
    batch_size: int
    shard: int
    num_shards: int
    threads: int | None
    backend: str | None
    device: str | None
    precision: str
    flip: bool | None
    track: bool
    smooth: str | None
    detect_every: int
    color_by: str


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='Poses on images, folders, videos or a camera. Results go to --out; a run that '
        'was interrupted continues when the same command is given again.'
    )
    flags.add_argument(
        'inputs', nargs='+', metavar='INPUT', help='image, video, folder, glob, or camera[:NUMBER]'
    )
    add_network_flags(flags)
    flags.add_argument(
        '--boxes',
        help="where persons are: 'whole-image'; a COCO detection or annotation file (.json); "
        f'{DETECTORS_HELP} (required)',
    )
    flags.add_argument(
        '--annotations', metavar='FILE', help='COCO file with the image ids (for --boxes JSON)'
    )
    flags.add_argument('--out', default='predictions', help='folder for results (%(default)s)')
    flags.add_argument(
        '--force',
        action='store_true',
        help='start over in an existing --out; other files in it are kept',
    )
    flags.add_argument('--no-pictures', dest='pictures', action='store_false', help='draw nothing')
    flags.add_argument('--show', action='store_true', help='show videos in a window; q quits')
    flags.add_argument('--shard', metavar='I/N', help='process the I-th of N parts (0/N to N-1/N)')
    add_drawing_flags(flags)
    return flags


def add_network_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that select the network and how it runs."""
    flags.add_argument(
        '--model',
        required=True,
        help='exported network (.onnx, .xml), a config or its name, or a folder of '
        '`hrformer save-pretrained`, also hf://OWNER/REPO[@REVISION]',
    )
    flags.add_argument('--checkpoint', help='weights, with a config: a file, an address or a name')
    flags.add_argument('--box-threshold', type=float, help='leave out boxes with a lower score')
    flags.add_argument('--batch-size', type=int, default=32, help='persons at a time (%(default)s)')
    flags.add_argument('--threads', type=int, help='number of CPU threads')
    flags.add_argument('--backend', choices=BACKENDS, help='for an exported network')
    flags.add_argument(
        '--device',
        help='cpu, cuda, cuda:1, ...; for an exported network also tensorrt (onnxruntime), gpu and '
        'auto (OpenVINO)',
    )
    flags.add_argument(
        '--precision',
        default='float32',
        choices=['float32', 'auto', 'float16', 'bfloat16'],
        help='for a config (%(default)s)',
    )
    flags.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='for a config: average over the mirror image (default: as the config says)',
    )


def add_drawing_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of drawn keypoints and of videos."""
    flags.add_argument(
        '--threshold',
        type=float,
        default=DRAW_THRESHOLD,
        help='lowest score of drawn keypoints (%(default)s)',
    )
    flags.add_argument(
        '--track', action='store_true', help='in videos: give each person an identity'
    )
    flags.add_argument(
        '--smooth',
        choices=sorted(FILTERS),
        help='in videos, with --track: steadier keypoints beside the raw ones. one-euro lags a '
        'little and suits cameras; savgol looks 0.16 s ahead',
    )
    flags.add_argument(
        '--detect-every',
        type=int,
        default=1,
        metavar='N',
        help='in videos: detect people on each N-th frame, and take boxes from the last keypoints '
        'in between (%(default)s)',
    )
    flags.add_argument(
        '--color-by',
        choices=['side', 'id'],
        default='side',
        help='colour of limbs: side of the body, or identity with --track (%(default)s)',
    )


def read_options(args: argparse.Namespace) -> Options:
    """Check the parsed command line, without reading a file.

    Raises:
        UserError: a value cannot be used.
    """
    values = vars(args)
    if args.boxes is None:
        raise UserError(BOXES)
    for flag in ('model', 'checkpoint', 'boxes', 'annotations', 'out'):
        if values[flag] == '':
            raise UserError(f"--{flag} '' is empty: give a name or a path")
    for flag in ('threshold', 'box_threshold'):
        value = values[flag]
        if value is not None and not 0 <= value <= 1:
            raise UserError(f'--{flag.replace("_", "-")} {value}: scores are from 0 to 1')
    check_threads(args.threads)
    _check_video_options(args)
    shard, num_shards = parse_shard(args.shard)
    return Options(**{**values, 'out': Path(args.out), 'shard': shard, 'num_shards': num_shards})


def _check_video_options(args: argparse.Namespace) -> None:
    for flag, value in (('--smooth', args.smooth), ('--color-by id', args.color_by == 'id')):
        if value and not args.track:
            raise UserError(f'{flag} works person by person: add --track')
    if not 1 <= args.detect_every <= MAX_DETECT_EVERY:
        raise UserError(f'--detect-every {args.detect_every}: give 1 to {MAX_DETECT_EVERY:,}')
    if args.detect_every > 1 and args.boxes.lower() == WHOLE_IMAGE:
        raise UserError(f'--detect-every is for detectors: --boxes {WHOLE_IMAGE} detects nothing')
    if args.smooth == 'savgol' and args.inputs[0].partition(':')[0] == CAMERA:
        raise UserError('--smooth savgol looks ahead: one-euro is for cameras')


def parse_shard(text: str | None) -> tuple[int, int]:
    """Return the index of this shard and the number of shards.

    Args:
        text: value of --shard; None reads the environment that torchrun sets.

    Raises:
        UserError: the value is not I/N with I from 0 to N-1.
    """
    source = f'--shard {text}'
    if text is None:
        if 'WORLD_SIZE' not in os.environ:
            return 0, 1
        text = f'{os.environ.get("RANK", 0)}/{os.environ["WORLD_SIZE"]}'
        source = f'RANK/WORLD_SIZE of the environment are {text}'
    first, _, count = text.partition('/')
    digits = len(str(MAX_SHARDS))
    if first.isdecimal() and count.isdecimal():
        if len(count) > digits or int(count) > MAX_SHARDS:
            raise UserError(f'{source[:40]}: there can be {MAX_SHARDS:,} parts at most')
        if len(first) <= digits and int(first) < int(count):
            return int(first), int(count)
    raise UserError(f'{source}: give I/N with I from 0 to N-1, e.g. 0/4')
