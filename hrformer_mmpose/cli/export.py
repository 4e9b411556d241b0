"""`hrformer export` and `tools/export.py`: a checkpoint as ONNX or for OpenVINO, and its check."""

import argparse
import time
from pathlib import Path

from ..errors import UserError
from ..export import files, report
from ..inference import sources
from ..inference.detectors import make_detector
from ..inference.torch_network import TorchNetwork


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        description='Write a network as ONNX (.onnx) or for OpenVINO (.xml), with normalisation '
        'and decoding inside, and compare its poses with those of PyTorch.'
    )
    made.add_argument('config', help='a config or its name')
    made.add_argument('checkpoint', help='weights, of any origin that tools/test.py takes')
    made.add_argument('out', help='file to write: .onnx, or .xml for OpenVINO')
    made.add_argument(
        '--precision',
        choices=files.PRECISIONS,
        default='float32',
        help='float16 halves the file; bfloat16 (.xml) is computed by CPUs that know it '
        '(%(default)s)',
    )
    made.add_argument(
        '--flip',
        action=argparse.BooleanOptionalAction,
        help='average over the mirror image inside the graph (default: as the config says)',
    )
    made.add_argument(
        '--no-normalise',
        dest='normalise',
        action='store_false',
        help='take (N, 3, h, w) float32, normalised, instead of crops (N, h, w, 3) BGR uint8',
    )
    made.add_argument(
        '--no-decode', dest='decode', action='store_false', help='give heatmaps, not keypoints'
    )
    made.add_argument(
        '--exporter',
        choices=files.EXPORTERS,
        default='trace',
        help="PyTorch's: 'trace' takes seconds, 'dynamo' minutes (%(default)s)",
    )
    made.add_argument(
        '--images', nargs='+', help='compare on these images, not on generated people'
    )
    made.add_argument('--boxes', help='of --images: as `hrformer predict --boxes`')
    made.add_argument('--tolerance', type=float, help='of the comparison, in pixels of the image')
    made.add_argument('--no-check', dest='check', action='store_false', help='do not compare')
    made.add_argument('--force', action='store_true', help='replace a file that exists')
    return made


def run(args: argparse.Namespace) -> int:
    """Export and compare; returns the exit status: 1 if poses differ by too much."""
    for name in ('config', 'checkpoint', 'out'):
        if getattr(args, name) == '':
            raise UserError(f"{name} '' is empty: give a name or a path")
    out = Path(args.out)
    # OpenVINO's weights lie beside the .xml.
    for path in (out, out.with_suffix('.bin')) if out.suffix == '.xml' else (out,):
        if path.exists() and not args.force:
            raise UserError(f"'{path}' exists: choose another name, or --force to replace it")
    images = boxes = None
    if args.images:
        if args.boxes is None:
            raise UserError('--images needs --boxes: where the persons on them are')
        images, boxes = list(sources.collect(args.images).images), make_detector(args.boxes)
    network = TorchNetwork(args.config, args.checkpoint, 'cpu', flip_test=args.flip, fuse=False)
    start = time.monotonic()
    description = files.write(
        network, args.checkpoint, out, args.normalise, args.decode, args.precision, args.exporter
    )
    print(f"wrote '{out}' ({_size(out):.1f} MB) in {time.monotonic() - start:.0f} s")
    w, h = description.input_size
    images_in = f'(N, {h}, {w}, 3) BGR uint8' if args.normalise else f'(N, 3, {h}, {w}) float32'
    gives = 'keypoints (N, K, 2) and scores (N, K)' if args.decode else 'heatmaps'
    flip = ', flip test inside' if description.flip_test else ''
    print(f'takes images {images_in}, gives {gives}{flip}; {description.precision}')
    if not args.check:
        return 0
    found = report.check(network, out, images, boxes, args.tolerance)
    print(*found, sep='\n')
    if not found:
        print('not compared: neither onnxruntime nor openvino is installed')
    return 0 if all(one.passed for one in found) else 1


def _size(path: Path) -> float:
    """Megabytes, OpenVINO's weights included."""
    weights = path.with_suffix('.bin')
    size = path.stat().st_size
    if path.suffix == '.xml' and weights.exists():
        size += weights.stat().st_size
    return size / 1e6
