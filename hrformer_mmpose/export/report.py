"""How far an exported file's results are from PyTorch's, on crops of people."""

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..imaging.poses import Pose
from ..inference.detectors import CocoDetections
from ..inference.estimator import Estimator
from ..inference.networks import SUFFIXES, ExportedNetwork, open_network
from ..inference.torch_network import TorchNetwork
from ..synthetic import dataset as synthetic
from .graph import PoseGraph

SURE = 0.2  # peaks below are noise, whose highest pixel any rounding may exchange
GENERATED = 12  # images with one to four people each
# Pixels of the image: of every sure keypoint in float32, of 99 % of them in half precision, where a
# peak may fall to one of two equal places. Of heatmaps: relative L2 difference.
PIXELS = {'float32': 0.01, 'float16': 0.5, 'bfloat16': 0.5}
HEATMAPS = {'float32': 1e-4, 'float16': 2e-2, 'bfloat16': 5e-2}


@dataclass
class Comparison:
    """One backend against PyTorch.

    Attributes:
        backend: its name. what: of the figures, for people. worst, p99: differences; of heatmaps
            both are the relative L2 difference. tolerance: for `worst` in float32, else for `p99`.
    """

    backend: str
    what: str
    worst: float
    p99: float
    tolerance: float
    strict: bool

    @property
    def passed(self) -> bool:
        """Whether the difference is tolerable; NaN is not."""
        return bool((self.worst if self.strict else self.p99) <= self.tolerance)

    def __str__(self) -> str:
        which = 'worst' if self.strict else '99 %'
        return (
            f'{"ok  " if self.passed else "FAIL"} {self.backend}: {self.what} differ by '
            f'{self.p99:.2g} (99 %), {self.worst:.2g} (worst); tolerated: {self.tolerance:g} '
            f'({which})'
        )


def compare(
    network: TorchNetwork,
    path: str | Path,
    images: list[str],
    boxes,
    tolerance: float | None = None,
) -> Iterator[Comparison]:
    """Run a file by each backend that is installed and reads it.

    Args:
        network: what was exported. path: the file. images, boxes: as `Estimator` takes them.
        tolerance: instead of `PIXELS` or `HEATMAPS`.
    """
    for backend in SUFFIXES[Path(path).suffix]:
        if importlib.util.find_spec(backend) is None:
            continue
        exported = open_network(path, backend)
        one = _keypoints if exported.description.decode else _heatmaps
        yield one(network, exported, images, boxes, tolerance)


def generated(folder: str | Path) -> tuple[list[str], CocoDetections]:
    """Images of generated people in a folder, and their boxes."""
    root = synthetic.generate(Path(folder) / 'people', num_train=1, num_val=GENERATED, seed=7)
    boxes = CocoDetections(root / 'annotations' / 'person_keypoints_val2017.json')
    return [str(root / 'val2017' / name) for name in sorted(boxes)], boxes


def _keypoints(
    network: TorchNetwork, exported: ExportedNetwork, images: list[str], boxes, tolerance
) -> Comparison:
    expected, found = (
        [
            pose
            for poses in Estimator(one, batch_size=8, on_error='skip')(images, boxes)
            for pose in poses
        ]
        for one in (network, exported)
    )
    (wanted, scores), (given, _) = _arrays(expected), _arrays(found)
    distances = np.abs(given - wanted).max(axis=-1)
    sure = scores > SURE
    what = f'{sure.sum()} sure keypoints of {len(expected)} persons'
    if not sure.any():
        sure, what = np.ones_like(sure), f'{sure.size} keypoints, none of them sure,'
    return _comparison(exported, f'{what} (pixels)', distances[sure], PIXELS, tolerance)


def _arrays(poses: list[Pose]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([pose.keypoints for pose in poses]), np.stack([pose.scores for pose in poses])


def _heatmaps(
    network: TorchNetwork, exported: ExportedNetwork, images: list[str], boxes, tolerance
) -> Comparison:
    graph = PoseGraph(network, exported.description.normalise, decode=False)
    collected = _Collector(network)
    Estimator(collected, batch_size=8, on_error='skip')(images, boxes)
    differences, norms = 0.0, 0.0
    for batch in collected.batches:
        batch = exported.preprocess(batch)
        with torch.inference_mode():
            wanted = graph(torch.from_numpy(batch)).numpy()
        (given,) = exported.outputs(batch)
        differences += float(np.square(given - wanted).sum())
        norms += float(np.square(wanted).sum())
    relative = np.array([np.sqrt(differences / norms)])
    return _comparison(exported, 'heatmaps (relative)', relative, HEATMAPS, tolerance)


class _Collector:
    """A network that keeps the crops it is shown."""

    def __init__(self, network: TorchNetwork):
        self.input_size, self.padding, self.udp = network.input_size, network.padding, network.udp
        self.skeleton = network.skeleton
        self.batches: list[np.ndarray] = []

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nothing but zeros."""
        self.batches.append(batch)
        K = len(self.skeleton.names)
        return np.zeros((len(batch), K, 2)), np.zeros((len(batch), K))


def _comparison(
    exported: ExportedNetwork, what: str, differences: np.ndarray, tolerances: dict, tolerance
) -> Comparison:
    precision = exported.description.precision
    return Comparison(
        exported.backend,
        what,
        float(differences.max()),
        float(np.percentile(differences, 99)),
        tolerances[precision] if tolerance is None else tolerance,
        precision == 'float32',
    )


def check(
    network: TorchNetwork,
    path: str | Path,
    images: list[str] | None = None,
    boxes=None,
    tolerance: float | None = None,
) -> list[Comparison]:
    """`compare` on given images, or on generated ones; all at once."""
    if images:
        return list(compare(network, path, images, boxes, tolerance))
    with tempfile.TemporaryDirectory() as folder:
        return list(compare(network, path, *generated(folder), tolerance))
