"""The network as one graph from crops to keypoints.

Shapes: N crops, (w, h) of the input, K keypoints, C channels and (H, W) of the heatmaps; "encoded"
keypoints are those of `inference/pose_module.py`.
"""

import copy

import torch
from mmpose.models.heads import HeatmapHead

from ..backbones import HRFormer
from ..backbones.inference import fuse_network
from ..codecs import CoordinateLabel
from ..codecs.base import HeatmapCodec
from ..errors import ConfigError
from ..execution.exportable import ExportBlock
from ..heads.prtr_head import PRTRHead
from ..inference.pose_module import PoseModule
from ..inference.torch_network import TorchNetwork

DTYPES = {'float32': torch.float32, 'float16': torch.float16}


class PoseGraph(PoseModule):
    """Module to export: normalization, network, flip test and decoding.

    Args:
        network: created with `fuse=False`.
        normalise: the input is crops (N, h, w, 3) BGR uint8, normalized by the graph; otherwise it
            is normalized, (N, 3, h, w) float32.
        decode: the output is keypoints (N, K, 2) in pixels of the input and scores (N, K);
            otherwise heatmaps (N, C, H, W).
        dtype: data type of the network; input, normalization, encoded keypoints and decoding stay
            float32.

    Raises:
        ConfigError: a head or a codec that cannot be exported.
    """

    def __init__(
        self,
        network: TorchNetwork,
        normalise: bool = True,
        decode: bool = True,
        dtype: torch.dtype = torch.float32,
    ):
        model = network.model
        _check(network, decode)
        super().__init__(model, network.skeleton.flip_indices, network.test_cfg, flip_together=True)
        self.normalise, self.decode, self.dtype = normalise, decode, dtype
        if isinstance(self.backbone, HRFormer):
            self.backbone = fuse_network(self.backbone, ExportBlock)
        for name in ('preprocessor', 'backbone', 'neck', 'head'):
            setattr(self, name, copy.deepcopy(getattr(self, name)))
        for part in (self.backbone, self.neck, self.head):
            if part is not None:
                part.to(dtype)
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map `images` to keypoints and scores, or to heatmaps; see the class for the shapes."""
        encoded = self.encoded(self.preprocess(images) if self.normalise else images)
        return self.codec.batch_decode(encoded) if self.decode else encoded

    def _encoded(self, images: torch.Tensor) -> torch.Tensor:
        feats = self.backbone(images.to(self.dtype))
        return self.head(feats if self.neck is None else self.neck(feats)).float()


def _check(network: TorchNetwork, decode: bool) -> None:
    """Refuse a head or a codec that cannot be exported."""
    head, codec, start = network.model.head, network.model.head.decoder, f"config '{network.name}'"
    if isinstance(head, PRTRHead) and isinstance(codec, CoordinateLabel):
        if not decode:
            raise ConfigError(f'{start}: PRTRHead has no heatmaps; export it with decoding')
        return
    if not isinstance(head, HeatmapHead):
        raise ConfigError(
            f'{start}: export knows heads of heatmaps and PRTRHead, not {type(head).__name__}'
        )
    if not isinstance(codec, HeatmapCodec):
        raise ConfigError(
            f'{start}: export knows the codecs hrformer_mmpose.MSRAHeatmap and UDPHeatmap, not '
            f'{type(codec).__module__}.{type(codec).__name__}'
        )
