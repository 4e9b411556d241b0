"""Layers of HRFormer in plain PyTorch."""

from .attention import LocalWindowSelfAttention, WindowMSA
from .block import DropPath, HRFormerBlock
from .ffn import MLP, CrossFFN
from .fusion import BasicBlock, Bottleneck, MultiScaleFusion, build_transition, conv_norm
from .norm import build_batch_norm, build_layer_norm
from .sync_batch_norm import SyncBatchNorm
from .window import padding_mask, shift_mask, window_partition, window_reverse

__all__ = [
    'MLP',
    'BasicBlock',
    'Bottleneck',
    'CrossFFN',
    'DropPath',
    'HRFormerBlock',
    'LocalWindowSelfAttention',
    'MultiScaleFusion',
    'SyncBatchNorm',
    'WindowMSA',
    'build_batch_norm',
    'build_layer_norm',
    'build_transition',
    'conv_norm',
    'padding_mask',
    'shift_mask',
    'window_partition',
    'window_reverse',
]
