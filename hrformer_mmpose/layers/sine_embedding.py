"""Sine embedding of positions in a map, as in DETR (Carion et al., ECCV 2020)."""

import math

import torch

TEMPERATURE = 10000


def sine_embedding(height: int, width: int, channels: int) -> torch.Tensor:
    """Embed the row in the first half of the channels and the column in the second.

    Rows and columns are counted from one and scaled to (0, 2 pi]; sine and cosine alternate.

    Args:
        height: H, rows of the map.
        width: W, columns of the map.
        channels: C, a multiple of 4.

    Returns:
        (H * W, C), float32, in row-major order.
    """
    rows, columns = (_embed(length, channels // 2) for length in (height, width))
    rows = rows[:, None].expand(-1, width, -1)
    columns = columns[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _embed(length: int, channels: int) -> torch.Tensor:
    """Embed the positions of one axis, (length, channels)."""
    angle = torch.arange(1, length + 1) / length * 2 * math.pi
    frequency = TEMPERATURE ** (-2 * (torch.arange(channels) // 2) / channels)
    phase = angle[:, None] * frequency
    return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1)
