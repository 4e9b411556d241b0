"""Intersection over union of segmented classes."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class IoU(BaseMetric):
    """Intersection over union of the pixels of each class, over all images.

    Metrics in percent: `mIoU`, the mean over the classes that occur, and one for each class.

    Args:
        ignore_index: label of ignored pixels.
        kwargs: arguments of MMEngine's `BaseMetric`.
    """

    default_prefix = 'seg'

    def __init__(self, ignore_index: int = 255, **kwargs):
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Count pixels by true and predicted class."""
        classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            true, predicted = (sample[key].cpu().flatten() for key in ('gt_mask', 'pred_mask'))
            valid = true != self.ignore_index
            pairs = true[valid] * classes + predicted[valid]
            counts = torch.bincount(pairs, minlength=classes**2).numpy()
            # One matrix in all: that of 171 classes has 234 kB.
            self.results[:] = [counts + self.results[0]] if self.results else [counts]

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Return percentages by name."""
        names = self.dataset_meta['classes']
        counts = np.sum(results, axis=0).reshape(len(names), len(names))
        intersection = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - intersection
        iou = {
            name: 100.0 * float(i / u)
            for name, i, u in zip(names, intersection, union, strict=True)
            if u
        }
        return {'mIoU': float(np.mean([*iou.values()])), **iou}
