"""Top-k accuracy of a classifier."""

from collections.abc import Sequence

from mmengine.evaluator import BaseMetric

from ..registry import METRICS


@METRICS.register_module()
class Accuracy(BaseMetric):
    """Percentage of images whose class is among the k highest scores.

    Args:
        topk: values of k.
        kwargs: arguments of MMEngine's `BaseMetric`.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), **kwargs):
        super().__init__(**kwargs)
        self.topk = tuple(topk)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Store the rank of the true class of each sample."""
        for sample in data_samples:
            scores = sample['pred_scores']
            # Ties and NaN count against the network, so that a constant output is wrong.
            rank = len(scores) - int((scores < scores[sample['gt_label']]).sum())
            self.results.append(rank)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        """Return percentages by name: top1, top5."""
        return {
            f'top{k}': 100.0 * sum(rank <= k for rank in results) / len(results) for k in self.topk
        }
