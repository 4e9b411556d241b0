"""Operator of a linear layer's weight gradient.

Shapes: B batch, H and W of a map, C and D channels in and out.
"""

import torch

from .. import policy
from ..operator import operator
from .norms import at_least_float32


@operator('(Tensor grad, Tensor x) -> Tensor', grad='B H W D', x='B H W C')
def weight_grad(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Compute the weight gradient of a linear layer.

    Args:
        grad: (B, H, W, D), gradient of its output.
        x: (B, H, W, C), its input.

    Returns:
        (D, C), at least float32.
    """
    if not policy.use_product_per_image(grad):
        return at_least_float32(grad.flatten(0, -2).t() @ x.flatten(0, -2))
    grad, x = grad.flatten(1, 2), x.flatten(1, 2)
    if grad.shape[-1] > x.shape[-1]:  # the narrower one first is faster
        return torch.bmm(x.transpose(1, 2), grad).sum(0, dtype=torch.float32).t()
    return torch.bmm(grad.transpose(1, 2), x).sum(0, dtype=torch.float32)
