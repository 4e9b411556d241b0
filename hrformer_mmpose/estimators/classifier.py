"""Image classification with MMEngine's runner, for pre-training of HRFormer.

Image -> data preprocessor (normalised batch) -> mixup or CutMix (training) -> backbone -> head ->
loss, or scores in the samples.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement

from ..errors import ConfigError
from ..registry import MODELS
from .base import BackboneAndHead


@MODELS.register_module()
class ImageClassifier(BackboneAndHead):
    """Backbone and `ClassificationHead`; further arguments of `BackboneAndHead`.

    Args:
        mixup: alpha of mixup (Zhang et al., ICLR 2018); 0 disables it.
        cutmix: alpha of CutMix (Yun et al., ICCV 2019); 0 disables it. With both, one of them is
            drawn for each batch.

    Raises:
        ConfigError: an alpha is negative.
    """

    def __init__(self, *args, mixup: float = 0.0, cutmix: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        if min(mixup, cutmix) < 0:
            raise ConfigError(f'model: mixup={mixup} or cutmix={cutmix} is negative')
        self.alphas = dict(mixup=mixup, cutmix=cutmix)

    def loss(self, inputs: torch.Tensor, data_samples: Sequence[BaseDataElement]) -> dict:
        """Compute the loss of samples with `gt_label`, a class."""
        target = torch.tensor([s.gt_label for s in data_samples], device=inputs.device)
        inputs, target = self._mix(inputs, target)
        return self.head.loss(self.backbone(inputs), target)

    def predict(
        self, inputs: torch.Tensor, data_samples: Sequence[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Set the probabilities `pred_scores`, (K,), of the samples."""
        scores = self.head(self.backbone(inputs)).float().softmax(1)
        for sample, row in zip(data_samples, scores, strict=True):
            sample.pred_scores = row
        return list(data_samples)

    def _mix(self, inputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Apply mixup or CutMix with another image of the batch to each image."""
        kinds = [kind for kind, alpha in self.alphas.items() if alpha > 0]
        if not kinds:
            return inputs, target
        kind = kinds[np.random.randint(len(kinds))]
        weight = np.random.beta(self.alphas[kind], self.alphas[kind])
        other = torch.from_numpy(np.random.permutation(len(inputs))).to(inputs.device)
        if kind == 'mixup':
            inputs = weight * inputs + (1 - weight) * inputs[other]
        else:
            top, bottom, left, right = _box(*inputs.shape[2:], 1 - weight)
            inputs = inputs.clone()
            pasted = inputs[other, :, top:bottom, left:right]
            inputs[:, :, top:bottom, left:right] = pasted
            area = (bottom - top) * (right - left)
            weight = 1 - area / (inputs.shape[2] * inputs.shape[3])
        target = F.one_hot(target, self.head.num_classes).float()
        return inputs, weight * target + (1 - weight) * target[other]


def _box(height: int, width: int, area: float) -> tuple[int, int, int, int]:
    """Draw a box with the image's aspect ratio and a share `area` of it, cropped to the image."""
    h, w = height * area**0.5 / 2, width * area**0.5 / 2
    y, x = np.random.uniform(0, height), np.random.uniform(0, width)
    rows = np.clip([y - h, y + h], 0, height).astype(int)
    columns = np.clip([x - w, x + w], 0, width).astype(int)
    return *map(int, rows), *map(int, columns)
