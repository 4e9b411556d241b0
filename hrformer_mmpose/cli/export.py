"""Export a checkpoint to ONNX or OpenVINO and check it: `hrformer export`, `tools/export.py`."""

import argparse
import time
from pathlib import Path

from ..errors import UserError
from ..export import files, quantization, report
from ..export.calibration import split_images
from ..export.quantization import Int8Options
from ..inference import sources
from ..inference.detectors import CocoDetections, make_detector
from ..inference.torch_network import TorchNetwork

INT8 = 'int8'


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    flags = argparse.ArgumentParser(
        description='Write a network as ONNX (.onnx) or for OpenVINO (.xml), with normalisation '
        'and decoding inside, and compare its poses with those of PyTorch.'
    )
    flags.add_argument('config', help='a config or its name')
    flags.add_argument('checkpoint', help='weights, of any origin that tools/test.py takes')
    flags.add_argument('out', help='file to write: .onnx, or .xml for OpenVINO')
    flags.add_argument(
        '--precision',
        choices=(*files.PRECISIONS, INT8),
        default='float32',
        help='float16 halves the file; bfloat16 (.xml) needs a CPU that supports it; int8 needs '
        '--calibrate (%(default)s)',
    )
    flags.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='average over the mirror image inside the graph (default: as the config says)',
    )
    flags.add_argument(
        '--no-normalise',
        dest='normalise',
        action='store_false',
        help='take (N, 3, h, w) float32, normalised, instead of crops (N, h, w, 3) BGR uint8',
    )
    flags.add_argument(
        '--no-decode', dest='decode', action='store_false', help='output heatmaps, not keypoints'
    )
    flags.add_argument(
        '--exporter',
        choices=files.EXPORTERS,
        default='trace',
        help="PyTorch's: 'trace' takes seconds, 'dynamo' minutes (%(default)s)",
    )
    flags.add_argument(
        '--images', nargs='+', help='compare on these images, not on generated people'
    )
    flags.add_argument('--boxes', help='for --images: as `hrformer predict --boxes`')
    flags.add_argument(
        '--tolerance',
        type=float,
        help='largest difference allowed, in image pixels (default: 0.01; 0.5 in half precision)',
    )
    flags.add_argument(
        '--calibrate',
        nargs='+',
        metavar='IMAGES',
        help='for int8: a few hundred persons, in --boxes',
    )
    flags.add_argument(
        '--calibrate-boxes',
        metavar='BOXES',
        help='for int8: boxes of --calibrate, if not in --boxes',
    )
    flags.add_argument(
        '--annotations',
        metavar='FILE',
        help='for int8: COCO annotations of the images that are compared on (default: --boxes, if '
        'it is an annotation file)',
    )
    flags.add_argument(
        '--max-loss',
        type=float,
        default=0.5,
        metavar='AP',
        help='for int8: most AP in points that may be lost, else nothing is written (%(default)s)',
    )
    flags.add_argument('--no-check', dest='check', action='store_false', help='do not compare')
    flags.add_argument(
        '--force',
        action='store_true',
        help='replace a file that exists; write an int8 file that loses more than --max-loss',
    )
    return flags


def run(args: argparse.Namespace) -> int:
    """Export, then compare with PyTorch.

    Returns:
        The exit status: 1 if the poses differ by more than the tolerance.
    """
    for name in ('config', 'checkpoint', 'out'):
        if getattr(args, name) == '':
            raise UserError(f"{name} '' is empty: give a name or a path")
    out = Path(args.out)
    # OpenVINO stores the weights in a .bin file beside the .xml.
    for path in (out, out.with_suffix('.bin')) if out.suffix == '.xml' else (out,):
        if path.exists() and not args.force:
            raise UserError(f"'{path}' exists: choose another name, or --force to replace it")
    _check_flags(args)
    images = boxes = None
    if args.images:
        if args.boxes is None:
            raise UserError('--images needs --boxes: the boxes of the persons')
        images, boxes = list(sources.collect(args.images).images), make_detector(args.boxes)
    network = TorchNetwork(args.config, args.checkpoint, 'cpu', flip_test=args.flip, fuse=False)
    if args.precision == INT8:
        return _export_int8(args, network, out, images, boxes)
    start = time.monotonic()
    description = files.write(
        network, args.checkpoint, out, args.normalise, args.decode, args.precision, args.exporter
    )
    print(f"wrote '{out}' ({_size(out):.1f} MB) in {time.monotonic() - start:.0f} s")
    w, h = description.input_size
    images_in = f'(N, {h}, {w}, 3) BGR uint8' if args.normalise else f'(N, 3, {h}, {w}) float32'
    outputs = 'keypoints (N, K, 2) and scores (N, K)' if args.decode else 'heatmaps'
    flip = ', flip test inside' if description.flip_test else ''
    print(f'inputs {images_in}, outputs {outputs}{flip}; {description.precision}')
    if not args.check:
        return 0
    comparisons = report.check(network, out, images, boxes, args.tolerance)
    print(*comparisons, sep='\n')
    if not comparisons:
        print('not compared: neither onnxruntime nor openvino is installed')
    return 0 if all(comparison.passed for comparison in comparisons) else 1


def _check_flags(args: argparse.Namespace) -> None:
    """Raise a `UserError` for flags that do not go together."""
    if args.precision != INT8:
        for flag in ('calibrate', 'calibrate_boxes', 'annotations'):
            if getattr(args, flag) is not None:
                raise UserError(f'--{flag.replace("_", "-")} is for --precision int8')
        if args.boxes is not None and not args.images:
            raise UserError('--boxes is for --images, whose persons it tells')
        if args.tolerance is not None and not (args.check and args.tolerance >= 0):
            raise UserError(f'--tolerance {args.tolerance:g}: give 0 or more, without --no-check')
        return
    if args.calibrate is None or args.boxes is None:
        raise UserError(
            '--precision int8 needs --calibrate IMAGES, a few hundred persons to calibrate on, and '
            '--boxes, their boxes'
        )
    if not args.decode or not args.check or args.tolerance is not None:
        raise UserError(
            '--precision int8 compares poses: leave out --no-decode, --no-check and --tolerance '
            '(--max-loss is its limit)'
        )
    if args.exporter != 'trace':
        raise UserError('--precision int8 is for --exporter trace: the other one names no layers')
    if not 0 <= args.max_loss <= 100:
        raise UserError(f'--max-loss {args.max_loss}: give points of AP, 0 to 100')


def _export_int8(args: argparse.Namespace, network: TorchNetwork, out: Path, images, boxes) -> int:
    """Export in int8 and print the report."""
    boxes = make_detector(args.boxes) if boxes is None else boxes
    own_boxes = boxes if args.calibrate_boxes is None else make_detector(args.calibrate_boxes)
    calibrate, images = split_images(sources.collect(args.calibrate).images, images)
    if isinstance(own_boxes, CocoDetections):
        own_boxes.check_images(calibrate)
    annotations = args.annotations
    if annotations is None and isinstance(boxes, CocoDetections):
        annotations = boxes.annotation_file
    options = Int8Options(
        calibrate, own_boxes, images, boxes, annotations, args.max_loss, args.force
    )
    start = time.monotonic()
    report = quantization.write(network, args.checkpoint, out, options, args.normalise)
    print(*report.lines(), sep='\n')
    print(f"wrote '{out}' ({_size(out):.1f} MB) in {time.monotonic() - start:.0f} s")
    return 0


def _size(path: Path) -> float:
    """Return the size in MB, OpenVINO's weights included."""
    weights = path.with_suffix('.bin')
    size = path.stat().st_size
    if path.suffix == '.xml' and weights.exists():
        size += weights.stat().st_size
    return size / 1e6
