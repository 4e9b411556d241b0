"""Person boxes, from a file or from a detector.

A detector is a callable that maps an image (H, W, 3) BGR uint8 to boxes (n, 5) float32: x0, y0, x1,
y1 in pixels of the image (left edge 0, right edge W) and score, by descending score; n may be 0.
`CocoDetections` returns such boxes by an image's file name.

Nothing is downloaded.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ConfigError
from .coco import CocoDetections, UnknownImageError
from .common import nms
from .hog import HogDetector
from .intermittent import FollowedBoxes, IntermittentDetector
from .onnx import OUTPUT_FORMATS, OnnxDetector
from .torchvision import TorchvisionDetector

__all__ = [
    'OUTPUT_FORMATS',
    'CocoDetections',
    'Detector',
    'FollowedBoxes',
    'HogDetector',
    'IntermittentDetector',
    'OnnxDetector',
    'TorchvisionDetector',
    'UnknownImageError',
    'make_detector',
    'nms',
]

Detector = Callable[[np.ndarray], np.ndarray]

DETECTORS = (
    "'hog'",
    "'onnx:FILE'",
    "'torchvision:FILE'",
    "a COCO detection or annotation file (.json), or 'whole-image'",
)


def make_detector(
    text: str, annotations: str | os.PathLike | None = None, threshold: float | None = None
) -> Detector | CocoDetections | str:
    """Create a source of boxes from its name on the command line.

    Args:
        text: 'hog', 'onnx:FILE', 'torchvision:FILE', a .json file (`CocoDetections`), or
            'whole-image'.
        annotations: annotation file for the images of a detection file.
        threshold: boxes with a lower score are dropped; None takes the class's default.

    Returns:
        A detector, a mapping, or 'whole-image' unchanged (without threshold).

    Raises:
        ConfigError: unknown name, or `annotations` without a detection file.
        DataError: see the class.
        WeightsError: see the class.
        ImportError: see the class.
    """
    options: dict[str, Any] = {} if threshold is None else dict(threshold=threshold)
    if text.lower().endswith('.json'):
        return CocoDetections(text, annotations, **options)
    if annotations is not None:
        raise ConfigError(
            f"annotations='{os.fspath(annotations)}' belong to a detection file (.json), not to "
            f'detector {text!r}'
        )
    if text == 'whole-image':
        return text
    if text == 'hog':
        return HogDetector(**options)
    kind, _, file = text.partition(':')
    if kind == 'onnx' and file:
        return OnnxDetector(file, **options)
    if kind == 'torchvision' and file:
        return TorchvisionDetector(file, **options)
    raise ConfigError(f'there is no detector {text!r}: give {", ".join(DETECTORS)}')
