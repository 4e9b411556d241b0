"""HRFormer for MMPose 1.x.

Where MMPose is installed, importing this package makes it importable (`host`) and registers our
classes in MMPose's registries under the scope `hrformer_mmpose`. Where it is not, the import is
silent and light, and `hrformer_mmpose.backbones` still works with PyTorch alone.
"""

import importlib.util

from .version import __version__

if importlib.util.find_spec('mmpose') is not None:
    from . import host

    host.install()
    from . import registry  # noqa: F401  (creates the child registries)

__all__ = ['__version__']
