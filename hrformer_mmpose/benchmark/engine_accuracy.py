"""Accuracy of a trained network in all precisions and engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoint.files import local_path
from ..errors import ConfigError
from ..export import accuracy, files, quantization
from ..export.calibration import split_images
from ..export.quantization import Int8Options
from ..inference import digest, sources
from ..inference.detectors import CocoDetections
from ..inference.networks import open_network
from ..inference.torch_network import TorchNetwork


@dataclass(frozen=True)
class TrainedOptions:
    """Options of `measure`.

    Attributes:
        trained: config and checkpoint.
        calibrate: images to calibrate int8 on.
        calibrate_boxes: their COCO annotations.
        images: images to compare on.
        annotations: their COCO annotations.
        threads: number of CPU threads.
        folder: exported files, which are reused for the same config and checkpoint.
    """

    trained: Sequence[str]
    calibrate: Sequence[str] | None
    calibrate_boxes: str | None
    images: Sequence[str] | None
    annotations: str | None
    threads: int
    folder: str


def measure(args: TrainedOptions) -> dict[str, dict]:
    """Compare the poses of a trained network with those of float32 in PyTorch.

    Returns:
        By engine and precision: `ap`, `ap_lost` in points, `p95`, the 95th percentile of the shifts
        of sure keypoints in pixels of the crop.
    """
    missing = [
        f'--{name.replace("_", "-")}'
        for name in ('calibrate', 'calibrate_boxes', 'images', 'annotations')
        if getattr(args, name) is None
    ]
    if missing:
        raise ConfigError(f'--trained needs {", ".join(missing)}')
    config, checkpoint = args.trained
    images = [*sources.collect([*args.images]).images]
    boxes = CocoDetections(args.annotations)
    exported = TorchNetwork(config, checkpoint, 'cpu', fuse=False)
    sigmas = np.asarray(quantization.sigmas_of(exported))
    average_precision = accuracy.AveragePrecision(args.annotations, images, sigmas)
    reference = accuracy.predict(TorchNetwork(config, checkpoint, 'cpu'), images, boxes)
    ap = average_precision(reference)

    def result(network) -> dict:
        poses = accuracy.predict(network, images, boxes)
        shifts = accuracy.compare(reference, poses, sigmas)
        own, p95 = average_precision(poses), np.percentile(shifts.pixels[shifts.sure], 95)
        return dict(ap=own, ap_lost=ap - own, p95=float(p95))

    results = {'PyTorch float32': dict(ap=ap, ap_lost=0.0, p95=0.0)}
    half = TorchNetwork(config, checkpoint, 'cpu', 'bfloat16')
    results['PyTorch bfloat16'] = result(half)
    for name, (path, precision) in _files(Path(args.folder), config, checkpoint).items():
        if not path.exists():
            print(f'exporting the trained network: {path.name}')
            if precision == 'int8':
                calibrate, _ = split_images(sources.collect([*args.calibrate]).images, images)
                own_boxes = CocoDetections(args.calibrate_boxes)
                options = Int8Options(
                    calibrate, own_boxes, images, boxes, args.annotations, 100.0, True
                )
                quantization.write(exported, checkpoint, path, options)
            else:
                files.write(exported, checkpoint, path, precision=precision)
        backend = 'openvino' if name.startswith('OpenVINO') else 'onnxruntime'
        results[name] = result(open_network(path, backend, args.threads, 'cpu'))
        print(f'{name}: {results[name]["ap_lost"]:.2f} AP lost of {ap:.2f}')
    return results


def _files(folder: Path, config: str, checkpoint: str) -> dict[str, tuple[Path, str]]:
    """Return file and precision of the exported networks, by engine and precision.

    The names tell config and checkpoint, so that no file of another network is reused.
    """
    weights = digest.sha256(local_path(checkpoint))[:8]
    stem = f'{Path(config).stem}-{weights}'
    return {
        'OpenVINO float32': (folder / f'{stem}.onnx', 'float32'),
        'OpenVINO bfloat16': (folder / f'{stem}-bfloat16.xml', 'bfloat16'),
        'OpenVINO int8': (folder / f'{stem}-int8.xml', 'int8'),
        'onnxruntime float32': (folder / f'{stem}.onnx', 'float32'),
        'onnxruntime int8': (folder / f'{stem}-int8.onnx', 'int8'),
    }
