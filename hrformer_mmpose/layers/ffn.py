"""Feed-forward network with a depth-wise convolution (paper, section 3.1, figure 1 b).

The 3x3 depth-wise convolution exchanges information across window borders. Without it, the
windows of a branch would be independent of each other.
"""

import torch
from torch import nn

from .norm import build_batch_norm


class CrossFFN(nn.Module):
    """1x1 convolution -> 3x3 depth-wise -> 1x1, each followed by BatchNorm and GELU.

    Args:
        channels: channels of input and output, C.
        hidden_channels: channels of the two inner maps, D.
        norm_cfg: see `build_batch_norm`.
        with_dwconv: False removes the depth-wise convolution with its BatchNorm and GELU.
    """

    def __init__(
        self, channels: int, hidden_channels: int, norm_cfg: dict, with_dwconv: bool = True
    ):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden_channels, 1)
        self.norm1 = build_batch_norm(norm_cfg, hidden_channels)
        self.dw3x3 = self.norm2 = None
        if with_dwconv:
            self.dw3x3 = nn.Conv2d(
                hidden_channels, hidden_channels, 3, padding=1, groups=hidden_channels
            )
            self.norm2 = build_batch_norm(norm_cfg, hidden_channels)
        self.fc2 = nn.Conv2d(hidden_channels, channels, 1)
        self.norm3 = build_batch_norm(norm_cfg, channels)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)  # B, C, H, W
        x = self.act(self.norm1(self.fc1(x)))  # B, D, H, W
        if self.dw3x3 is not None:
            x = self.act(self.norm2(self.dw3x3(x)))
        x = self.act(self.norm3(self.fc2(x)))  # B, C, H, W
        return x.permute(0, 2, 3, 1)


class MLP(nn.Module):
    """Linear layer -> GELU -> linear layer, without BatchNorm: the authors' FFN for comparison.

    Args:
        channels: channels of input and output, C.
        hidden_channels: channels of the inner map, D.
    """

    def __init__(self, channels: int, hidden_channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden_channels)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(self.act(self.fc1(x)))
