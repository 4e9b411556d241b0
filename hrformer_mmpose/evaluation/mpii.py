"""PCKh of MPII."""

from collections.abc import Sequence

from mmpose.evaluation.metrics import MpiiPCKAccuracy as _MpiiPCKAccuracy

from ..registry import METRICS


@METRICS.register_module()
class MpiiPCKAccuracy(_MpiiPCKAccuracy):
    """`mmpose.MpiiPCKAccuracy` for `MpiiDataset` of this package, whose pixels count from 0.

    MMPose's metric adds 1 to the predictions, since MPII counts from 1. Here both count from 0, so
    that the annotated keypoints are perfect predictions, as in MPII's own evaluation.
    """

    def process(self, data_batch: Sequence[dict], data_samples: Sequence[dict]) -> None:
        """Store predictions and annotated keypoints of a batch."""
        first = len(self.results)
        super().process(data_batch, data_samples)
        for result in self.results[first:]:
            result['gt_coords'] = result['gt_coords'] + 1  # undoes what compute_metrics adds
