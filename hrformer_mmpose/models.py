"""What the MODELS registry of this package holds.

The backbone itself knows nothing of registries: it runs where only PyTorch is installed.
"""

from .backbones import HRFormer
from .heads.heatmap_head import HeatmapHead
from .registry import MODELS

MODELS.register_module(module=HRFormer)

__all__ = ['HRFormer', 'HeatmapHead']
