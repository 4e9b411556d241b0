"""Operators of a residual stream in float32 whose branches compute in half precision.

Each branch of a transformer block starts with a LayerNorm of the stream and ends with a sum: its
maps are half precision, the stream itself is never rounded.

Shapes: T tokens (written `...` before C), C channels.
"""

import torch
import torch.nn.functional as F

from ..operator import operator


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


def _layer_norm(x, gamma, beta, eps) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], gamma.to(x.dtype), beta.to(x.dtype), eps)
