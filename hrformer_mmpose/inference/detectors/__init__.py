"""Where the person boxes come from: a file of them, or a detector run on the image.

A detector is a callable: an image, (H, W, 3) BGR uint8, in; rows (n, 5) float32 out, each x0, y0,
x1, y1 in pixels of the image (its left edge is 0, its right edge W) and a score, highest score
first; n may be 0. `CocoDetections` hands out the same rows by an image's file name instead.

Nothing here downloads anything.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import ConfigError
from .coco import CocoDetections, UnknownImageError
from .common import nms
from .hog import HogDetector
from .onnx import FORMS, OnnxDetector
from .torchvision import TorchvisionDetector

__all__ = [
    'FORMS',
    'CocoDetections',
    'Detector',
    'HogDetector',
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
    """The source of boxes that a command line names.

    Args:
        text: 'hog', 'onnx:FILE', 'torchvision:FILE', a file that ends in .json (`CocoDetections`),
            or 'whole-image'.
        annotations: for a detection file, the annotation file of its images.
        threshold: boxes with a lower score are left out; by default as the class has it.

    Returns:
        A detector, a mapping, or for 'whole-image' that text (it has no threshold).

    Raises:
        ConfigError: another text, or `annotations` without a detection file.
        DataError, WeightsError, ImportError: as the class does.
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
