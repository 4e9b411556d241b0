"""HRFormer's transformer block (paper, section 3.1, figure 1): window attention, then FFN.

`execution.block` is the same block with faster paths.
"""

import torch
from torch import nn

from .attention import LocalWindowSelfAttention
from .ffn import MLP, CrossFFN
from .norm import build_layer_norm
from .window import Window


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): drop a residual branch for whole samples.

    Args:
        drop_prob: probability of dropping, in [0, 1).
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, ...) -> (B, ...); the identity in evaluation mode."""
        scale = self.draw_scale(x)
        return x if scale is None else x * scale

    def draw_scale(self, x: torch.Tensor) -> torch.Tensor | None:
        """Draw the factor of each sample: 0, or 1 / (1 - drop_prob).

        Returns:
            (B, 1, ...) with the number of axes of `x`; None if nothing is dropped.
        """
        if not self.training or not self.drop_prob:
            return None
        keep_prob = 1 - self.drop_prob
        # Drawn as in mmcv's DropPath, so that equal seeds drop equal samples.
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = (torch.rand(shape, dtype=x.dtype, device=x.device) + keep_prob).floor_()
        return mask / keep_prob

    def extra_repr(self) -> str:
        """Settings shown by `print(model)`."""
        return f'drop_prob={self.drop_prob:.3f}'


class HRFormerBlock(nn.Module):
    """Window attention and FFN, each with LayerNorm, stochastic depth and a residual connection.

    Args:
        channels: C.
        num_heads: number of attention heads.
        window: window size, (Kh, Kw).
        mlp_ratio: hidden channels of the FFN divided by C.
        drop_path: rate of stochastic depth of both residual branches.
        with_rpe: see `WindowMSA`.
        with_pad_mask: see `LocalWindowSelfAttention`.
        shifted: see `LocalWindowSelfAttention`.
        with_dwconv: see `CrossFFN`.
        plain_mlp: use `MLP` instead of `CrossFFN`.
        norm_cfg: config of the FFN's BatchNorms.
        transformer_norm_cfg: config of the two LayerNorms.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window: Window,
        mlp_ratio: float,
        drop_path: float = 0.0,
        with_rpe: bool = True,
        with_pad_mask: bool = False,
        shifted: bool = False,
        with_dwconv: bool = True,
        plain_mlp: bool = False,
        norm_cfg: dict = dict(type='BN'),
        transformer_norm_cfg: dict = dict(type='LN', eps=1e-6),
    ):
        super().__init__()
        self.norm1 = build_layer_norm(transformer_norm_cfg, channels)
        self.attn = LocalWindowSelfAttention(
            channels, num_heads, window, with_rpe, with_pad_mask, shifted
        )
        self.norm2 = build_layer_norm(transformer_norm_cfg, channels)
        hidden_channels = int(channels * mlp_ratio)
        if plain_mlp:
            self.ffn = MLP(channels, hidden_channels)
        else:
            self.ffn = CrossFFN(channels, hidden_channels, norm_cfg, with_dwconv)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # Tokens are a channels-last view of the map: neither permute copies.
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        x = self.attention_branch(x)
        x = self.ffn_branch(x)
        return x.permute(0, 3, 1, 2)  # B, C, H, W

    def attention_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + self.drop_path(self.attn(self.norm1(x)))

    def ffn_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + self.drop_path(self.ffn(self.norm2(x)))
