"""HRFormer in plain PyTorch; with MMEngine installed it accepts `init_cfg`."""

from ..arch import ARCHS
from .hrformer import HRFormer

__all__ = ['ARCHS', 'HRFormer']
