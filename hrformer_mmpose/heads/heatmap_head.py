"""MMPose's heatmap head, with accuracy and decoding on the device.

At each training iteration MMPose's class copies predicted and target heatmaps to the CPU, to
compute the logged accuracy with NumPy; at each test iteration it copies all heatmaps and decodes
them one by one. This class computes the same numbers on the device and copies keypoints only.

Shapes: B batch, K keypoints, H and W of the heatmap.
"""

import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import HeatmapHead as _HeatmapHead
from torch import Tensor

from ..codecs import refinement
from ..codecs.base import HeatmapCodec
from ..errors import ConfigError
from ..registry import MODELS
from .flip_test import flip_back, index_on


def maximum_pixels(heatmaps: Tensor) -> Tensor:
    """Pixel (x, y) of each map's first maximum, (B, K, H, W) -> (B, K, 2); -1 where it is <= 0."""
    x, y, score = refinement.heatmap_maximum(heatmaps.float())
    return torch.where((score > 0)[..., None], torch.stack([x, y], dim=2).float(), -1.0)


def pck_accuracy(
    output: Tensor, target: Tensor, visible: Tensor, threshold: float = 0.05
) -> Tensor:
    """Percentage of correct keypoints, as in `mmpose.evaluation.functional.pose_pck_accuracy`.

    Args:
        output: predicted heatmaps, (B, K, H, W).
        target: target heatmaps, (B, K, H, W).
        visible: (B, K), False for keypoints to ignore.
        threshold: largest distance, as a fraction of the heatmap's height in x and of its width
            in y (MMPose's order).

    Returns:
        Scalar in [0, 1], averaged over the keypoint types with a visible keypoint.
    """
    size = output.new_tensor(output.shape[2:])  # H, W
    distance = ((maximum_pixels(output) - maximum_pixels(target)) / size).norm(dim=2)
    return fraction_correct(distance < threshold, visible)


def fraction_correct(is_correct: Tensor, visible: Tensor) -> Tensor:
    """Average over the keypoint types with a visible keypoint.

    Args:
        is_correct: (B, K).
        visible: (B, K), False for keypoints to ignore.

    Returns:
        Scalar in [0, 1].
    """
    correct = (is_correct & visible).sum(dim=0)
    total = visible.sum(dim=0)
    return (correct / total.clamp(min=1)).sum() / (total > 0).sum().clamp(min=1)


def to_instances(keypoints: Tensor, scores: Tensor) -> list[InstanceData]:
    """Convert keypoints (B, K, 2) and scores (B, K) to B instances of one person each."""
    batch = torch.cat([keypoints, scores[..., None]], dim=2).detach().cpu().numpy()  # one transfer
    return [
        InstanceData(keypoints=person[None, :, :2], keypoint_scores=person[None, :, 2])
        for person in batch
    ]


@MODELS.register_module()
class HeatmapHead(_HeatmapHead):
    """`mmpose.HeatmapHead` with the same arguments, parameters, losses and predictions.

    With a codec of this package as `decoder`, a batch is decoded at once, and the codec determines
    how the flip test aligns mirrored heatmaps, unless `test_cfg` sets `shift_heatmap` or
    `flip_mode`. Other codecs work as in MMPose.
    """

    def predict(
        self,
        feats: tuple[Tensor, ...] | list[tuple[Tensor, ...]],
        batch_data_samples: list,
        test_cfg: dict = {},
    ) -> list[InstanceData] | tuple[list[InstanceData], list]:
        """Predict the keypoints of a batch.

        Args:
            feats: the backbone's maps; for the flip test, those of the image and of its mirror
                image.
            batch_data_samples: B samples with `flip_indices`.
            test_cfg: `flip_test`, `flip_mode`, `shift_heatmap`, `output_heatmaps`.

        Returns:
            One instance a sample with `keypoints`, (1, K, 2), in input pixels, and
            `keypoint_scores`, (1, K); with `output_heatmaps` also the heatmaps.
        """
        if isinstance(self.decoder, HeatmapCodec):
            codec = self.decoder
            aligned = dict(flip_mode=codec.flip_mode, shift_heatmap=codec.shift_heatmap)
            test_cfg = {**aligned, **test_cfg}
        if not test_cfg.get('flip_test', False):
            return super().predict(feats, batch_data_samples, test_cfg)
        own, mirrored = (self.forward(maps) for maps in feats)
        indices = index_on(batch_data_samples[0].metainfo['flip_indices'], mirrored.device)
        mode, shift = test_cfg.get('flip_mode', 'heatmap'), test_cfg.get('shift_heatmap', False)
        heatmaps = (own + flip_back(mirrored, indices, mode, shift)) * 0.5
        instances = self.decode(heatmaps)
        if not test_cfg.get('output_heatmaps', False):
            return instances
        return instances, [PixelData(heatmaps=maps) for maps in heatmaps.detach()]

    def decode(self, batch_outputs: Tensor) -> list[InstanceData]:
        """Decode heatmaps (B, C, H, W) to B instances; see `predict`."""
        if not isinstance(self.decoder, HeatmapCodec):
            return super().decode(batch_outputs)
        return to_instances(*self.decoder.batch_decode(batch_outputs))

    def loss(
        self, feats: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict = {}
    ) -> dict:
        """Compute the losses of a batch.

        Args:
            feats: the backbone's maps; the last one, (B, C, H, W), is the input.
            batch_data_samples: B samples with target heatmaps and keypoint weights.
            train_cfg: `compute_acc=False` skips `acc_pose`.

        Returns:
            `loss_kpt`, and `acc_pose` on the model's device.

        Raises:
            ConfigError: backbone, head and codec do not fit together.
        """
        channels = feats[-1].shape[1]
        if self.in_channels != channels:
            raise ConfigError(
                f'model.head.in_channels={self.in_channels}, but the backbone gives a map of '
                f'{channels} channels'
            )
        heatmaps = self.forward(feats)
        target = torch.stack([sample.gt_fields.heatmaps for sample in batch_data_samples])
        if heatmaps.shape != target.shape:
            raise ConfigError(
                f'model.head gives heatmaps of {_size(heatmaps)}, but the codec of the pipeline '
                f'targets of {_size(target)} (keypoints x height x width)'
            )
        labels = [sample.gt_instance_labels for sample in batch_data_samples]
        weights = torch.cat([label.keypoint_weights for label in labels])
        losses = dict(loss_kpt=self.loss_module(heatmaps, target, weights))
        if train_cfg.get('compute_acc', True):
            losses['acc_pose'] = pck_accuracy(heatmaps.detach(), target, weights > 0)
        return losses


def _size(heatmaps: Tensor) -> str:
    return ' x '.join(map(str, heatmaps.shape[1:]))
