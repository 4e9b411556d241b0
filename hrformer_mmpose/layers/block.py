"""The transformer block of HRFormer (paper, section 3.1): window attention, then the FFN.

`execution.block` runs the same mathematics on faster paths.
"""

import torch
from torch import nn

from .attention import LocalWindowSelfAttention
from .ffn import CrossFFN
from .norm import build_layer_norm
from .window import Window


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for whole samples, scales the others to make up.

    Args:
        drop_prob: probability of dropping, in [0, 1).
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop along the first axis of `x`, in training only."""
        keep = self.keep(x)
        return x if keep is None else x * keep

    def keep(self, x: torch.Tensor) -> torch.Tensor | None:
        """What the samples of `x` are multiplied by this time, (B, 1, ...); None for 1."""
        if not self.training or not self.drop_prob:
            return None
        keep = 1 - self.drop_prob
        # One number a sample, drawn the way mmcv's DropPath draws it: the same seed drops the same.
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        kept = (torch.rand(shape, dtype=x.dtype, device=x.device) + keep).floor_()
        return kept / keep

    def extra_repr(self) -> str:
        """Shown by `print(model)`."""
        return f'drop_prob={self.drop_prob:.3f}'


class HRFormerBlock(nn.Module):
    """Window attention and FFN, each with LayerNorm, stochastic depth and a residual connection.

    Args:
        channels: C.
        num_heads: heads of the attention.
        window: (Kh, Kw).
        mlp_ratio: hidden width of the FFN over C.
        drop_path: rate of stochastic depth on both residual branches.
        with_rpe: see `LocalWindowSelfAttention`.
        with_pad_mask: see `LocalWindowSelfAttention`.
        shifted: see `LocalWindowSelfAttention`.
        with_dwconv: see `CrossFFN`.
        norm_cfg: BatchNorm in the FFN.
        transformer_norm_cfg: the two LayerNorms.
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
        norm_cfg: dict = dict(type='BN'),
        transformer_norm_cfg: dict = dict(type='LN', eps=1e-6),
    ):
        super().__init__()
        self.norm1 = build_layer_norm(transformer_norm_cfg, channels)
        self.attn = LocalWindowSelfAttention(
            channels, num_heads, window, with_rpe, with_pad_mask, shifted
        )
        self.norm2 = build_layer_norm(transformer_norm_cfg, channels)
        self.ffn = CrossFFN(channels, int(channels * mlp_ratio), norm_cfg, with_dwconv)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        # Tokens are a channels-last view of the map: after the first LayerNorm a branch stays in
        # that layout, convolutions included, and neither permute copies.
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        x = self.attention_branch(x)
        x = self.ffn_branch(x)
        return x.permute(0, 3, 1, 2)

    def attention_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + self.drop_path(self.attn(self.norm1(x)))

    def ffn_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return x + self.drop_path(self.ffn(self.norm2(x)))
