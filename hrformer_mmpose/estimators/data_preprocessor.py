"""Normalization of a batch at once, on the model's device.

Shapes: B batch, h and w of the input.
"""

from collections.abc import Sequence

import torch
from mmengine.model import ImgDataPreprocessor
from mmpose.models.data_preprocessors import PoseDataPreprocessor as _PoseDataPreprocessor
from torch import Tensor

from ..registry import MODELS


def normalize(images: Tensor, settings: ImgDataPreprocessor) -> Tensor:
    """Normalize images, (B, 3, h, w) uint8 -> (B, 3, h, w) float32, with equal results."""
    images = images.flip(1) if settings._channel_conversion else images
    images = images.float()
    return (images - settings.mean) / settings.std if settings._enable_normalize else images


def pads_nothing(settings: ImgDataPreprocessor, size: Sequence[int]) -> bool:
    """Return whether images of `size` = (h, w) get no padding."""
    return all(n % settings.pad_size_divisor == 0 for n in size)


@MODELS.register_module()
class PoseDataPreprocessor(_PoseDataPreprocessor):
    """`mmpose.PoseDataPreprocessor` with the same arguments and results, for all images at once.

    MMPose's class copies the images to a GPU one after the other, and normalizes each. Here the
    batch is stacked first, in pinned memory, and copied without waiting for the GPU.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move a batch to the device and normalize it.

        Args:
            data: `inputs`, images (3, h, w) or a tensor (B, 3, h, w); `data_samples`.
            training: apply `batch_augments`.

        Returns:
            `inputs`, (B, 3, h, w), and `data_samples`.
        """
        inputs = data['inputs']
        channels, *size = inputs[0].shape
        if (
            isinstance(inputs, Tensor)
            or self.batch_augments is not None
            or channels != 3
            or any(image.shape != inputs[0].shape for image in inputs)
            or not pads_nothing(self, size)
        ):
            return super().forward(data, training)
        images = torch.stack([*inputs])
        if self.device.type == 'cuda' and not images.is_cuda:
            images, self._non_blocking = images.pin_memory(), True
        data = self.cast_data({**data, 'inputs': images})
        for sample in data['data_samples']:
            sample.set_metainfo(dict(batch_input_shape=tuple(size), pad_shape=tuple(size)))
        return dict(inputs=normalize(data['inputs'], self), data_samples=data['data_samples'])
