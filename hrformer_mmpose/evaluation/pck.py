"""PCKh for any set of keypoints."""

from collections.abc import Sequence

import numpy as np
from mmpose.evaluation.metrics import PCKAccuracy as _PCKAccuracy

from ..errors import ConfigError
from ..registry import METRICS


@METRICS.register_module()
class PCKAccuracy(_PCKAccuracy):
    """`mmpose.PCKAccuracy` relative to the distance of two annotated keypoints of the head.

    MMPose's class takes the size of the head from the data set, and MPII's alone has it. Persons
    without both keypoints do not count.

    Args:
        head: names of the two keypoints.
        thr: distance up to which a keypoint is right, in sizes of the head.
        kwargs: arguments of MMEngine's `BaseMetric`.

    Raises:
        ConfigError: `head` is not two names; at the first batch, if the data set has no such name.
    """

    def __init__(self, head: Sequence[str], thr: float = 0.5, **kwargs):
        super().__init__(thr=thr, norm_item='head', **kwargs)
        if isinstance(head, str) or len(head) != 2 or head[0] == head[1]:
            raise ConfigError(f'PCKAccuracy: head={head!r} is not the names of two keypoints')
        self.head = tuple(head)

    def process(self, data_batch: Sequence[dict], data_samples: Sequence[dict]) -> None:
        """Store the predictions of a batch with the sizes of the heads."""
        ends = self._indices()
        for sample in data_samples:
            truth = sample['gt_instances']
            points = truth['keypoints'][0]
            seen = np.reshape(truth['keypoints_visible'], (len(points), -1))[ends, 0]
            # MMPose's class leaves out persons whose head has no size.
            size = np.linalg.norm(points[ends[0]] - points[ends[1]]) * seen.all()
            sample = dict(sample, gt_instances=dict(truth, head_size=size))
            super().process(data_batch, [sample])

    def _indices(self) -> list[int]:
        numbers = self.dataset_meta['keypoint_name2id']
        for name in self.head:
            if name not in numbers:
                raise ConfigError(
                    f'PCKAccuracy: head={self.head!r}: the data set has no keypoint {name!r}, but '
                    f'{", ".join(numbers)}'
                )
        return [numbers[name] for name in self.head]
