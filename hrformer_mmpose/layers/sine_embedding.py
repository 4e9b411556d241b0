"""Sine embedding of positions in a map, as in DETR (Carion et al., ECCV 2020)."""

import math

import torch

TEMPERATURE = 10000
EPS = 1e-6  # of the published codes, far below a position's distance


def sine_embedding(
    height: int, width: int, channels: int, device: torch.device | None = None
) -> torch.Tensor:
    """Embed the row in the first half of the channels and the column in the second.

    Rows and columns are counted from one and scaled to (0, 2 pi]; sine and cosine alternate.

    Args:
        height: H, rows of the map.
        width: W, columns of the map.
        channels: C, a multiple of 4.
        device: of the result.

    Returns:
        (H * W, C), float32, in row-major order.
    """
    rows, columns = (_embed(length, channels // 2, device) for length in (height, width))
    rows = rows[:, None].expand(-1, width, -1)
    columns = columns[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


def _embed(length: int, channels: int, device: torch.device | None) -> torch.Tensor:
    """Embed the positions of one axis, (length, channels)."""
    positions = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    angle = positions / (length + EPS) * 2 * math.pi
    pairs = (torch.arange(channels, device=device) // 2).float()
    frequency = TEMPERATURE ** (-2 * pairs / channels)
    phase = angle[:, None] * frequency
    return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1)
