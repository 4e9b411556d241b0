"""Comparison of an exported file with PyTorch on crops of people.

Shapes: P persons, K keypoints.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..imaging.poses import KEYPOINT_THRESHOLD
from ..inference.detectors import CocoDetections
from ..inference.estimator import Estimator
from ..inference.networks import SUFFIXES, ExportedNetwork, open_network
from ..inference.torch_network import TorchNetwork
from ..synthetic import dataset as synthetic
from .accuracy import no_persons, predict
from .calibration import CropCollector
from .graph import PoseGraph

GENERATED = 12  # images with one to four people each
# Tolerances in pixels of the image, for keypoints above KEYPOINT_THRESHOLD: lower maxima are noise,
# where rounding may move the maximum. float32: for all of them; half precision: for 99 %, since a
# maximum may move between two equal pixels. Heatmaps: relative L2 difference.
PIXELS = {'float32': 0.01, 'float16': 0.5, 'bfloat16': 0.5}
HEATMAPS = {'float32': 1e-4, 'float16': 2e-2, 'bfloat16': 5e-2}


@dataclass
class Comparison:
    """Difference between one backend and PyTorch.

    Attributes:
        backend: name of the backend.
        what: description of the compared values.
        worst: largest difference; for heatmaps the relative L2 difference.
        p99: 99th percentile of the differences; for heatmaps equal to `worst`.
        tolerance: for `worst` if strict, else for `p99`.
        strict: whether `worst` is tested.
    """

    backend: str
    what: str
    worst: float
    p99: float
    tolerance: float
    strict: bool

    @property
    def passed(self) -> bool:
        """Return whether the difference is within the tolerance; False for NaN."""
        return bool((self.worst if self.strict else self.p99) <= self.tolerance)

    def __str__(self) -> str:
        which = 'worst' if self.strict else '99 %'
        return (
            f'{"ok  " if self.passed else "FAIL"} {self.backend}: {self.what} differ by '
            f'{self.p99:.2g} (99 %), {self.worst:.2g} (worst); tolerated: {self.tolerance:g} '
            f'({which})'
        )


def check(
    network: TorchNetwork,
    path: str | Path,
    images: list[str] | None = None,
    boxes=None,
    tolerance: float | None = None,
) -> list[Comparison]:
    """Compare a file with its network by each installed backend that reads it.

    Args:
        network: the exported network.
        path: the exported file.
        images: see `Estimator`; None or empty generates images.
        boxes: see `Estimator`.
        tolerance: instead of `PIXELS` or `HEATMAPS`.

    Raises:
        DataError: the images show no person.
    """
    if images:
        return list(_compare(network, path, images, boxes, tolerance))
    with tempfile.TemporaryDirectory() as folder:
        return list(_compare(network, path, *generated(folder), tolerance))


def generated(folder: str | Path) -> tuple[list[str], CocoDetections]:
    """Generate images of people in a folder; return their paths and boxes."""
    root = synthetic.generate(Path(folder) / 'people', num_train=1, num_val=GENERATED, seed=7)
    boxes = CocoDetections(root / 'annotations' / 'person_keypoints_val2017.json')
    return [str(root / 'val2017' / name) for name in sorted(boxes)], boxes


def _compare(
    network: TorchNetwork, path: str | Path, images: list[str], boxes, tolerance: float | None
) -> Iterator[Comparison]:
    for backend in SUFFIXES[Path(path).suffix]:
        if importlib.util.find_spec(backend) is None:
            continue
        exported = open_network(path, backend, device='cpu')  # GPUs multiply in TF32
        compare = _compare_keypoints if exported.description.decode else _compare_heatmaps
        yield compare(network, exported, images, boxes, tolerance)


def _compare_keypoints(
    network: TorchNetwork, exported: ExportedNetwork, images: list[str], boxes, tolerance
) -> Comparison:
    expected, actual = (predict(model, images, boxes) for model in (network, exported))
    sure = expected.scores > KEYPOINT_THRESHOLD
    what = f'{sure.sum()} sure keypoints of {len(expected)} persons'
    if len(actual) != len(expected):  # poses that are not finite are left out
        what = f'{len(actual)} poses of {len(expected)} persons'
        return _comparison(exported, what, np.array([np.nan]), PIXELS, tolerance)
    if not sure.any():
        sure, what = np.ones_like(sure), f'{sure.size} keypoints, none of them sure,'
    distances = np.abs(actual.keypoints - expected.keypoints).max(axis=-1)
    return _comparison(exported, f'{what} (pixels)', distances[sure], PIXELS, tolerance)


def _compare_heatmaps(
    network: TorchNetwork, exported: ExportedNetwork, images: list[str], boxes, tolerance
) -> Comparison:
    graph = PoseGraph(network, exported.description.normalise, decode=False)
    collector = CropCollector(network)
    Estimator(collector, batch_size=8, on_error='skip')(images, boxes)
    if not collector.batches:
        raise no_persons(images)
    difference, norm = 0.0, 0.0
    for batch in collector.batches:
        batch = exported.preprocess(batch)
        with torch.inference_mode():
            expected = graph(torch.from_numpy(batch)).numpy()
        (actual,) = exported.outputs(batch)
        difference += float(np.square(actual - expected).sum())
        norm += float(np.square(expected).sum())
    relative = np.array([np.sqrt(difference / norm)])
    return _comparison(exported, 'heatmaps (relative)', relative, HEATMAPS, tolerance)


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
