"""HRFormer for MMPose 1.x.

Where MMPose is installed, importing this package makes it importable (`compat.host`) and registers
our classes in MMPose's registries under the scope `hrformer_mmpose`. Where it is not, the import is
silent and light, and `hrformer_mmpose.backbones` still works with PyTorch alone.
"""

import importlib.util
import warnings

from .version import __version__

if importlib.util.find_spec('mmpose') is not None:
    try:
        from .compat import host

        host.install()
        from . import registry  # noqa: F401  (creates the child registries)
    except ImportError as error:  # a half-installed MMPose must not keep the doctor from running
        warnings.warn(
            f'MMPose is installed but does not import ({error}); '
            'python -m hrformer_mmpose.doctor says how to mend it',
            stacklevel=2,
        )

__all__ = ['PoseEstimator', '__version__', 'create_backbone']


def __getattr__(name: str):
    """Import `PoseEstimator` and `create_backbone` at first use: training needs neither."""
    if name == 'PoseEstimator':
        from .inference.torch_network import PoseEstimator

        return PoseEstimator
    if name == 'create_backbone':
        from .backbones.create import create_backbone

        return create_backbone
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
