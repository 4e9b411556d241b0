"""HRFormer in plain PyTorch; MMEngine, where it is installed, adds `init_cfg`."""

from ..arch import ARCHS
from .hrformer import HRFormer

__all__ = ['ARCHS', 'HRFormer']
