"""Feed-forward network with a depth-wise convolution (paper, section 3.1, figure 2 b).

The 3x3 depth-wise convolution carries information across the windows' borders; without it the
windows of one branch would never exchange any.
"""

import torch
from torch import nn

from .norm import build_batch_norm


class CrossFFN(nn.Module):
    """1x1 convolution -> 3x3 depth-wise -> 1x1, each followed by BatchNorm and GELU.

    Args:
        channels: C of input and output.
        hidden_channels: width of the two inner maps.
        norm_cfg: see `build_batch_norm`.
        with_dwconv: without it the depth-wise convolution and what follows it are left out.
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
        x = x.permute(0, 3, 1, 2)
        x = self.act(self.norm1(self.fc1(x)))
        if self.dw3x3 is not None:
            x = self.act(self.norm2(self.dw3x3(x)))
        return self.act(self.norm3(self.fc2(x))).permute(0, 2, 3, 1)
