"""Local-window multi-head self-attention with a relative position bias (paper, section 3.1).

Parameter names and their order follow `mmpose.models.backbones.hrformer`, whose files must load.
Deviation from it: the padding mask holds when a single axis is padded, too (there it is skipped
unless both are).

Shapes: B batch (of maps), H and W of the map, C channels, Kh x Kw window, N = Kh * Kw tokens a
window, nW windows a map, h heads, d = C / h head width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from .window import (
    Window,
    needed_shift,
    padding_mask,
    shift_mask,
    window_merge,
    window_partition,
)


def relative_position_index(window: Window) -> torch.Tensor:
    """Row of the bias table for each pair of tokens, (N, N).

    Token i sees token j at the offset (yi - yj, xi - xj); offsets are shifted to start at 0 and
    numbered row by row over the (2 Kh - 1) x (2 Kw - 1) possible ones.
    """
    y, x = torch.meshgrid(torch.arange(window[0]), torch.arange(window[1]), indexing='ij')
    y, x = y.flatten(), x.flatten()
    dy = y[:, None] - y[None, :] + window[0] - 1
    dx = x[:, None] - x[None, :] + window[1] - 1
    return dy * (2 * window[1] - 1) + dx


def masked_bias(
    bias: torch.Tensor | None, mask: torch.Tensor, num_heads: int, windows: int
) -> torch.Tensor:
    """What is added to the logits: position bias and padding mask, (B * nW, h, N, N).

    Args:
        bias: (h, N, N) or (1, h, N, N). mask: (nW, N) for all queries of a window, or
            (nW, N, N). num_heads: h. windows: B * nW.
    """
    mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]  # nW, 1, 1 or N, N
    mask = mask.expand(-1, num_heads, mask.shape[-1], -1) if bias is None else mask + bias
    return mask.repeat(windows // len(mask), 1, 1, 1)


def attention_mask(
    size: tuple[int, int], window: Window, like: torch.Tensor, shift: Window, with_pad_mask: bool
) -> torch.Tensor | None:
    """What of `padding_mask` and `shift_mask` a layer needs, added up; None for neither."""
    shift = needed_shift(size, window, shift)
    mask = padding_mask(size, window, like, shift) if with_pad_mask else None
    if not any(shift):
        return mask
    apart = shift_mask(size, window, like, shift)
    if mask is None:
        return apart
    # A padded query may have nothing left to attend to; its output is cut off, but must not be NaN.
    both = apart + mask[:, None, :]
    return both.masked_fill_(torch.isinf(both).all(-1, keepdim=True), 0.0)


class WindowMSA(nn.Module):
    """Multi-head self-attention inside each window.

    Args:
        channels: C, a multiple of `num_heads`.
        num_heads: h.
        window: (Kh, Kw).
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

    def position_bias(self) -> torch.Tensor | None:
        """The learned bias for every head and pair of tokens, (h, N, N)."""
        if not self.with_rpe:
            return None
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attend inside windows.

        Args:
            x: (B * nW, N, C).
            mask: (nW, N) or (nW, N, N), 0 or -inf, added to the logits of a window's queries.

        Returns:
            (B * nW, N, C).
        """
        bias = self.position_bias()
        windows, N, C = x.shape
        q, k, v = self.qkv(x).view(windows, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if mask is None:
            # Fused kernels take a bias of four axes only.
            bias = None if bias is None else bias[None]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            mask = masked_bias(bias, mask, self.num_heads, windows)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(out.transpose(1, 2).reshape(windows, N, C))


class LocalWindowSelfAttention(nn.Module):
    """Window partition, attention in each window, and back.

    Padded positions hold zeros, so that their query, key and value equal the projection's bias;
    as in the published networks they take part in the softmax unless `with_pad_mask` is set.

    Args:
        channels: C.
        num_heads: h.
        window: (Kh, Kw).
        with_rpe: see `WindowMSA`.
        with_pad_mask: keep real tokens from attending to padded ones.
        shifted: cut the windows half a window further down and to the right (Swin's), along the
            axes that take more than one window.
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
        self.shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
        self.with_pad_mask = with_pad_mask
        self.attn = WindowMSA(channels, num_heads, window, with_rpe)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        size = x.shape[1:3]
        mask = attention_mask(size, self.window, x, self.shift, self.with_pad_mask)
        windows = self.attn(window_partition(x, self.window, self.shift), mask)
        return window_merge(windows, self.window, size, self.shift)

    def is_masked(self, size: tuple[int, int]) -> bool:
        """Whether a map of `size` = (H, W) needs a padding mask or a shift mask."""
        if self.with_pad_mask and any(n % k for n, k in zip(size, self.window, strict=True)):
            return True
        return any(needed_shift(size, self.window, self.shift))
