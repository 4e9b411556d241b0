"""MMPose's heatmap head, with accuracy and decoding on the device.

MMPose's class copies predicted and true heatmaps to the CPU at every training iteration to compute
the logged accuracy with numpy, and all heatmaps at every test iteration to decode them one by one.
This one computes the same numbers where the heatmaps are; what is copied are keypoints.

Shapes: B batch, K keypoints, H and W of the heatmap.
"""

import torch
from mmengine.structures import InstanceData
from mmpose.models.heads import HeatmapHead as _HeatmapHead
from torch import Tensor

from ..codecs import refinement as peaks
from ..codecs.base import HeatmapCodec
from ..registry import MODELS


def heatmap_peaks(heatmaps: Tensor) -> Tensor:
    """Pixel (x, y) of each map's first maximum, (B, K, H, W) -> (B, K, 2); -1 where it is <= 0."""
    x, y, score = peaks.find(heatmaps.float())
    found = (score > 0)[..., None]
    return torch.where(found, torch.stack([x, y], dim=2).float(), -1.0)


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
    """`mmpose.HeatmapHead`; arguments, parameters, losses and predictions are the same.

    With a codec of this package as `decoder` the flip test aligns the mirrored heatmaps as the
    codec wants (`test_cfg` may say otherwise by `shift_heatmap` and `flip_mode`), and a batch is
    decoded at once. Other codecs work as in MMPose.
    """

    def predict(
        self,
        feats: tuple[Tensor, ...] | list[tuple[Tensor, ...]],
        batch_data_samples: list,
        test_cfg: dict = {},
    ) -> list[InstanceData] | tuple[list[InstanceData], list]:
        """Keypoints of a batch.

        Args:
            feats: the backbone's maps; for the flip test, those of the image and of its mirror
                image.
            batch_data_samples: B samples; their `flip_indices` are used.
            test_cfg: `flip_test`, `flip_mode`, `shift_heatmap`, `output_heatmaps`.

        Returns:
            For each sample `keypoints` (1, K, 2), in pixels of the input, and `keypoint_scores`
            (1, K); with `output_heatmaps` also the heatmaps.
        """
        if isinstance(self.decoder, HeatmapCodec):
            codec = self.decoder
            aligned = dict(flip_mode=codec.flip_mode, shift_heatmap=codec.shift_heatmap)
            test_cfg = {**aligned, **test_cfg}
        return super().predict(feats, batch_data_samples, test_cfg)

    def decode(self, batch_outputs: Tensor) -> list[InstanceData]:
        """Heatmaps (B, C, H, W) to B instances, see `predict`."""
        if not isinstance(self.decoder, HeatmapCodec):
            return super().decode(batch_outputs)
        keypoints, scores = self.decoder.batch_decode(batch_outputs)
        batch = torch.cat([keypoints, scores[..., None]], dim=2).cpu().numpy()  # one transfer
        return [
            InstanceData(keypoints=one[None, :, :2], keypoint_scores=one[None, :, 2])
            for one in batch
        ]

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
