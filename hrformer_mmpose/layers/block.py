"""The transformer block of HRFormer (paper, section 3.1): window attention, then the FFN."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

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
    """x + attention(LN(x)), then x + FFN(LN(x)).

    Args:
        channels: C.
        num_heads: heads of the attention.
        window: (Kh, Kw).
        mlp_ratio: hidden width of the FFN over C.
        drop_path: rate of stochastic depth on both residual branches.
        with_rpe, with_pad_mask, shifted: see `LocalWindowSelfAttention`.
        with_dwconv: see `CrossFFN`.
        with_cp: keep only the block's input for the backward pass and compute the rest again.
        norm_cfg: BatchNorm in the FFN. transformer_norm_cfg: the two LayerNorms.
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
        with_cp: bool = False,
        norm_cfg: dict = dict(type='BN'),
        transformer_norm_cfg: dict = dict(type='LN', eps=1e-6),
    ):
        super().__init__()
        self.with_cp = with_cp
        self.norm1 = build_layer_norm(transformer_norm_cfg, channels)
        self.attn = LocalWindowSelfAttention(
            channels, num_heads, window, with_rpe, with_pad_mask, shifted
        )
        self.norm2 = build_layer_norm(transformer_norm_cfg, channels)
        self.ffn = CrossFFN(channels, int(channels * mlp_ratio), norm_cfg, with_dwconv)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.with_cp and x.requires_grad:
            contexts = lambda: (contextlib.nullcontext(), _frozen_running_statistics(self))  # noqa: E731
            return checkpoint(self._forward, x, use_reentrant=False, context_fn=contexts)
        return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        # Tokens are a channels-last view of the map: after the first LayerNorm a branch stays in
        # that layout, convolutions included, and neither permute copies.
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        x = self.attn(x, self.norm1, self.drop_path.keep(x))
        x = self.ffn(x, self.norm2, self.drop_path.keep(x))
        return x.permute(0, 3, 1, 2)


@contextlib.contextmanager
def _frozen_running_statistics(module: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics while a checkpointed block is computed again.

    Outputs do not change (in training they use the batch's statistics), but without this the
    running mean and variance would be updated twice a step.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.sub_(1)
