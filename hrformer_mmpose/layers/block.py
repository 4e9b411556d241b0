"""The transformer block of HRFormer (paper, section 3.1): window attention, then the FFN."""

import contextlib

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..execution import policy, recompute
from ..execution.policy import stock
from .attention import LocalWindowSelfAttention
from .ffn import CrossFFN
from .norm import build_layer_norm
from .window import Window


@stock
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


@stock
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

    Attributes:
        with_recompute: compute normalisation, GELU and attention again in the backward pass
            (`recompute`) where `policy` allows it. False keeps what they computed, as gradients
            of gradients need it.
    """

    with_recompute = True

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
            contexts = lambda: (contextlib.nullcontext(), _FrozenStatistics(self))  # noqa: E731
            return checkpoint(self._forward, x, use_reentrant=False, context_fn=contexts)
        return self._forward(x)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        # Tokens are a channels-last view of the map: after the first LayerNorm a branch stays in
        # that layout, convolutions included, and neither permute copies.
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        if policy.may_recompute_attention(self, x):
            x = recompute.attention(x, self.norm1, self.attn, self.drop_path.keep(x))
        else:
            x = x + self.drop_path(self.attn(self.norm1(x)))
        if policy.may_recompute_ffn(self, x):
            x = recompute.ffn(x, self.norm2, self.ffn, self.drop_path.keep(x))
        else:
            x = x + self.drop_path(self.ffn(self.norm2(x)))
        return x.permute(0, 3, 1, 2)


class _FrozenStatistics:
    """Keep BatchNorm's running statistics while a checkpointed block is computed again.

    Outputs do not change (in training they use the batch's statistics), but without this the
    running mean and variance would be updated twice a step. Each backward pass through one graph
    enters this again.
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
