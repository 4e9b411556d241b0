"""Operators of window attention on the map.

Shapes: B batch, H and W of a map, C channels, h heads, d = C / h head width, Kh x Kw window,
N = Kh * Kw tokens per window, nW windows of all maps.
"""

import torch
import torch.nn.functional as F

from ...layers.window import Window, window_partition, window_reverse
from ..operator import operator
from .norms import at_least_float32

aten = torch.ops.aten


@operator(
    '(Tensor qkv, Tensor qkv_bias, Tensor? rel_pos_bias, int num_heads, int[2] window) -> Tensor',
    qkv='B H W 3C', qkv_bias='3C', rel_pos_bias='h N N',
)  # fmt: skip
def window_attention(
    qkv: torch.Tensor,
    qkv_bias: torch.Tensor,
    rel_pos_bias: torch.Tensor | None,
    num_heads: int,
    window: Window,
) -> torch.Tensor:
    """Compute softmax(q k^T / sqrt(d) + rel_pos_bias) v in the windows of a centre-padded map.

    Args:
        qkv: (B, H, W, 3 C), queries, keys and values.
        qkv_bias: (3 C), those of padded tokens.
        rel_pos_bias: (h, N, N) or None.
        num_heads: h.
        window: (Kh, Kw).

    Returns:
        (B, H, W, C).
    """
    windows = _windows(qkv, qkv_bias, window)
    q, k, v = windows.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    # Fused kernels take a bias that has four axes and requires no gradient.
    mask = None if rel_pos_bias is None else rel_pos_bias.detach()[None].to(qkv.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return window_reverse(out.transpose(1, 2).flatten(2), window, qkv.shape[1:3])


@operator(
    '(Tensor qkv, Tensor qkv_bias, Tensor? rel_pos_bias, Tensor grad, int num_heads,'
    ' int[2] window) -> (Tensor, Tensor, Tensor?)',
    qkv='B H W 3C', qkv_bias='3C', rel_pos_bias='h N N', grad='B H W C',
)  # fmt: skip
def window_attention_backward(
    qkv: torch.Tensor,
    qkv_bias: torch.Tensor,
    rel_pos_bias: torch.Tensor | None,
    grad: torch.Tensor,
    num_heads: int,
    window: Window,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Compute the gradients of `window_attention`.

    Args:
        qkv: (B, H, W, 3 C).
        qkv_bias: (3 C).
        rel_pos_bias: (h, N, N) or None.
        grad: (B, H, W, C), gradient of its output.
        num_heads: h.
        window: (Kh, Kw).

    Returns:
        grad_qkv: (B, H, W, 3 C).
        grad_qkv_bias: (3 C), sum of grad_qkv over all tokens, padded ones included.
        grad_rel_pos_bias: (h, N, N), or None without `rel_pos_bias`.
    """
    dtype, size = qkv.dtype, qkv.shape[1:3]
    windows = _windows(qkv, qkv_bias, window).unflatten(-1, (3, num_heads, -1))
    nW, N, _, h, d = windows.shape
    scale = d**-0.5
    # A single copy: all products below then read and write contiguous matrices.
    q, k, v = windows.permute(2, 0, 3, 1, 4).contiguous().view(3, nW * h, N, d)
    q = q.mul_(scale)
    logits = at_least_float32(q @ k.transpose(1, 2)).view(nW, h, N, N)
    probs = (logits if rel_pos_bias is None else logits.add_(rel_pos_bias)).softmax(-1)
    grad = window_partition(grad, window).unflatten(-1, (h, d)).transpose(1, 2)
    grad = grad.reshape(nW * h, N, d)
    grads = torch.empty_like(windows, memory_format=torch.contiguous_format).view(3, nW * h, N, d)
    torch.bmm(probs.view(nW * h, N, N).transpose(1, 2).to(dtype), grad, out=grads[2])
    grad_probs = (grad @ v.transpose(1, 2)).view_as(probs).to(probs.dtype)
    grad_logits = aten._softmax_backward_data(grad_probs, probs, -1, probs.dtype)
    flat = grad_logits.view(nW * h, N, N).to(dtype)
    torch.bmm(flat, k, out=grads[0]).mul_(scale)
    torch.bmm(flat.transpose(1, 2), q, out=grads[1])
    grad_windows = grads.view(3, nW, h, N, d).permute(1, 3, 0, 2, 4).reshape(nW, N, 3 * h * d)
    grad_qkv = window_reverse(grad_windows, window, size).contiguous()
    grad_qkv_bias = grad_windows.sum((0, 1), dtype=probs.dtype)
    return grad_qkv, grad_qkv_bias, None if rel_pos_bias is None else grad_logits.sum(0)


def _windows(qkv: torch.Tensor, qkv_bias: torch.Tensor, window: Window) -> torch.Tensor:
    """Partition (B, H, W, 3 C) into (nW, N, 3 C) with `qkv_bias` at padded tokens."""
    qkv_bias = qkv_bias.to(qkv.dtype)
    return window_partition(qkv - qkv_bias, window).add_(qkv_bias)
