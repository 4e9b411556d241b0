"""Export in int8: calibrated, compared with float32, and only written if it is accurate enough.

Convolutions and linear layers are quantized; attention's products, softmax, LayerNorm, sums,
normalization and decoding stay float. If the network then loses too much AP, the groups of layers
that add most to the error of the heatmaps are kept float, too, in up to four steps.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from mmpose.registry import DATASETS

from ..coco.metainfo import parse_metainfo
from ..errors import ConfigError, UserError
from ..inference import digest
from ..inference.description import KEY
from ..inference.networks import open_network
from ..inference.torch_network import TorchNetwork
from . import accuracy, files
from .accuracy import AveragePrecision, PoseTable
from .calibration import calibration_crops
from .graph import PoseGraph
from .int8_report import Int8Report
from .layers import last_output, quantizable
from .nncf_quantizer import NncfQuantizer
from .onnx_quantizer import OnnxQuantizer

RANKED_ON = 16  # crops
RANKING_SECONDS = 600.0
SHARES = (0.5, 0.75, 0.9, 0.97)  # of the error that the groups kept float account for, step by step


@dataclass(frozen=True)
class Int8Options:
    """Data and limits of an export in int8.

    Attributes:
        calibrate: images to calibrate on.
        calibrate_boxes: their boxes, see `Estimator`.
        images: images to compare on.
        boxes: their boxes.
        annotations: COCO annotations of `images`; None compares no AP.
        max_loss: most AP that may be lost, in points.
        force: write the file even if it loses more.
    """

    calibrate: Sequence[str]
    calibrate_boxes: object
    images: Sequence[str]
    boxes: object
    annotations: str | None
    max_loss: float
    force: bool


def write(
    network: TorchNetwork,
    checkpoint: str | Path,
    path: str | Path,
    options: Int8Options,
    normalise: bool = True,
    say: Callable[[str], None] = print,
) -> Int8Report:
    """Export a network in int8, atomically.

    Args:
        network: created with `fuse=False` on the CPU; its flip test is exported, too.
        checkpoint: file of its weights, for the description.
        path: `.xml` (OpenVINO, by NNCF) or `.onnx` (by onnxruntime's quantizer).
        options: data and limits.
        normalise: see `PoseGraph`.
        say: receives lines about the progress.

    Raises:
        ConfigError: unsupported combination of arguments.
        DataError: too few persons, or unusable annotations.
        UserError: the network loses too much AP, or the file cannot be written.
        ImportError: a package is missing; names the package to install.
    """
    path = Path(path)
    files.check(path, 'float32', 'trace')
    files.require('--precision int8', 'nncf' if path.suffix == '.xml' else 'onnxruntime')
    graph = PoseGraph(network, normalise)
    crops = calibration_crops(network, options.calibrate, options.calibrate_boxes)
    sigmas = np.asarray(sigmas_of(network))
    average_precision = None
    if options.annotations is not None:
        average_precision = AveragePrecision(options.annotations, options.images, sigmas)
    say(f'float32 poses on {len(options.images)} images')
    judge = _Judge(options, sigmas, average_precision, network)
    with files.replacing_files(path) as folder, tempfile.TemporaryDirectory() as work:
        source = Path(work, 'float32.onnx')
        # By the tracing exporter, which names nodes after their modules (`layers`).
        files.to_onnx(graph, network.input_size, source, 'trace')
        say(f'calibrating on {len(crops)} crops')
        quantizer, probe = _quantizer(path.suffix, source, _inputs(graph, crops), say)

        def save(float_groups: Sequence[str]) -> None:
            about = dict(crops=len(crops), float_layers=[*float_groups])
            text = files.describe(network, graph, checkpoint, 'int8', about).to_json()
            metadata = {KEY: text, digest.ENTRY: digest.PLACEHOLDER}
            quantizer.save(folder / path.name, metadata, float_groups)
            digest.seal(folder / path.name)

        save([])
        report = best = judge(folder / path.name, [], {})
        if report.loss > options.max_loss:
            say(f'int8 loses {report.loss:.2f} AP: looking for the layers that cost most')
            costs = rank(quantizer, probe, _inputs(graph, crops[:RANKED_ON]), say)
            for share in SHARES:
                save(costliest_groups(costs, share))
                report = judge(folder / path.name, costliest_groups(costs, share), costs)
                say(f'groups kept float: {len(report.float_groups)}; AP lost: {report.loss:.2f}')
                best = min(best, report, key=lambda one: one.loss)
                if report.loss <= options.max_loss:
                    break
            best = replace(best, costs=costs)
        if best.loss > options.max_loss and not options.force:
            say('\n'.join(best.lines()))
            raise UserError(
                f'int8 loses {best.loss:.2f} AP, more than --max-loss {options.max_loss:g}: '
                f"'{path}' is not written (--force writes it); most is lost by "
                f'{best.costliest(4)}'
            )
        if best.float_groups != report.float_groups:  # an earlier attempt was better
            save(best.float_groups)
    return best


def rank(
    quantizer: NncfQuantizer | OnnxQuantizer,
    probe: str,
    samples: np.ndarray,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Measure by how much the error of the heatmaps falls when a group of layers is kept float.

    Args:
        quantizer: the quantized network.
        probe: name of the heatmaps' tensor.
        samples: inputs of the network.
        say: receives lines about the progress.

    Returns:
        Share of the squared error by group; those not measured within `RANKING_SECONDS` are
        missing.
    """
    groups, start = quantizer.groups(), time.monotonic()
    expected = quantizer.tensor(probe, samples, groups)

    def error(float_groups: Sequence[str]) -> float:
        return float(np.square(quantizer.tensor(probe, samples, float_groups) - expected).sum())

    total, costs = error([]), {}
    # From both ends: the first and the last layers cost most as a rule.
    order = [groups[i // 2 if i % 2 == 0 else -1 - i // 2] for i in range(len(groups))]
    for number, group in enumerate(order):
        costs[group] = max(0.0, 1 - error([group]) / total) if total else 0.0
        if time.monotonic() - start > RANKING_SECONDS:
            say(f'  {number + 1} of {len(groups)} groups were measured: no more time')
            break
        if number % 5 == 4:
            say(f'  {number + 1} of {len(groups)} groups')
    return costs


def costliest_groups(costs: dict[str, float], share: float) -> list[str]:
    """Return the fewest groups that account for a share of all costs, the costliest first."""
    ranked = sorted(costs, key=lambda group: -costs[group])
    sums = np.cumsum([costs[group] for group in ranked])
    return ranked[: int(np.searchsorted(sums, share * sums[-1])) + 1] if ranked else []


class _Judge:
    """Comparison of files with float32; the float32 poses are predicted once."""

    def __init__(
        self, options: Int8Options, sigmas: np.ndarray, average_precision, network: TorchNetwork
    ):
        self.options, self.sigmas, self.average_precision = options, sigmas, average_precision
        self.names = network.skeleton.names
        self.reference: PoseTable = accuracy.predict(network, options.images, options.boxes)
        self.ap = None if average_precision is None else average_precision(self.reference)

    def __call__(self, file: Path, float_groups: Sequence[str], costs: dict) -> Int8Report:
        """Compare a file."""
        network = open_network(file, threads=torch.get_num_threads(), device='cpu')
        poses = accuracy.predict(network, self.options.images, self.options.boxes)
        shifts = accuracy.compare(self.reference, poses, self.sigmas)
        ap = None if self.average_precision is None else self.average_precision(poses)
        return Int8Report(self.names, shifts, self.ap, ap, [*float_groups], costs)


def _quantizer(suffix: str, source: Path, samples: np.ndarray, say: Callable[[str], None]):
    """Return the quantized network and the name of the heatmaps' tensor."""
    model = onnx.load(source)
    _, products = quantizable(model)
    if suffix == '.xml':
        return NncfQuantizer(source, samples, products), last_output(model)
    return OnnxQuantizer(source, samples, products, say), last_output(model)


def _inputs(graph: PoseGraph, crops: np.ndarray) -> np.ndarray:
    """Convert crops (N, h, w, 3) BGR uint8 to the graph's input."""
    if graph.normalise:
        return crops
    with torch.inference_mode():
        return graph.preprocess(torch.from_numpy(crops)).numpy()


def sigmas_of(network: TorchNetwork) -> Sequence[float]:
    """Return the sigmas of OKS of a network's keypoints, (K)."""
    settings = network.cfg.test_dataloader.dataset
    metainfo = settings.get('metainfo') or DATASETS.get(settings.type).METAINFO
    sigmas = parse_metainfo(metainfo)['sigmas']
    if len(sigmas) != len(network.skeleton.names):
        raise ConfigError(f"config '{network.name}': its metainfo has no sigmas for OKS")
    return sigmas
