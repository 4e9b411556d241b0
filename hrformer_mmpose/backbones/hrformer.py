"""HRFormer (Yuan et al., NeurIPS 2021, https://arxiv.org/abs/2110.09408), section 3.

A convolutional stem and stage 1 bring the image to a quarter of its size; stages 2 to 4 keep 2, 3
and 4 maps at 1/4, 1/8, 1/16 and 1/32 of it. A module of a stage sends each map through its
transformer blocks and then exchanges information between all maps.

Names and shapes of all parameters and buffers equal `mmpose.models.backbones.HRFormer`'s, so that
files go both ways. Deviations from that class: any input size works; the padding mask holds when
only one axis is padded; `with_cp` reaches the transformer blocks; layers are initialised so that
the network trains from scratch; unknown arguments are errors; `extra` is not modified.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..arch import Stage, stages_from_arch, stages_from_extra
from ..errors import ConfigError, WeightsError
from ..execution.policy import stock
from ..layers import Bottleneck, build_transition, conv_norm
from .hrformer_module import HRFormerModule, apply_transition
from .inference import fuse_network

try:
    from mmengine.model import BaseModule
except ImportError:  # the network runs where only torch is installed

    class BaseModule(nn.Module):
        """The part of MMEngine's class that a network without `init_cfg` needs."""

        def __init__(self, init_cfg: dict | None = None):
            super().__init__()
            if init_cfg is not None:
                raise ConfigError('init_cfg needs MMEngine: pip install mmengine')

        def init_weights(self) -> None:
            """Weights are set when the layers are made."""


BLOCKS = ('transformer', 'conv')


@stock
class HRFormer(BaseModule):
    """HRFormer backbone.

    Args:
        arch: 'tiny', 'small', 'base', or a flat dict (see `arch.stages_from_arch`).
        in_channels: channels of the image.
        drop_path_rate: stochastic depth; grows linearly from 0 at the first block to this at the
            last.
        with_rpe: learned relative position bias. The authors' released pose code computes it and
            leaves it out, so their pose files reproduce with False; MMPose's with True.
        official_pose_rpe: add the bias that the authors' pose files hold although their code does
            not. By default such a file loads into a network with_rpe=True with a bias of zero.
        with_pad_mask: keep real tokens from attending to padded ones; the published weights were
            trained without.
        with_dwconv: the 3x3 depth-wise convolution in the FFN (paper, table 7).
        shift_windows: shift the windows of every second block of a branch by half a window, as
            Swin does (paper, tables 8 and 9).
        block: 'transformer', or 'conv' for HRNet's residual units of two 3x3 convolutions in the
            same layout (paper, table 11: "HRNet-T").
        with_cp: recompute the transformer blocks in the backward pass instead of keeping their
            activations.
        norm_cfg: BatchNorm's configuration; `type` is 'BN' or 'SyncBN'.
        transformer_norm_cfg: LayerNorm's configuration.
        norm_eval: keep BatchNorm in evaluation mode while training.
        frozen_stages: -1 freezes nothing, 0 the stem, n >= 1 the stem and stages 1 to n (with the
            transitions that follow them).
        multiscale_output: return all four maps, not only the one of the highest resolution.
        align_corners: upsample in the fusion as the authors' classification and segmentation
            networks do (see `layers.fusion.UPSAMPLE`), not as the pose networks.
        extra: MMPose's nested form; give either this or `arch`. What it holds of the arguments
            above (drop_path_rate, with_rpe, with_pad_mask, upsample, stage4.multiscale_output)
            takes their place.
        init_cfg: MMEngine's, e.g. `dict(type='Pretrained', checkpoint=...)`. By default layers keep
            the initialisation they are made with (`init_layer`).

    Raises:
        ConfigError: a value that does not fit (unknown `arch`, heads that do not divide channels).
        UnknownArgumentError: unknown keys in `arch` or `extra`.

    Example:
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
        with_pad_mask: bool = False,
        with_dwconv: bool = True,
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
        if not -1 <= frozen_stages <= 4:
            raise ConfigError(f'frozen_stages={frozen_stages} is not in -1 ... 4')
        if block not in BLOCKS:
            raise ConfigError(f'block={block!r} is not one of {", ".join(BLOCKS)}')
        self.official_pose_rpe = official_pose_rpe
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self._build(
            stages,
            in_channels,
            norm_cfg,
            transformer_norm_cfg=transformer_norm_cfg,
            with_cp=with_cp,
            with_dwconv=with_dwconv,
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
        upsample: str,
        **block_cfg,
    ) -> None:
        self.conv1, self.bn1 = conv_norm(in_channels, 64, norm_cfg, 3, stride=2)
        self.conv2, self.bn2 = conv_norm(64, 64, norm_cfg, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential()
        width, inner = 64, stages[0].channels[0]
        for _ in range(stages[0].num_modules * stages[0].num_blocks[0]):
            self.layer1.append(Bottleneck(width, inner, norm_cfg))
            width = inner * Bottleneck.expansion

        rates = torch.linspace(0, drop_path_rate, sum(s.depth for s in stages[1:])).tolist()
        widths: tuple[int, ...] = (width,)
        for number, stage in enumerate(stages[1:], start=2):
            transition = build_transition(widths, stage.channels, norm_cfg)
            self.add_module(f'transition{number - 1}', transition)
            modules = nn.Sequential()
            for index in range(stage.num_modules):
                module_rates = [rates.pop(0) for _ in range(max(stage.num_blocks))]
                is_last = number == 4 and index == stage.num_modules - 1
                outputs = 1 if is_last and not multiscale_output else len(stage.channels)
                module = HRFormerModule(
                    stage, module_rates, outputs, upsample, norm_cfg, **block_cfg
                )
                modules.append(module)
            self.add_module(f'stage{number}', modules)
            widths = stage.channels

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Image to maps.

        Args:
            x: (B, in_channels, H, W), any H and W.

        Returns:
            The map of the highest resolution, (B, C_1, ceil(H / 4), ceil(W / 4)), alone; with
            `multiscale_output` followed by those at 1/8, 1/16 and 1/32.
        """
        # One layout throughout: the blocks' tokens are the channels-last view of a map.
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        maps = [self.layer1(x)]
        for number in (2, 3, 4):
            transition = getattr(self, f'transition{number - 1}')
            maps = getattr(self, f'stage{number}')(apply_transition(transition, maps))
        return tuple(maps)

    def init_weights(self) -> None:
        """Load what `init_cfg` names: a file of any origin that `checkpoint.match` knows.

        Raises:
            WeightsError: the file cannot be fetched or read, or does not fit.
        """
        cfg = self.init_cfg
        if not isinstance(cfg, Mapping) or cfg.get('type') != 'Pretrained':
            super().init_weights()
            return
        from mmengine.logging import MMLogger

        from ..checkpoint import matching  # it knows this package's architectures

        try:
            result = matching.load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))
        except WeightsError as error:
            raise WeightsError(
                f'no pre-trained weights: {error}. To go on with random weights add --cfg-options '
                'model.backbone.init_cfg=None; to use another file, '
                'model.backbone.init_cfg.checkpoint=FILE'
            ) from error
        matching.log(result, MMLogger.get_current_instance())
        self._is_init = True

    def fuse_for_inference(self) -> nn.Module:
        """Make a network for inference alone, with the same outputs, from the present weights.

        Modules with hooks, parametrizations or adapters, and those of other classes than this one
        is made with, are copied as they are, with a line in the log; their hooks are called.

        Returns:
            `FusedHRFormer`; this network stays as it is. Later changes of its weights do not show
            in the other.
        """
        return fuse_network(self)

    def train(self, mode: bool = True) -> 'HRFormer':
        """Set training mode, frozen stages (and with `norm_eval` every BatchNorm) aside."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        frozen = []
        if self.frozen_stages >= 0:
            frozen += [self.conv1, self.bn1, self.conv2, self.bn2]
        for number in range(1, self.frozen_stages + 1):
            frozen.append(self.layer1 if number == 1 else getattr(self, f'stage{number}'))
            if number < 4:
                frozen.append(getattr(self, f'transition{number}'))
        for module in frozen:
            module.eval().requires_grad_(False)


def init_layer(layer: nn.Module) -> None:
    """Initialise one layer so that HRFormer trains from scratch.

    Convolutions keep the variance of their input (He et al., with the fan of one group), the
    attention's linear layers are drawn from a normal distribution of 0.02, truncated at two
    standard deviations, as in Swin; the bias tables likewise, where they are made.
    """
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode='fan_in', nonlinearity='relu')
    elif isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04)
    else:
        return
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
