"""Operators of a residual stream in float32 whose branches compute in half precision.

Each branch of a transformer block starts with a LayerNorm of the stream and ends with a sum: its
maps are half precision, the stream itself is never rounded.

Shapes: B batch, H and W of a map, T tokens (written `...` before C), C channels, D hidden channels.
"""

import torch
import torch.nn.functional as F

from ...layers.window import Window
from ..operator import operator
from .attention import window_attention
from .convolution import gelu_dwconv_gelu


@operator(
    '(Tensor stream, Tensor gamma, Tensor beta, float eps, ScalarType dtype) -> Tensor',
    stream='f32: ... C', gamma='C', beta='C',
)  # fmt: skip
def norm_stream(
    stream: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float, dtype: torch.dtype
) -> torch.Tensor:
    """Compute LayerNorm over the channels and round it.

    Args:
        stream: (..., C), float32.
        gamma: (C), scale.
        beta: (C), offset.
        eps: added to the variance.
        dtype: of the result.

    Returns:
        (..., C).
    """
    return _layer_norm(stream, gamma, beta, eps).to(dtype)


@operator(
    '(Tensor stream, Tensor branch, Tensor gamma, Tensor beta, float eps) -> (Tensor, Tensor)',
    stream='f32: ... C', branch='... C', gamma='C', beta='C',
)  # fmt: skip
def add_norm_stream(
    stream: torch.Tensor, branch: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add a branch to the stream and compute the LayerNorm before the next branch.

    Args:
        stream: (..., C), float32.
        branch: (..., C).
        gamma: (C), scale.
        beta: (C), offset.
        eps: added to the variance.

    Returns:
        stream: (..., C), float32, stream + branch.
        out: (..., C), its LayerNorm in the branch's type.
    """
    stream = stream + branch
    return stream, _layer_norm(stream, gamma, beta, eps).to(branch.dtype)


@operator(
    '(Tensor stream, Tensor branch) -> Tensor', stream='f32: ... C', branch='... C'
)  # fmt: skip
def add_gelu_stream(stream: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
    """Compute stream + gelu(branch).

    Args:
        stream: (..., C), float32.
        branch: (..., C).

    Returns:
        (..., C), float32.
    """
    return stream + F.gelu(branch.float())


@operator(
    '(Tensor stream, Tensor gamma, Tensor beta, float eps, Tensor qkv_weight, Tensor qkv_bias,'
    ' Tensor? rel_pos_bias, int num_heads, int[2] window, ScalarType dtype) -> Tensor',
    stream='f32: B H W C', gamma='C', beta='C', qkv_weight='3C C', qkv_bias='3C',
    rel_pos_bias='h N N',
)  # fmt: skip
def norm_attention(
    stream: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    qkv_weight: torch.Tensor,
    qkv_bias: torch.Tensor,
    rel_pos_bias: torch.Tensor | None,
    num_heads: int,
    window: Window,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Compute the attention of LayerNorm(stream) in windows, without its output projection.

    Args:
        stream: (B, H, W, C), float32.
        gamma: (C), scale of the LayerNorm.
        beta: (C), its offset.
        eps: added to the variance.
        qkv_weight: (3 C, C).
        qkv_bias: (3 C).
        rel_pos_bias: (h, N, N) or None.
        num_heads: h.
        window: (Kh, Kw).
        dtype: of the products and the result.

    Returns:
        (B, H, W, C), heads concatenated.
    """
    x = _layer_norm(stream, gamma, beta, eps).to(dtype)
    qkv_bias = qkv_bias.to(dtype)
    qkv = F.linear(x, qkv_weight.to(dtype), qkv_bias)
    return window_attention.__wrapped__(qkv, qkv_bias, rel_pos_bias, num_heads, window)


@operator(
    '(Tensor stream, Tensor attention, Tensor proj_weight, Tensor proj_bias, Tensor gamma,'
    ' Tensor beta, float eps, Tensor fc1_weight, Tensor fc1_bias, Tensor conv_weight,'
    ' Tensor conv_bias, Tensor fc2_weight, Tensor fc2_bias) -> Tensor',
    stream='f32: B H W C', attention='B H W C', proj_weight='C C', proj_bias='C', gamma='C',
    beta='C', fc1_weight='D C', fc1_bias='D', conv_weight='D 9', conv_bias='D', fc2_weight='C D',
    fc2_bias='C',
)  # fmt: skip
def finish_block(
    stream: torch.Tensor,
    attention: torch.Tensor,
    proj_weight: torch.Tensor,
    proj_bias: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    fc1_weight: torch.Tensor,
    fc1_bias: torch.Tensor,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    fc2_weight: torch.Tensor,
    fc2_bias: torch.Tensor,
) -> torch.Tensor:
    """Compute what follows the attention in a block, BatchNorms folded.

    Computes x + gelu(fc2(gelu(conv(gelu(fc1(LayerNorm(x))))))) for x = stream + proj(attention).

    Args:
        stream: (B, H, W, C), float32.
        attention: (B, H, W, C), heads concatenated.
        proj_weight: (C, C), weights of products are converted to the type of `attention`.
        proj_bias: (C).
        gamma: (C), scale of the LayerNorm.
        beta: (C), its offset.
        eps: added to the variance.
        fc1_weight: (D, C).
        fc1_bias: (D).
        conv_weight: (D, 9), taps of the depth-wise 3x3 convolution in row-major order.
        conv_bias: (D).
        fc2_weight: (C, D).
        fc2_bias: (C).

    Returns:
        (B, H, W, C), float32.
    """
    dtype = attention.dtype
    stream = stream + F.linear(attention, proj_weight.to(dtype), proj_bias.to(dtype))
    x = _layer_norm(stream, gamma, beta, eps).to(dtype)
    x = F.linear(x, fc1_weight.to(dtype), fc1_bias.to(dtype))
    x = gelu_dwconv_gelu.__wrapped__(x, conv_weight.to(dtype), conv_bias.to(dtype))
    return stream + F.gelu(F.linear(x, fc2_weight.to(dtype), fc2_bias.to(dtype)).float())


def _layer_norm(x, gamma, beta, eps) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], gamma.to(x.dtype), beta.to(x.dtype), eps)
