"""Transformer block that takes the fastest path `policy` allows."""

import contextlib

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .. import layers
from . import policy, recompute
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
        if self.with_cp and x.requires_grad:
            contexts = lambda: (contextlib.nullcontext(), _FrozenStatistics(self))  # noqa: E731
            return checkpoint(super().forward, x, use_reentrant=False, context_fn=contexts)
        return super().forward(x)

    def attention_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if policy.may_recompute_attention(self, x):
            return recompute.attention(x, self.norm1, self.attn, self.drop_path.scale(x))
        return super().attention_branch(x)

    def ffn_branch(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if policy.may_recompute_ffn(self, x):
            return recompute.ffn(x, self.norm2, self.ffn, self.drop_path.scale(x))
        return super().ffn_branch(x)


class _FrozenStatistics:
    """Freeze BatchNorm's running statistics while a checkpointed block is recomputed.

    Outputs do not change, since training uses the batch's statistics. Without it a step would
    update running statistics twice. Each backward pass through a graph enters the context again.
    """

    def __init__(self, module: nn.Module):
        self.module = module

    def __enter__(self) -> None:
        norms = [m for m in self.module.modules() if isinstance(m, _BatchNorm) and m.training]
        counts = [norm.num_batches_tracked for norm in norms]
        self.saved = [
            (norm, norm.momentum, count, None if count is None else count.clone())
            for norm, count in zip(norms, counts, strict=True)
        ]
        for norm in norms:
            norm.momentum = 0.0

    def __exit__(self, *error) -> None:
        for norm, momentum, count, value in self.saved:
            norm.momentum = momentum
            if count is not None:
                count.copy_(value)
