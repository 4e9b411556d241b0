"""Operator of the fusion of several resolutions.

Shapes: B batch, H and W of a map, C channels.
"""

import torch
import torch.nn.functional as F

from ..operator import operator


@operator(
    '(Tensor x, Tensor map_1, Tensor? map_2, Tensor? map_3, bool relu) -> Tensor',
    x='B H W C', map_1='B H1 W1 C', map_2='B H2 W2 C', map_3='B H3 W3 C',
)  # fmt: skip
def add_upsampled(
    x: torch.Tensor,
    map_1: torch.Tensor,
    map_2: torch.Tensor | None,
    map_3: torch.Tensor | None,
    relu: bool,
) -> torch.Tensor:
    """Add up to three maps to x, each interpolated bilinearly to its size.

    Pixels are squares, whose outer edges coincide (align_corners=False).

    Args:
        x: (B, H, W, C).
        map_1: (B, H1, W1, C).
        map_2: (B, H2, W2, C) or None.
        map_3: (B, H3, W3, C) or None.
        relu: apply ReLU to the sum.

    Returns:
        (B, H, W, C).
    """
    for y in (map_1, map_2, map_3):
        if y is not None:
            y = F.interpolate(y.permute(0, 3, 1, 2), size=x.shape[1:3], mode='bilinear')
            x = x + y.permute(0, 2, 3, 1)
    return F.relu(x) if relu else x
