"""The network as one graph from crops to keypoints.

Shapes: N crops, (w, h) of the input, K keypoints, C channels and (H, W) of the heatmaps.
"""

import copy

import torch
from mmpose.models.heads import HeatmapHead

from ..backbones import HRFormer
from ..backbones.inference import fuse_network
from ..codecs.base import HeatmapCodec
from ..errors import ConfigError
from ..execution.exportable import ExportBlock
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
        dtype: data type of the network; input, normalization, heatmaps and decoding stay float32.

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
        if not isinstance(model.head, HeatmapHead):
            raise ConfigError(
                f"config '{network.name}': export knows heads of heatmaps, not "
                f'{type(model.head).__name__}'
            )
        codec = model.head.decoder
        if not isinstance(codec, HeatmapCodec):
            raise ConfigError(
                f"config '{network.name}': export knows the codecs hrformer_mmpose.MSRAHeatmap and "
                f'UDPHeatmap, not {type(codec).__module__}.{type(codec).__name__}'
            )
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
        heatmaps = self.heatmaps(self.preprocess(images) if self.normalise else images)
        return self.codec.batch_decode(heatmaps) if self.decode else heatmaps

    def _heatmaps(self, images: torch.Tensor) -> torch.Tensor:
        feats = self.backbone(images.to(self.dtype))
        return self.head(feats if self.neck is None else self.neck(feats)).float()
