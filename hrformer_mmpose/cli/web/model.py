"""Network and detector of the page, shared by all tabs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...inference import detectors
from ...inference.estimator import Estimator
from ...inference.pairing import WHOLE_IMAGE
from ..predict import open_estimator
from ..predict.arguments import Options
from .arguments import DRAW


class Turns:
    """Use by one thread at a time of a network or a detector.

    Backends keep buffers of a call in the object, and two batches at once need twice the memory.

    Args:
        target: network or detector.
        lock: held during a call.
    """

    def __init__(self, target: Any, lock: threading.Lock):
        self._target, self._lock = target, lock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Detect persons in an image (H, W, 3) BGR uint8; return boxes (n, 5)."""
        with self._lock:
            return self._target(image)

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map crops to keypoints and scores, see `inference.networks.Network`."""
        with self._lock:
            return self._target.predict(batch)


class Model:
    """Network and detector of the page.

    Args:
        options: of the command.

    Attributes:
        options: of the command.
        estimator: pose estimator, for several threads.
        detector: maps an image to boxes (n, 5); None if --boxes names none.
        is_whole_image: --boxes whole-image: an image shows one person.

    Raises:
        UserError: network or detector cannot be loaded.
    """

    def __init__(self, options: Options):
        self.options = options
        lock = threading.Lock()
        boxes = options.boxes
        if boxes != DRAW:
            boxes = detectors.make_detector(boxes, None, options.box_threshold)
        self.is_whole_image = boxes == WHOLE_IMAGE
        self.detector: Callable | None = None if isinstance(boxes, str) else Turns(boxes, lock)
        self.estimator: Estimator = open_estimator(options)
        self.estimator.network = Turns(self.estimator.network, lock)

    @property
    def name(self) -> str:
        """Name of the network for the page."""
        return Path(self.options.model).name
