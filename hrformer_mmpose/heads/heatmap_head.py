"""MMPose's heatmap head with an accuracy that stays on the device.

MMPose's class copies predicted and true heatmaps to the CPU at every training iteration to compute
the logged accuracy with numpy; this one computes the same number where the heatmaps are.

Shapes: B batch, K keypoints, H and W of the heatmap.
"""

import torch
from mmpose.models.heads import HeatmapHead as _HeatmapHead
from torch import Tensor

from ..registry import MODELS


def heatmap_peaks(heatmaps: Tensor) -> Tensor:
    """Pixel (x, y) of each map's first maximum, (B, K, H, W) -> (B, K, 2); -1 where it is <= 0."""
    values, index = heatmaps.flatten(2).max(dim=2)
    width = heatmaps.shape[3]
    peaks = torch.stack([index % width, index // width], dim=2).float()
    return torch.where(values[..., None] > 0, peaks, -1.0)


def pck_accuracy(
    output: Tensor, target: Tensor, visible: Tensor, threshold: float = 0.05
) -> Tensor:
    """Share of keypoints found, as `mmpose.evaluation.functional.pose_pck_accuracy` counts it.

    Args:
        output, target: heatmaps, (B, K, H, W).
        visible: (B, K), True for keypoints that count.
        threshold: largest distance, as a fraction of the heatmap's height in x and of its width
            in y (MMPose's order).

    Returns:
        0-dimensional: mean over the keypoint types that occur of the share found.
    """
    size = output.new_tensor(output.shape[2:])  # H, W
    distance = ((heatmap_peaks(output) - heatmap_peaks(target)) / size).norm(dim=2)
    found = ((distance < threshold) & visible).sum(dim=0)
    total = visible.sum(dim=0)
    return (found / total.clamp(min=1)).sum() / (total > 0).sum().clamp(min=1)


@MODELS.register_module()
class HeatmapHead(_HeatmapHead):
    """`mmpose.HeatmapHead`; arguments, parameters and losses are the same."""

    def loss(
        self, feats: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict = {}
    ) -> dict:
        """Losses of a batch.

        Args:
            feats: the backbone's maps; the last one, (B, C, H, W), is used.
            batch_data_samples: B samples with target heatmaps and keypoint weights.
            train_cfg: `compute_acc=False` leaves `acc_pose` out.

        Returns:
            `loss_kpt`, and `acc_pose` on the model's device.
        """
        heatmaps = self.forward(feats)
        target = torch.stack([sample.gt_fields.heatmaps for sample in batch_data_samples])
        labels = [sample.gt_instance_labels for sample in batch_data_samples]
        weights = torch.cat([label.keypoint_weights for label in labels])
        losses = dict(loss_kpt=self.loss_module(heatmaps, target, weights))
        if train_cfg.get('compute_acc', True):
            losses['acc_pose'] = pck_accuracy(heatmaps.detach(), target, weights > 0)
        return losses
