"""Model of a backbone and a head, built from their configs."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from ..registry import MODELS


class BackboneAndHead(BaseModel):
    """Backbone and head; subclasses define `loss` and `predict`.

    Args:
        backbone: config of a network that returns a tuple of maps.
        head: config of the head.
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
            data_samples: B samples.
            mode: 'tensor', 'loss' or 'predict'.

        Returns:
            The head's output; a dict of losses; or the samples with predictions.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self.head(self.backbone(inputs))
