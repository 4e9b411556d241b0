"""Local-window multi-head self-attention with relative position bias (paper, section 3.1).

Parameter names and their order equal those of `mmpose.models.backbones.hrformer`, so that its
files load. One deviation: the padding mask also applies if a single axis is padded (MMPose skips it
unless both are).

Shapes: B batch, H and W of the map, C channels, Kh x Kw window, N = Kh * Kw tokens a window,
nW windows a map, h heads, d = C / h channels a head.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from .window import (
    Window,
    effective_shift,
    padding_mask,
    shift_mask,
    window_partition,
    window_reverse,
)


def relative_position_index(window: Window) -> torch.Tensor:
    """Row of the bias table for each pair of tokens, (N, N).

    Token i sees token j at the offset (yi - yj, xi - xj). Rows enumerate the
    (2 Kh - 1) x (2 Kw - 1) offsets in row-major order, starting at the most negative one.
    """
    y, x = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing='ij')
    y, x = y.flatten(), x.flatten()
    dy = y[:, None] - y[None, :] + window[0] - 1
    dx = x[:, None] - x[None, :] + window[1] - 1
    return dy * (2 * window[1] - 1) + dx


def attention_mask(
    size: tuple[int, int],
    window: Window,
    like: torch.Tensor,
    shift_size: Window,
    with_pad_mask: bool,
) -> torch.Tensor | None:
    """Combine `padding_mask` and `shift_mask` as far as they apply.

    Returns:
        (nW, N) or (nW, N, N), 0 or -inf; None without a mask.
    """
    shift = effective_shift(size, window, shift_size)
    pad_mask = padding_mask(size, window, like, shift) if with_pad_mask else None
    if not any(shift):
        return pad_mask
    mask = shift_mask(size, window, like, shift)
    if pad_mask is None:
        return mask
    mask = mask + pad_mask[:, None, :]
    # All keys of a padded query may be masked. Its output is discarded but must not be NaN.
    return mask.masked_fill_(torch.isinf(mask).all(-1, keepdim=True), 0.0)


def masked_bias(
    rel_pos_bias: torch.Tensor | None, mask: torch.Tensor, num_heads: int, num_windows: int
) -> torch.Tensor:
    """Sum of position bias and mask for all windows of a batch.

    Args:
        rel_pos_bias: (h, N, N) or (1, h, N, N), or None.
        mask: (nW, N) for all queries of a window, or (nW, N, N).
        num_heads: h.
        num_windows: B * nW.

    Returns:
        (B * nW, h, N, N).
    """
    mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]  # nW, 1, 1 or N, N
    if rel_pos_bias is None:
        mask = mask.expand(-1, num_heads, mask.shape[-1], -1)
    else:
        mask = mask + rel_pos_bias  # nW, h, N, N
    return mask.repeat(num_windows // len(mask), 1, 1, 1)


class WindowMSA(nn.Module):
    """Multi-head self-attention within each window.

    Args:
        channels: C, a multiple of `num_heads`.
        num_heads: h.
        window: window size, (Kh, Kw).
        with_rpe: add the learned relative position bias to the logits.

    Raises:
        ConfigError: `num_heads` does not divide `channels`.
    """

    def __init__(self, channels: int, num_heads: int, window: Window, with_rpe: bool = True):
        super().__init__()
        if channels % num_heads:
            raise ConfigError(f'channels={channels} cannot be divided among num_heads={num_heads}')
        self.num_heads = num_heads
        self.with_rpe = with_rpe
        if with_rpe:
            offsets = (2 * window[0] - 1) * (2 * window[1] - 1)
            self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, num_heads))
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
            self.register_buffer('relative_position_index', relative_position_index(window))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def rel_pos_bias(self) -> torch.Tensor | None:
        """Learned bias for each head and pair of tokens, (h, N, N)."""
        if not self.with_rpe:
            return None
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attend within each window.

        Args:
            x: tokens, (B * nW, N, C).
            mask: (nW, N) or (nW, N, N), 0 or -inf, added to the logits.

        Returns:
            (B * nW, N, C).
        """
        num_windows, N, C = x.shape
        q, k, v = self._qkv(x)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(mask, num_windows))
        return self.proj(x.transpose(1, 2).reshape(num_windows, N, C))

    def attention_weights(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the softmax of `forward`, to look at it.

        Args:
            x: tokens, (B * nW, N, C).
            mask: see `forward`.

        Returns:
            (B * nW, h, N, N): rows are queries and sum to 1.
        """
        q, k, _ = self._qkv(x)
        logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        bias = self._bias(mask, len(x))
        return (logits if bias is None else logits + bias).softmax(-1)

    def _qkv(self, x: torch.Tensor) -> torch.Tensor:
        """(B * nW, N, C) -> queries, keys and values, (3, B * nW, h, N, d)."""
        head_dim = x.shape[2] // self.num_heads
        qkv = self.qkv(x).view(*x.shape[:2], 3, self.num_heads, head_dim)
        return qkv.permute(2, 0, 3, 1, 4)

    def _bias(self, mask: torch.Tensor | None, num_windows: int) -> torch.Tensor | None:
        """Return what is added to the logits, with four axes, as fused kernels require."""
        bias = self.rel_pos_bias()
        if mask is not None:
            return masked_bias(bias, mask, self.num_heads, num_windows)
        return None if bias is None else bias[None]


class LocalWindowSelfAttention(nn.Module):
    """Window partition, attention within each window, and the inverse of the partition.

    Padded tokens are zeros, so that their query, key and value equal the projection's bias. As in
    the published networks, they take part in the softmax unless `with_pad_mask` is set.

    Args:
        channels: C.
        num_heads: h.
        window: window size, (Kh, Kw).
        with_rpe: see `WindowMSA`.
        with_pad_mask: mask padded tokens as keys.
        shifted: shift the windows by half a window (Swin), along axes with more than one window.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        window: Window,
        with_rpe: bool = True,
        with_pad_mask: bool = False,
        shifted: bool = False,
    ):
        super().__init__()
        self.window = window
        self.shift_size = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
        self.with_pad_mask = with_pad_mask
        self.attn = WindowMSA(channels, num_heads, window, with_rpe)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        size = x.shape[1:3]
        mask = attention_mask(size, self.window, x, self.shift_size, self.with_pad_mask)
        x = window_partition(x, self.window, self.shift_size)  # B * nW, N, C
        x = self.attn(x, mask)
        return window_reverse(x, self.window, size, self.shift_size)  # B, H, W, C

    def is_masked(self, size: tuple[int, int]) -> bool:
        """Return whether a map of `size` = (H, W) requires an attention mask."""
        if self.with_pad_mask and any(n % k for n, k in zip(size, self.window, strict=True)):
            return True
        return any(effective_shift(size, self.window, self.shift_size))
