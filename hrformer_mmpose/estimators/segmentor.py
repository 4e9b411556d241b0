"""Semantic segmentation with MMEngine's runner: image -> backbone -> head -> class a pixel."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..heads.segmentation import resize
from ..registry import MODELS
from .base import BackboneAndHead
from .segmentation_test import predict_logits, read_settings


@MODELS.register_module()
class Segmentor(BackboneAndHead):
    """Backbone and a segmentation head.

    Args:
        args, kwargs: arguments of `BackboneAndHead`.
        test_cfg: scales, mirror image and crops of the test, see `TestSettings`.
    """

    def __init__(self, *args, test_cfg: dict | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.test_settings = read_settings(test_cfg)

    def loss(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> dict:
        """Compute the loss of samples with `gt_mask`, (H, W)."""
        target = torch.stack([s.gt_mask for s in data_samples]).to(inputs.device)
        return self.head.loss(self.backbone(inputs), target)

    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Set `pred_mask`, (H, W), of the samples.

        Images of several sizes, which the data preprocessor padded to a batch, are predicted one
        by one without the padding, so that a batch gives the same masks as its images alone.

        Args:
            inputs: (B, 3, h, w), normalised.
            data_samples: B samples. Of their meta information, `img_shape` is the size of the image
                in `inputs`, and `mask_shape` the size (H, W) of the mask to predict; both are
                (h, w) by default.
        """
        for images, samples in _without_padding(inputs, data_samples):
            logits = predict_logits(self._logits, images, self.test_settings)
            for sample, maps in zip(samples, logits, strict=True):
                size = tuple(sample.metainfo.get('mask_shape', maps.shape[1:]))
                if size != maps.shape[1:]:
                    maps = F.interpolate(maps[None], size, mode='bicubic')[0]  # as OpenCV's
                sample.pred_mask = maps.argmax(0)
        return list(data_samples)

    def _logits(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, K, H, W)."""
        logits = self.head(self.backbone(images))
        return resize(logits, images.shape[2:], self.head.align_corners)


def _without_padding(
    inputs: Tensor, samples: Sequence[BaseDataElement]
) -> Iterator[tuple[Tensor, Sequence[BaseDataElement]]]:
    """Yield images without their padding, and their samples."""
    size = tuple(inputs.shape[2:])
    sizes = [tuple(sample.metainfo.get('img_shape', size))[:2] for sample in samples]
    if all(n == size for n in sizes):
        yield inputs, samples
        return
    for image, sample, (height, width) in zip(inputs, samples, sizes, strict=True):
        yield image[None, :, :height, :width], [sample]
