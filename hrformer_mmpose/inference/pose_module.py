"""A network as one function from crops to keypoints that runs on its device alone.

Crops, uint8 -> normalization -> backbone, neck and head (with the flip test) -> decoding. No step
waits for the CPU, so that a CUDA graph can hold them all.

Shapes: N crops, (w, h) of the input, K keypoints. The output of the head is "encoded" keypoints:
heatmaps (N, C, H, W), or coordinates and scores (N, K, 3) of PRTR.
"""

import functools
from collections.abc import Mapping, Sequence

import torch
from mmpose.models.data_preprocessors import PoseDataPreprocessor as MMPosePreprocessor
from mmpose.models.pose_estimators import TopdownPoseEstimator
from torch import nn

from ..codecs import CoordinateLabel
from ..codecs.base import HeatmapCodec
from ..estimators.data_preprocessor import PoseDataPreprocessor, normalize, pads_nothing
from ..heads.flip_test import flip_back, flip_back_coordinates
from ..heads.heatmap_head import HeatmapHead
from ..heads.prtr_head import PRTRHead


class PoseModule(nn.Module):
    """Map from crops to keypoints and scores.

    Args:
        model: estimator that `can_decode` accepts; its parts are shared.
        flip_indices: keypoint of the mirror image for each keypoint, (K).
        test_cfg: `flip_test`, `flip_mode`, `shift_heatmap`; the codec states the last two if they
            are not given.
        dtype: of autocast for backbone and neck; None for none. Head and decoding are float32: half
            precision is too coarse for positions.
        flip_together: run crops and mirror images as one batch.
    """

    def __init__(
        self,
        model: TopdownPoseEstimator,
        flip_indices: Sequence[int],
        test_cfg: Mapping,
        dtype: torch.dtype | None = None,
        flip_together: bool = False,
    ):
        super().__init__()
        self.preprocessor = model.data_preprocessor
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else None
        self.head = model.head
        self.codec = model.head.decoder
        self.flip_test = bool(test_cfg.get('flip_test', False))
        self._flip_back = flip_back_coordinates
        if isinstance(self.codec, HeatmapCodec):
            names = 'flip_mode', 'shift_heatmap'
            options = {name: test_cfg.get(name, getattr(self.codec, name)) for name in names}
            self._flip_back = functools.partial(flip_back, **options)
        self.register_buffer('flip_indices', torch.tensor(flip_indices), persistent=False)
        self.dtype, self.flip_together = dtype, flip_together

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map crops (N, h, w, 3) BGR uint8 to keypoints (N, K, 2) of the input, scores (N, K)."""
        return self.codec.batch_decode(self.encoded(self.preprocess(crops)))

    def preprocess(self, crops: torch.Tensor) -> torch.Tensor:
        """(N, h, w, 3) BGR uint8 -> (N, 3, h, w) float32; on GPUs in channels last."""
        images = crops.permute(0, 3, 1, 2)
        return normalize(images if images.is_cuda else images.contiguous(), self.preprocessor)

    def encoded(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) -> encoded keypoints, float32, averaged over the mirror image."""
        if not self.flip_test:
            return self._encoded(images)
        if self.flip_together:
            own, mirrored = self._encoded(torch.cat([images, images.flip(3)])).chunk(2)
        else:
            own, mirrored = self._encoded(images), self._encoded(images.flip(3))
        return (own + self._flip_back(mirrored, self.flip_indices)) * 0.5

    def _encoded(self, images: torch.Tensor) -> torch.Tensor:
        is_half = self.dtype is not None
        # A CUDA graph must not refer to weights in autocast's cache, which is soon emptied.
        with torch.autocast(images.device.type, self.dtype, enabled=is_half, cache_enabled=False):
            feats = self.backbone(images)
            feats = feats if self.neck is None else self.neck(feats)
        return self.head(tuple(x.float() for x in feats) if is_half else feats).contiguous()


def can_decode(model: TopdownPoseEstimator, input_size: tuple[int, int]) -> bool:
    """Return whether `PoseModule` gives a model's predictions, for inputs of (w, h)."""
    preprocessor = model.data_preprocessor
    return (
        type(model) is TopdownPoseEstimator
        and type(preprocessor) in (PoseDataPreprocessor, MMPosePreprocessor)
        and pads_nothing(preprocessor, input_size[::-1])
        and isinstance(model.head.decoder, _codecs_of(type(model.head)))
    )


def _codecs_of(head: type[nn.Module]) -> type | tuple[()]:
    """Return the class of the codecs with which `PoseModule` decodes the output of a head."""
    if head is PRTRHead:
        return CoordinateLabel
    return HeatmapCodec if _predicts_like_heatmap_head(head) else ()


def _predicts_like_heatmap_head(head: type[nn.Module]) -> bool:
    """Return whether a class of heads has the methods that `PoseModule` replaces."""
    methods = ('predict', 'decode')
    return issubclass(head, HeatmapHead) and all(
        getattr(head, name) is getattr(HeatmapHead, name) for name in methods
    )
