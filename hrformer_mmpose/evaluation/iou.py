"""Intersection over union of segmented classes."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class IoU(BaseMetric):
    """Pixels of a class that truth and prediction share, of those that either has, over all images.

    Metrics in percent: `mIoU`, the mean over the classes that occur, and one for each class.

    Args:
        ignore_index: label of pixels that do not count. kwargs: see MMEngine's `BaseMetric`.
    """

    default_prefix = 'seg'

    def __init__(self, ignore_index: int = 255, **kwargs):
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count pixels by true and predicted class."""
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            true, found = (sample[key].cpu().flatten() for key in ('gt_mask', 'pred_mask'))
            kept = true != self.ignore_index
            pairs = true[kept] * classes + found[kept]
            self.results.append(torch.bincount(pairs, minlength=classes**2).numpy())

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Percentages by name."""
        names = self.dataset_meta['classes']
        counts = np.sum(results, axis=0).reshape(len(names), len(names))
        shared = counts.diagonal()
        either = counts.sum(0) + counts.sum(1) - shared
        share = {
            name: 100.0 * float(a / b)
            for name, a, b in zip(names, shared, either, strict=True)
            if b
        }
        return {'mIoU': float(np.mean([*share.values()])), **share}
