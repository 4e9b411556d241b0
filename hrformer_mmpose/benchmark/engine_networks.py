"""HRFormer beside HRNet-W48 and RTMPose, from normalized crops to the head's output.

HRNet and RTMPose are MMPose's classes with its configs' settings; all weights are random.
"""

from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmpose.registry import MODELS
from torch import nn

from ..backbones import HRFormer
from ..backbones.half_precision import HalfPrecision, takes_half_weights
from ..backbones.inference import fuse_network
from ..execution.exportable import ExportBlock
from ..export import files
from ..inference.description import Description
from ..inference.torch_network import build, read_config
from ..version import __version__
from .steps import DTYPES

SIZE = 256, 192  # height, width
HRNET_W48 = 'HRNet-W48'
CONFIGS = {
    'HRFormer-B': 'hrformer_base_coco_256x192',
    'HRFormer-S': 'hrformer_small_coco_256x192',
    HRNET_W48: 'hrnet_w48_coco_256x192',
}
# Depth and width of CSPNeXt in MMPose's configs rtmpose-{m,l}_8xb256-420e_coco-256x192.
RTMPOSE = {'RTMPose-m': (0.67, 0.75), 'RTMPose-l': (1.0, 1.0)}
NETWORKS = (*CONFIGS, *RTMPOSE)


class Poses(nn.Module):
    """Backbone and head, (N, 3, 256, 192) -> heatmaps, or two SimCC vectors, in float32.

    Args:
        backbone: maps images to a tuple of maps.
        head: MMPose's.
        dtype: of the images that the backbone takes.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.backbone, self.head, self.dtype = backbone, head, dtype

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the head's outputs."""
        outputs = self.head(self.backbone(images.to(self.dtype)))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(output.float() for output in outputs)


def network(name: str) -> Poses:
    """Build one of `NETWORKS` with random weights, in evaluation mode."""
    torch.manual_seed(0)
    if name in CONFIGS:
        model = build(read_config(CONFIGS[name]), name)
        poses = Poses(model.backbone, model.head)
    else:
        poses = _rtmpose(*RTMPOSE[name])
    poses.train(False)
    return poses.requires_grad_(False)


def for_torch(poses: Poses, dtype: torch.dtype, device: torch.device) -> Poses:
    """Prepare a network for inference in PyTorch: ours fused, all in channels last on GPUs.

    Args:
        poses: the network; changed in place.
        dtype: type of the backbone's maps. Its weights have it, too, on GPUs and, of ours, on CPUs
            where that is faster; otherwise it is left to autocast.
        device: where the network goes.
    """
    backbone, is_ours = poses.backbone, isinstance(poses.backbone, HRFormer)
    backbone = backbone.fuse_for_inference() if is_ours else backbone
    on_cuda = device.type == 'cuda'
    if dtype is not torch.float32 and takes_half_weights(device, dtype) and (is_ours or on_cuda):
        backbone = HalfPrecision(backbone, dtype, device)
    poses = Poses(backbone, poses.head).to(device)
    return poses if is_ours and not on_cuda else poses.to(memory_format=torch.channels_last)


def write_onnx(name: str, path: Path, precision: str) -> None:
    """Export one of `NETWORKS` with a free batch size, as `hrformer export` does."""
    poses, dtype = network(name), DTYPES[precision]
    backbone = poses.backbone
    if isinstance(backbone, HRFormer):
        backbone = fuse_network(backbone, ExportBlock)
    poses = Poses(backbone, poses.head, dtype).to(dtype)
    with torch.no_grad(), files.quiet():
        torch.onnx.export(
            poses, (torch.rand(2, 3, *SIZE),), str(path), dynamo=False, opset_version=files.OPSET,
            input_names=['images'], dynamic_axes={'images': {0: 'batch'}},
        )  # fmt: skip
    files.add_metadata(path, _description(name, precision))


def _description(name: str, precision: str) -> Description:
    """Describe a file, as the provider of TensorRT asks for it."""
    return Description(
        config=name, checkpoint='random weights', sha256='', version=__version__, created='',
        input_size=SIZE[::-1], padding=1.25, udp=False, mean=(0.0,) * 3, std=(1.0,) * 3, rgb=True,
        normalise=False, decode=False, codec={}, flip_test=False, precision=precision,
        keypoints=(), links=(), flip_indices=(),
    )  # fmt: skip


def _rtmpose(depth: float, width: float) -> Poses:
    init_default_scope('mmpose')
    h, w = SIZE
    backbone = dict(
        type='CSPNeXt', arch='P5', expand_ratio=0.5, deepen_factor=depth, widen_factor=width,
        out_indices=(4,), channel_attention=True, norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU'),
    )  # fmt: skip
    head = dict(
        type='RTMCCHead', in_channels=int(1024 * width), out_channels=17, input_size=(w, h),
        in_featuremap_size=(w // 32, h // 32), simcc_split_ratio=2.0, final_layer_kernel_size=7,
        gau_cfg=dict(
            hidden_dims=256, s=128, expansion_factor=2, dropout_rate=0.0, drop_path=0.0,
            act_fn='SiLU', use_rel_bias=False, pos_enc=False,
        ),
        loss=dict(type='KLDiscretLoss', use_target_weight=True, beta=10.0, label_softmax=True),
        decoder=dict(
            type='SimCCLabel', input_size=(w, h), sigma=(4.9, 5.66), simcc_split_ratio=2.0,
            normalize=False, use_dark=False,
        ),
    )  # fmt: skip
    return Poses(MODELS.build(backbone), MODELS.build(head))
