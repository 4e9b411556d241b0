"""The flags of `hrformer predict`, and what is wrong with them before anything is read."""

import argparse
import math

from ...errors import UserError
from ...imaging.drawing import DRAW_THRESHOLD
from ...inference.networks import BACKENDS, check_threads


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        description='Poses on images, folders, videos or a camera. Results go to --out; a run that '
        'was interrupted goes on when the same command is given again.',
    )
    made.add_argument(
        'inputs', nargs='+', metavar='INPUT', help='image, video, folder, glob, or camera[:NUMBER]'
    )
    made.add_argument(
        '--model', required=True, help='exported network (.onnx, .xml), or a config or its name'
    )
    made.add_argument('--checkpoint', help='weights, with a config')
    made.add_argument(
        '--boxes',
        default='hog',
        help="where persons are: 'whole-image'; a COCO detection or annotation file (.json); "
        "onnx:FILE or torchvision:FILE, a detector; 'hog' (default), OpenCV's built-in people "
        'detector, which finds upright people only',
    )
    made.add_argument(
        '--annotations', metavar='FILE', help='COCO file that numbers the images (for --boxes JSON)'
    )
    made.add_argument('--out', default='predictions', help='folder for results (%(default)s)')
    made.add_argument(
        '--force',
        action='store_true',
        help='begin anew in an --out that exists; other files in it are left as they are',
    )
    made.add_argument('--no-pictures', dest='pictures', action='store_false', help='draw nothing')
    made.add_argument('--show', action='store_true', help='show videos in a window; q ends')
    made.add_argument(
        '--threshold',
        type=float,
        default=DRAW_THRESHOLD,
        help='keypoints drawn (%(default)s and up)',
    )
    made.add_argument('--box-threshold', type=float, help='leave out boxes with a lower score')
    made.add_argument('--batch-size', type=int, default=32, help='persons at a time (%(default)s)')
    made.add_argument('--shard', metavar='I/N', help='take the I-th of N parts (0/N to N-1/N)')
    made.add_argument('--threads', type=int, help='of the CPU')
    made.add_argument('--backend', choices=BACKENDS, help='for an exported network')
    made.add_argument('--device', help='for a config: cpu, cuda, cuda:1, ...')
    made.add_argument(
        '--precision',
        default='float32',
        choices=['float32', 'auto', 'float16', 'bfloat16'],
        help='for a config (%(default)s)',
    )
    made.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='for a config: average over the mirror image (default: as the config says)',
    )
    return made


def check(args: argparse.Namespace) -> None:
    """Raise a `UserError` for a value that cannot be used, whatever the files hold."""
    for flag in ('model', 'checkpoint', 'boxes', 'annotations', 'out'):
        if getattr(args, flag) == '':
            raise UserError(f"--{flag} '' is empty: give a name or a path")
    for flag in ('threshold', 'box_threshold'):
        value = getattr(args, flag)
        if value is not None and not math.isfinite(value):
            raise UserError(f'--{flag.replace("_", "-")} {value} is not a finite number')
    check_threads(args.threads)
