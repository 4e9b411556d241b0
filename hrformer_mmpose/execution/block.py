"""Transformer block that takes the fastest path `policy` allows."""

import torch

from .. import layers
from . import policy, recompute
from .checkpointing import checkpointed
from .stock import stock


@stock
class HRFormerBlock(layers.HRFormerBlock):
    """`layers.HRFormerBlock` that saves fewer activations for the backward pass.

    Args:
        args: see `layers.HRFormerBlock`.
        with_cp: save only the block's input (gradient checkpointing).
        kwargs: see `layers.HRFormerBlock`.

    Attributes:
        with_recompute: recompute normalisation, GELU and attention in the backward pass if `policy`
            allows it. Set it to False for gradients of gradients.
    """

    with_recompute = True

    def __init__(self, *args, with_cp: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.with_cp = with_cp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return checkpointed(super().forward, self, x) if self.with_cp else super().forward(x)

    def attention_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if policy.may_recompute_attention(self, x):
            return recompute.attention(x, self.norm1, self.attn, self.drop_path.draw_scale(x))
        return super().attention_branch(x)

    def ffn_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if policy.may_recompute_ffn(self, x):
            return recompute.ffn(x, self.norm2, self.ffn, self.drop_path.draw_scale(x))
        return super().ffn_branch(x)
