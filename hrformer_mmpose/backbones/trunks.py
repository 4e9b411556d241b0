"""MMPose's ResNet and HRNet, started from files that this package reads and checks."""

from mmpose.models.backbones import HRNet as _HRNet
from mmpose.models.backbones import ResNet as _ResNet

from ..checkpoint.pretrained import load_pretrained
from ..registry import MODELS


class _StartsFromFile:
    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`; MMPose's class skips what a file lacks.

        Raises:
            WeightsError: the file cannot be read or does not fit.
        """
        if not load_pretrained(self):
            super().init_weights()


@MODELS.register_module()
class ResNet(_StartsFromFile, _ResNet):
    """`mmpose.ResNet`; torchvision's files have its names."""


@MODELS.register_module()
class HRNet(_StartsFromFile, _HRNet):
    """`mmpose.HRNet`."""
