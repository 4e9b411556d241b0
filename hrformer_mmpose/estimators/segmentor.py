"""Semantic segmentation with MMEngine's runner: image -> backbone -> head -> class a pixel."""

from collections.abc import Sequence

import torch
from mmengine.structures import BaseDataElement

from ..heads.segmentation import resize
from ..registry import MODELS
from .base import BackboneAndHead


@MODELS.register_module()
class Segmentor(BackboneAndHead):
    """Backbone and `SegmentationHead`; arguments of `BackboneAndHead`."""

    def loss(self, inputs: torch.Tensor, data_samples: Sequence[BaseDataElement]) -> dict:
        """Compute the loss of samples with `gt_mask`, (H, W)."""
        target = torch.stack([s.gt_mask for s in data_samples]).to(inputs.device)
        return self.head.loss(self.backbone(inputs), target)

    def predict(
        self, inputs: torch.Tensor, data_samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Set `pred_mask`, (H, W), of the samples."""
        logits = self.head(self.backbone(inputs))
        masks = resize(logits, inputs.shape[2:], self.head.align_corners).argmax(1)
        for sample, mask in zip(data_samples, masks, strict=True):
            sample.pred_mask = mask
        return list(data_samples)
