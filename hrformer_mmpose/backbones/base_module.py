"""MMEngine's base class of modules, or a substitute where only PyTorch is installed."""

from torch import nn

from ..errors import ConfigError

try:
    from mmengine.model import BaseModule
except ImportError:  # only PyTorch is installed

    class BaseModule(nn.Module):
        """Substitute for MMEngine's class, without `init_cfg`."""

        def __init__(self, init_cfg: dict | None = None):
            super().__init__()
            if init_cfg is not None:
                raise ConfigError('init_cfg needs MMEngine: pip install mmengine')

        def init_weights(self) -> None:
            """Keep the weights that the constructor set."""
