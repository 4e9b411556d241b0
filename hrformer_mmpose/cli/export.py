"""Export a checkpoint to ONNX or OpenVINO and check it: `hrformer export`, `tools/export.py`."""

import argparse
import time
from pathlib import Path

from ..errors import UserError
from ..export import files, report
from ..inference import sources
from ..inference.detectors import make_detector
from ..inference.torch_network import TorchNetwork


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
        choices=files.PRECISIONS,
        default='float32',
        help='float16 halves the file; bfloat16 (.xml) needs a CPU that supports it (%(default)s)',
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
        '--tolerance', type=float, help='largest difference allowed, in image pixels'
    )
    flags.add_argument('--no-check', dest='check', action='store_false', help='do not compare')
    flags.add_argument('--force', action='store_true', help='replace a file that exists')
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
    images = boxes = None
    if args.images:
        if args.boxes is None:
            raise UserError('--images needs --boxes: the boxes of the persons')
        images, boxes = list(sources.collect(args.images).images), make_detector(args.boxes)
    network = TorchNetwork(args.config, args.checkpoint, 'cpu', flip_test=args.flip, fuse=False)
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


def _size(path: Path) -> float:
    """Return the size in MB, OpenVINO's weights included."""
    weights = path.with_suffix('.bin')
    size = path.stat().st_size
    if path.suffix == '.xml' and weights.exists():
        size += weights.stat().st_size
    return size / 1e6
