"""MMPose's HRNet and ResNet as trunks of pose transformers: cut short, started from safe files."""

from collections.abc import Mapping

from mmpose.models.backbones import HRNet as _HRNet
from mmpose.models.backbones import ResNet as _ResNet
from torch import nn

from ..checkpoint.pretrained import load_pretrained
from ..errors import ConfigError
from ..registry import MODELS

STAGES = 4


class _Trunk(nn.Module):
    """Methods in place of MMPose's."""

    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`.

        Raises:
            WeightsError: the file cannot be read or does not fit.
        """
        if not load_pretrained(self):
            super().init_weights()

    def train(self, mode: bool = True) -> '_Trunk':
        """Set the mode; MMPose's method returns None."""
        super().train(mode)
        return self


@MODELS.register_module()
class HRNet(_Trunk, _HRNet):
    """MMPose's HRNet, optionally cut after an earlier stage.

    Parameter names equal MMPose's and the authors', whose ImageNet files load.

    Args:
        extra: see MMPose's class.
        num_stages: last stage, 1 to 4. The output is its highest-resolution map; stage 1 is the
            stem with four bottlenecks, 256 channels at 1/4 of the resolution.
        kwargs: see MMPose's class.

    Raises:
        ConfigError: `num_stages` is not 1 to 4.
    """

    def __init__(self, extra: Mapping, num_stages: int = STAGES, **kwargs):
        super().__init__(extra, **kwargs)
        if num_stages not in range(1, STAGES + 1):
            raise ConfigError(f'model.backbone.num_stages={num_stages} is not 1, 2, 3 or 4')
        for stage in range(num_stages + 1, STAGES + 1):  # one branch that does nothing
            setattr(self, f'stage{stage}_cfg', dict(num_branches=1))
            setattr(self, f'transition{stage - 1}', nn.ModuleList([None]))
            setattr(self, f'stage{stage}', nn.Identity())
        if 1 < num_stages < STAGES:
            last = getattr(self, f'stage{num_stages}')[-1]
            last.fuse_layers = last.fuse_layers[:1]


@MODELS.register_module()
class ResNet(_Trunk, _ResNet):
    """MMPose's ResNet; arguments of MMPose's class. Torchvision's files load."""
