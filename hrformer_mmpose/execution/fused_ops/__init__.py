"""Fused operators: what a transformer block computes between its matrix products.

Each operator is written once here: its schema, the shapes of its tensors and its plain form, which
runs on all devices and types. `cpu/` and `cuda/` hold kernels of the same names that pass over a
map once; the last lines register them, and PyTorch dispatches by device. Operators have no
derivatives: `recompute.py` and `inference.py` build layers from them.

Activations, the tensors that hold a value per token, share a type; the residual stream of
`residual.py` is float32 beside them. Parameters (scales, offsets, biases, weights) have that type
or, under autocast, float32. Results per token have the activations' type, all other results at
least float32. Plain forms compute in the wider type.

A BatchNorm appears as x scale + offset, (C) each, or as the table `norm` of `batch_norm.py`.
"""

from .. import cpu, cuda
from ..operator import register_kernels
from .attention import window_attention, window_attention_backward
from .batch_norm import (
    bn_backward_,
    bn_from_moments,
    bn_gelu,
    bn_gelu_backward,
    bn_statistics,
    bn_total_grads,
)
from .convolution import (
    conv3x3,
    dwconv_backward,
    gelu_dwconv,
    gelu_dwconv_backward,
    gelu_dwconv_gelu,
)
from .fusion import add_upsampled
from .linear import weight_grad
from .norms import layer_norm, layer_norm_backward
from .residual import add_gelu_stream, add_norm_stream, finish_block, norm_attention, norm_stream

__all__ = [
    'add_gelu_stream',
    'add_norm_stream',
    'add_upsampled',
    'bn_backward_',
    'bn_from_moments',
    'bn_gelu',
    'bn_gelu_backward',
    'bn_statistics',
    'bn_total_grads',
    'conv3x3',
    'dwconv_backward',
    'finish_block',
    'gelu_dwconv',
    'gelu_dwconv_backward',
    'gelu_dwconv_gelu',
    'layer_norm',
    'layer_norm_backward',
    'norm_attention',
    'norm_stream',
    'weight_grad',
    'window_attention',
    'window_attention_backward',
]

register_kernels('CPU', cpu)
register_kernels('CUDA', cuda)
