"""The network as one graph from crops to keypoints.

Shapes: N crops, (w, h) of the input, K keypoints, C channels and (H, W) of the heatmaps.
"""

import copy

import torch
from mmpose.models.heads import HeatmapHead
from mmpose.models.utils.tta import flip_heatmaps
from torch import nn

from ..backbones import HRFormer
from ..backbones.inference import fuse_network
from ..codecs.base import HeatmapCodec
from ..errors import ConfigError
from ..execution.exportable import ExportBlock
from ..inference.torch_network import TorchNetwork

DTYPES = {'float32': torch.float32, 'float16': torch.float16}


class PoseGraph(nn.Module):
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
        super().__init__()
        model = network.model
        if not isinstance(model.head, HeatmapHead):
            raise ConfigError(
                f"config '{network.name}': export knows heads of heatmaps, not "
                f'{type(model.head).__name__}'
            )
        self.codec = model.head.decoder
        if not isinstance(self.codec, HeatmapCodec):
            raise ConfigError(
                f"config '{network.name}': export knows the codecs hrformer_mmpose.MSRAHeatmap and "
                f'UDPHeatmap, not {type(self.codec).__module__}.{type(self.codec).__name__}'
            )
        self.normalise, self.decode, self.flip_test = normalise, decode, network.flip_test
        self.flip_indices = list(network.skeleton.flip_indices)
        self.flip_options = {
            name: network.test_cfg.get(name, getattr(self.codec, name))
            for name in ('flip_mode', 'shift_heatmap')
        }
        preprocessor = model.data_preprocessor
        self.rgb = bool(preprocessor._channel_conversion)
        self.register_buffer('mean', preprocessor.mean.view(-1).float())
        self.register_buffer('std', preprocessor.std.view(-1).float())
        backbone = model.backbone
        if isinstance(backbone, HRFormer):
            backbone = fuse_network(backbone, ExportBlock)
        self.backbone = copy.deepcopy(backbone).to(dtype)
        self.neck = copy.deepcopy(model.neck).to(dtype) if model.with_neck else None
        self.head = copy.deepcopy(model.head).to(dtype)
        self.dtype = dtype
        self.eval().requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map `images` to keypoints and scores, or to heatmaps; see the class for the shapes."""
        if self.normalise:
            images = images.permute(0, 3, 1, 2).float()
            images = images.flip(1) if self.rgb else images
            images = (images - self.mean[:, None, None]) / self.std[:, None, None]
        if self.flip_test:
            images = torch.cat([images, images.flip(3)])
        feats = self.backbone(images.to(self.dtype))
        feats = feats if self.neck is None else self.neck(feats)
        heatmaps = self.head(feats).float()
        if self.flip_test:
            heatmaps, mirrored = heatmaps.chunk(2)
            mirrored = flip_heatmaps(mirrored, self.flip_indices, **self.flip_options)
            heatmaps = (heatmaps + mirrored) * 0.5
        return self.codec.batch_decode(heatmaps) if self.decode else heatmaps
