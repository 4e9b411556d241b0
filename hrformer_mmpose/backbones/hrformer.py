"""HRFormer (Yuan et al., NeurIPS 2021, https://arxiv.org/abs/2110.09408), section 3, figure 2.

    image -> conv1, conv2 (1/4) -> layer1 (bottlenecks)
          -> transition1 -> stage2 (maps at 1/4, 1/8)
          -> transition2 -> stage3 (maps at 1/4, 1/8, 1/16)
          -> transition3 -> stage4 (maps at 1/4, 1/8, 1/16, 1/32)

A transition adds a map of half the resolution. A stage is a sequence of `HRFormerModule`s:
transformer blocks on each map, then a fusion of all maps.

Names and shapes of all parameters and buffers equal `mmpose.models.backbones.HRFormer`'s, so that
checkpoints are interchangeable. Deviations from that class: any input size works; the padding mask
also applies if a single axis is padded; `with_cp` reaches the transformer blocks; the
initialisation suits training from scratch; unknown arguments are errors; `extra` is not modified.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..arch import Stage, stages_from_arch, stages_from_extra
from ..checkpoint import matching
from ..errors import ConfigError
from ..execution.checkpointing import checkpointed
from ..execution.stock import stock
from ..layers import Bottleneck, build_transition, conv_norm
from .base_module import BaseModule
from .hrformer_module import apply_transition, build_stage
from .inference import fuse_network

BLOCKS = ('transformer', 'conv')
STEM_CHANNELS = 64


def init_layer(layer: nn.Module) -> None:
    """Initialise a convolution or linear layer for training from scratch.

    Convolutions preserve the variance of their input (He et al., with the fan-in of one group).
    Linear layers follow Swin: a normal distribution with a standard deviation of 0.02, truncated at
    two standard deviations. `WindowMSA` initialises its bias table likewise.
    """
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode='fan_in', nonlinearity='relu')
    elif isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    else:
        return
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


@stock
class HRFormer(BaseModule):
    """HRFormer backbone.

    Args:
        arch: 'tiny', 'small', 'base', or a flat dict (see `arch.stages_from_arch`).
        in_channels: channels of the image.
        drop_path_rate: stochastic depth, increasing linearly from 0 at the first block to this
            rate at the last.
        with_rpe: add a learned relative position bias to the attention. MMPose's checkpoints need
            True. The authors' pose networks do not add the bias that their checkpoints hold.
        official_pose_rpe: what loading an authors' pose checkpoint into a network with_rpe=True
            does with that bias: False sets it to zero, as the authors compute; True adds it.
        resize_rpe: resize the bias of weights with another window size, bilinearly, when a training
            starts from them. Otherwise such weights are refused.
        with_pad_mask: mask padded tokens as keys of the attention. The published weights were
            trained without the mask.
        with_dwconv: 3x3 depth-wise convolution in the FFN (paper, table 7).
        plain_mlp: FFN of two linear layers without BatchNorm, the authors' form without the
            convolution; requires with_dwconv=False. It has no fast path.
        shift_windows: shift the windows of every second block by half a window, as in Swin (paper,
            tables 8 and 9).
        block: 'transformer', or 'conv' for HRNet's residual units in the same layout (paper, table
            11: "HRNet-T").
        with_cp: gradient checkpointing: recompute stage 1 and the transformer blocks in the
            backward pass.
        norm_cfg: config of all BatchNorms; `type` is 'BN' or 'SyncBN'.
        transformer_norm_cfg: config of all LayerNorms.
        norm_eval: keep BatchNorm in evaluation mode during training.
        frozen_stages: -1 freezes nothing, 0 the stem, n >= 1 the stem and stages 1 to n with the
            transitions after them.
        multiscale_output: return all four maps instead of the highest resolution only.
        align_corners: upsample in the fusions as the authors' classification and segmentation
            networks (nearest neighbour) instead of their pose networks (bilinear).
        extra: MMPose's nested form, instead of `arch`. Its drop_path_rate, with_rpe, with_pad_mask,
            upsample and stage4.multiscale_output override the arguments above.
        init_cfg: MMEngine's, e.g. `dict(type='Pretrained', checkpoint=...)`. By default the layers
            keep the initialisation of `init_layer`.

    Raises:
        ConfigError: an invalid value (unknown `arch`, heads that do not divide channels).
        UnknownArgumentError: unknown keys in `arch` or `extra`.

    Examples:
        >>> model = HRFormer(arch='tiny', multiscale_output=True).eval()
        >>> [tuple(x.shape) for x in model(torch.rand(1, 3, 64, 48))]
        [(1, 18, 16, 12), (1, 36, 8, 6), (1, 72, 4, 3), (1, 144, 2, 2)]
    """

    def __init__(
        self,
        arch: str | Mapping | None = None,
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        with_rpe: bool = True,
        official_pose_rpe: bool = False,
        resize_rpe: bool = False,
        with_pad_mask: bool = False,
        with_dwconv: bool = True,
        plain_mlp: bool = False,
        shift_windows: bool = False,
        block: str = 'transformer',
        with_cp: bool = False,
        norm_cfg: dict = dict(type='BN'),
        transformer_norm_cfg: dict = dict(type='LN', eps=1e-6),
        norm_eval: bool = False,
        frozen_stages: int = -1,
        multiscale_output: bool = False,
        align_corners: bool = False,
        extra: Mapping | None = None,
        init_cfg: dict | list[dict] | None = None,
    ):
        super().__init__(init_cfg=init_cfg)
        if (arch is None) == (extra is None):
            raise ConfigError('HRFormer needs either arch or extra')
        settings = dict(
            drop_path_rate=drop_path_rate,
            with_rpe=with_rpe,
            with_pad_mask=with_pad_mask,
            multiscale_output=multiscale_output,
            upsample='nearest' if align_corners else 'bilinear',
        )
        if extra is not None:
            stages, overrides = stages_from_extra(extra)
            settings.update(overrides)
        else:
            stages = stages_from_arch(arch)
        if frozen_stages not in range(-1, 5):
            raise ConfigError(f'frozen_stages={frozen_stages!r} is not one of -1, 0, 1, 2, 3, 4')
        if block not in BLOCKS:
            raise ConfigError(f'block={block!r} is not one of {", ".join(BLOCKS)}')
        if plain_mlp and with_dwconv:
            raise ConfigError('plain_mlp=True has no convolution: it requires with_dwconv=False')
        self.official_pose_rpe = official_pose_rpe
        self.resize_rpe = resize_rpe
        self.with_cp = with_cp
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self._build(
            stages,
            in_channels,
            norm_cfg,
            transformer_norm_cfg=transformer_norm_cfg,
            with_cp=with_cp,
            with_dwconv=with_dwconv,
            plain_mlp=plain_mlp,
            shift_windows=shift_windows,
            block=block,
            **settings,
        )
        self.apply(init_layer)
        self._freeze_stages()

    def _build(
        self,
        stages: tuple[Stage, ...],
        in_channels: int,
        norm_cfg: dict,
        drop_path_rate: float,
        multiscale_output: bool,
        **module_cfg,
    ) -> None:
        stage1, stage2, stage3, stage4 = stages
        self.conv1, self.bn1 = conv_norm(in_channels, STEM_CHANNELS, norm_cfg, 3, stride=2)
        self.conv2, self.bn2 = conv_norm(STEM_CHANNELS, STEM_CHANNELS, norm_cfg, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential()
        channels = STEM_CHANNELS
        for _ in range(stage1.num_modules * stage1.num_blocks[0]):
            self.layer1.append(Bottleneck(channels, stage1.channels[0], norm_cfg))
            channels = stage1.channels[0] * Bottleneck.expansion

        depth = stage2.depth + stage3.depth + stage4.depth
        rates = iter(torch.linspace(0, drop_path_rate, depth, device='cpu').tolist())
        build = partial(build_stage, drop_path_rates=rates, norm_cfg=norm_cfg, **module_cfg)
        self.transition1 = build_transition((channels,), stage2.channels, norm_cfg)
        self.stage2 = build(stage2)
        self.transition2 = build_transition(stage2.channels, stage3.channels, norm_cfg)
        self.stage3 = build(stage3)
        self.transition3 = build_transition(stage3.channels, stage4.channels, norm_cfg)
        self.stage4 = build(stage4, num_outputs=None if multiscale_output else 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the maps of an image.

        Args:
            x: (B, in_channels, H, W), any H and W.

        Returns:
            The highest-resolution map, (B, C_1, ceil(H / 4), ceil(W / 4)); with
            `multiscale_output` followed by those at 1/8, 1/16 and 1/32.
        """
        return self.forward_from_half(self.forward_half(x))

    def forward_half(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the first convolution: (B, in_channels, H, W) -> (B, 64, H / 2, W / 2)."""
        # Channels last throughout: the blocks' tokens are a view of the map.
        x = x.contiguous(memory_format=torch.channels_last)
        return self.relu(self.bn1(self.conv1(x)))

    def forward_from_half(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the maps of `forward` from the output of `forward_half`."""
        x = self.relu(self.bn2(self.conv2(x)))  # B, 64, H / 4, W / 4
        x = checkpointed(self.layer1, self.layer1, x) if self.with_cp else self.layer1(x)
        maps = [x]  # B, 256, H / 4, W / 4
        maps = self.stage2(apply_transition(self.transition1, maps))  # 1/4, 1/8
        maps = self.stage3(apply_transition(self.transition2, maps))  # 1/4, 1/8, 1/16
        maps = self.stage4(apply_transition(self.transition3, maps))  # 1/4, 1/8, 1/16, 1/32
        return tuple(maps)

    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`, of any origin that `checkpoint.match` supports.

        Raises:
            WeightsError: the file cannot be fetched or read, or does not fit.
        """
        if matching.load_init_cfg(self):
            self._is_init = True
        else:
            super().init_weights()

    def fuse_for_inference(self) -> nn.Module:
        """Convert a copy of the network for inference, with the same outputs.

        Modules with hooks, parametrizations or adapters, and modules of replaced classes, are
        copied unchanged, with a warning in the log; their hooks are called.

        Returns:
            `InferenceHRFormer`. This network is not modified; later changes of its weights do not
            affect the copy.
        """
        return fuse_network(self)

    def train(self, mode: bool = True) -> 'HRFormer':
        """Set training mode, except for frozen stages and, with `norm_eval`, BatchNorm."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        parts = (
            (self.conv1, self.bn1, self.conv2, self.bn2),
            (self.layer1, self.transition1),
            (self.stage2, self.transition2),
            (self.stage3, self.transition3),
            (self.stage4,),
        )
        for part in parts[: self.frozen_stages + 1]:
            for module in part:
                module.eval().requires_grad_(False)
