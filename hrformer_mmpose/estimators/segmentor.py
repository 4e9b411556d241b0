"""Semantic segmentation with MMEngine's runner: image -> backbone -> head -> class a pixel."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from ..registry import MODELS


@MODELS.register_module()
class Segmentor(BaseModel):
    """Backbone and segmentation head.

    Args:
        backbone: config of a network that returns a tuple of maps.
        head: config of `SegmentationHead`.
        data_preprocessor: config, e.g. of MMEngine's `ImgDataPreprocessor`.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.head = MODELS.build(head)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> torch.Tensor | dict | list[BaseDataElement]:
        """Run the network.

        Args:
            inputs: (B, 3, H, W), normalised.
            data_samples: samples with `gt_mask`, (H, W).
            mode: 'tensor', 'loss' or 'predict'.

        Returns:
            Logits (B, K, H / 4, W / 4); a dict of losses; or the samples with `pred_mask`, (H, W).
        """
        maps = self.backbone(inputs)
        if mode == 'tensor':
            return self.head(maps)
        if mode == 'loss':
            target = torch.stack([s.gt_mask for s in data_samples]).to(inputs.device)
            return self.head.loss(maps, target)
        masks = self.head.predict(maps, inputs.shape[2:])
        for sample, mask in zip(data_samples, masks, strict=True):
            sample.pred_mask = mask
        return list(data_samples)
