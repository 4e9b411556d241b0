"""Register all models.

HRFormer and the heads do not depend on registries, so that they run with PyTorch alone.
"""

from .backbones import HRFormer
from .estimators.classifier import ImageClassifier
from .estimators.data_preprocessor import PoseDataPreprocessor
from .estimators.segmentor import Segmentor
from .heads.classification import ClassificationHead
from .heads.fuse_scales import HRFuseScales
from .heads.heatmap_head import HeatmapHead
from .heads.ocr import OCRHead
from .heads.prtr_head import PRTRHead
from .heads.segmentation import SegmentationHead
from .heads.tokenpose_head import TokenPoseHead
from .heads.transpose_head import TransPoseHead
from .registry import MODELS

MODELS.register_module(module=HRFormer)
MODELS.register_module(module=ClassificationHead)
MODELS.register_module(module=SegmentationHead)
MODELS.register_module(module=OCRHead)

__all__ = [
    'ClassificationHead',
    'HRFormer',
    'HRFuseScales',
    'HeatmapHead',
    'ImageClassifier',
    'OCRHead',
    'PRTRHead',
    'PoseDataPreprocessor',
    'SegmentationHead',
    'Segmentor',
    'TokenPoseHead',
    'TransPoseHead',
]
