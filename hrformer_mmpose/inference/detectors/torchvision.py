"""Detectors of torchvision."""

import os

import numpy as np

from ...errors import ConfigError, WeightsError, first_line
from .common import BOX_THRESHOLD, PERSON, as_rows, image_size


class TorchvisionDetector:
    """Detector of torchvision with weights from a file.

    Args:
        weights: file of the weights, such as torchvision's own download.
        model: name in `torchvision.models.detection`, with COCO's 91 classes.
        threshold: boxes with a lower score are dropped (torchvision drops most below 0.05).
        device: PyTorch's device name.

    Raises:
        ImportError: torchvision is not installed.
        ConfigError: unknown model or device.
        WeightsError: the file is missing or broken, or does not fit the model.
        DataError: (a call) the image is not (H, W, 3) uint8.
    """

    def __init__(
        self,
        weights: str | os.PathLike,
        model: str = 'fasterrcnn_resnet50_fpn',
        threshold: float = BOX_THRESHOLD,
        device: str = 'cpu',
    ):
        try:
            from torchvision.models import detection
        except ImportError as error:
            raise ImportError(
                'a torchvision detector needs torchvision: pip install torchvision'
            ) from error
        from ...checkpoint.files import check_types, load_weights

        self.threshold, self.device = threshold, device
        weights = os.fspath(weights)
        build = None if model.startswith('_') else getattr(detection, model, None)
        if not callable(build) or isinstance(build, type):
            raise ConfigError(
                f'torchvision has no detector {model!r}: give a function of '
                'torchvision.models.detection, such as fasterrcnn_resnet50_fpn'
            )
        if '://' in weights:  # `load_weights` would download it
            raise WeightsError(f"'{weights}': download the weights yourself and give the file")
        state = load_weights(weights)
        network = build(weights=None, weights_backbone=None)
        check_types(state, network.state_dict(), weights)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:  # the first line names no weight
            what = ' '.join(str(error).splitlines()[1:2]).strip()
            raise WeightsError(f"'{weights}' does not fit {model} ({what[:160]})") from error
        try:
            self._network = network.eval().to(device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: no CUDA
            raise ConfigError(f'device {device!r}: {first_line(error)}') from error

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Detect persons in an image (H, W, 3) BGR uint8; return boxes (n, 5)."""
        import torch

        size = image_size(image)
        rgb = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        with torch.inference_mode():
            pixels = torch.from_numpy(rgb).to(self.device).float() / 255
            output = self._network([pixels])[0]
        boxes, labels, scores = (output[key].cpu().numpy() for key in ('boxes', 'labels', 'scores'))
        person = labels == PERSON
        return as_rows(boxes[person], scores[person], size, self.threshold)
