"""Fused operators: what a transformer block computes between its matrix products.

Each operator is written once here: its schema, the shapes of its tensors and its plain form, which
runs on all devices and types. `cpu/` and `cuda/` hold kernels of the same names that pass over a
map once; the last lines register them, and PyTorch dispatches by device. Operators have no
derivatives: `recompute.py` and `inference.py` build layers from them.

A BatchNorm appears as `scale` and `offset`, (C) each: x scale + offset.

Shapes: B batch, H and W of a map, C channels, T = B * H * W tokens (written `...` before C), h
heads, d = C / h head width, Kh x Kw window, N = Kh * Kw tokens per window, nW windows of
all maps.
"""

import torch
import torch.nn.functional as F

from ..layers.window import Window, window_partition, window_reverse
from . import cpu, cuda
from .operator import operator, register_kernels

aten = torch.ops.aten


@operator(
    '(Tensor x, Tensor? scale=None, Tensor? offset=None, Tensor? residual=None) -> Tensor',
    x='... C', scale='C', offset='C', residual='... C',
)  # fmt: skip
def bn_gelu(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute gelu(x scale + offset) + residual.

    Args:
        x: (..., C).
        scale: (C), or None for 1.
        offset: (C), or None for 0.
        residual: (..., C), or None for 0.

    Returns:
        (..., C).
    """
    out = F.gelu(x if scale is None else torch.addcmul(offset, x, scale))
    return out if residual is None else out + residual


@operator(
    '(Tensor x, Tensor grad, Tensor scale, Tensor offset, bool with_act=False)'
    ' -> (Tensor, Tensor, Tensor)',
    x='... C', grad='... C', scale='C', offset='C',
)  # fmt: skip
def bn_gelu_backward(
    x: torch.Tensor,
    grad: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    with_act: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradient of GELU's input, x scale + offset.

    Args:
        x: (..., C).
        grad: (..., C), gradient of GELU's output.
        scale: (C).
        offset: (C).
        with_act: also return GELU's output.

    Returns:
        grad_pre_act: (..., C), gradient of x scale + offset.
        act: (..., C), GELU's output; empty without `with_act`.
        sums: (2, C) in float64, sums over tokens of grad_pre_act and grad_pre_act x.
    """
    pre_act = torch.addcmul(offset, x, scale)
    grad_pre_act = aten.gelu_backward(grad, pre_act)
    act = F.gelu(pre_act) if with_act else x.new_empty(0)
    return grad_pre_act, act, _sums(grad_pre_act, x)


@operator(
    '(Tensor(a!) grad, Tensor x, Tensor bn_grad_coeffs) -> Tensor(a!)',
    grad='... C', x='... C', bn_grad_coeffs='3 C',
)  # fmt: skip
def bn_backward_(grad: torch.Tensor, x: torch.Tensor, bn_grad_coeffs: torch.Tensor) -> torch.Tensor:
    """Replace the gradient of BatchNorm's output by that of its input: a grad + b x + c.

    Args:
        grad: (..., C), gradient of the output; overwritten.
        x: (..., C), BatchNorm's input.
        bn_grad_coeffs: (3, C), a, b and c of each channel.

    Returns:
        `grad`.
    """
    a, b, c = bn_grad_coeffs
    return torch.addcmul(torch.addcmul(c, x, b), grad, a, out=grad)


@operator('(Tensor x) -> Tensor', x='... C')
def moments(x: torch.Tensor) -> torch.Tensor:
    """Compute mean and biased variance of each channel over all tokens.

    Args:
        x: (..., C).

    Returns:
        (2, C).
    """
    x = x if x.dtype is torch.float64 else x.float()
    variance, mean = torch.var_mean(x.flatten(0, -2), 0, unbiased=False)
    return torch.stack((mean, variance))


@operator(
    '(Tensor x, Tensor gamma, Tensor beta, float eps) -> (Tensor, Tensor)',
    x='... C', gamma='C', beta='C',
)  # fmt: skip
def layer_norm(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute LayerNorm over the channels.

    Args:
        x: (..., C).
        gamma: (C), scale.
        beta: (C), offset.
        eps: added to the variance.

    Returns:
        out: (..., C).
        mean_and_rstd: (2, ...), mean and 1 / standard deviation of each token.
    """
    out, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, eps)
    return out, torch.stack((mean, rstd)).squeeze(-1)


@operator(
    '(Tensor x, Tensor mean_and_rstd, Tensor gamma, Tensor grad, Tensor residual)'
    ' -> (Tensor, Tensor)',
    x='... C', mean_and_rstd='2 ...', gamma='C', grad='... C', residual='... C',
)  # fmt: skip
def layer_norm_backward(
    x: torch.Tensor,
    mean_and_rstd: torch.Tensor,
    gamma: torch.Tensor,
    grad: torch.Tensor,
    residual: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of `layer_norm`.

    Args:
        x: (..., C), its input.
        mean_and_rstd: (2, ...), its second result.
        gamma: (C), its scale.
        grad: (..., C), gradient of its output.
        residual: (..., C), gradient of the shortcut around the branch that starts with the norm.

    Returns:
        grad_x: (..., C), gradient of x plus `residual`.
        grad_gamma_and_beta: (2, C) in float64.
    """
    mean, rstd = mean_and_rstd[..., None]
    out, grad_gamma, grad_beta = aten.native_layer_norm_backward(
        grad, x, x.shape[-1:], mean, rstd, gamma, gamma, [True] * 3
    )
    return out.add_(residual), torch.stack((grad_gamma, grad_beta)).double()


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor conv_weight, Tensor conv_bias)'
    ' -> (Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', conv_weight='9 C', conv_bias='C',
)  # fmt: skip
def gelu_dwconv(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the depth-wise 3x3 convolution, padding 1, of gelu(x scale + offset).

    Args:
        x: (B, H, W, C).
        scale: (C).
        offset: (C).
        conv_weight: (9, C), taps in row-major order.
        conv_bias: (C).

    Returns:
        out: (B, H, W, C).
        moments: (2, C), `moments` of `out`.
    """
    out = _dwconv(F.gelu(torch.addcmul(offset, x, scale)), conv_weight, conv_bias)
    return out, moments(out)


@operator(
    '(Tensor x, Tensor conv_weight, Tensor conv_bias) -> Tensor',
    x='B H W C', conv_weight='9 C', conv_bias='C',
)  # fmt: skip
def gelu_dwconv_gelu(
    x: torch.Tensor, conv_weight: torch.Tensor, conv_bias: torch.Tensor
) -> torch.Tensor:
    """Compute gelu(conv(gelu(x))) with the convolution of `gelu_dwconv`.

    Args:
        x: (B, H, W, C).
        conv_weight: (9, C).
        conv_bias: (C).

    Returns:
        (B, H, W, C).
    """
    return F.gelu(_dwconv(F.gelu(x), conv_weight, conv_bias))


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor conv_out, Tensor grad_pre_act,'
    ' Tensor bn_grad_coeffs, Tensor conv_weight) -> (Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', conv_out='B H W C', grad_pre_act='B H W C',
    bn_grad_coeffs='3 C', conv_weight='9 C',
)  # fmt: skip
def gelu_dwconv_backward(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    conv_out: torch.Tensor,
    grad_pre_act: torch.Tensor,
    bn_grad_coeffs: torch.Tensor,
    conv_weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of `gelu_dwconv` and the BatchNorm after it.

    Args:
        x: (B, H, W, C), input of `gelu_dwconv`.
        scale: (C).
        offset: (C).
        conv_out: (B, H, W, C), its output.
        grad_pre_act: (B, H, W, C), gradient of BatchNorm's output.
        bn_grad_coeffs: (3, C), see `bn_backward_`.
        conv_weight: (9, C).

    Returns:
        grad: (B, H, W, C), gradient of x scale + offset.
        sums: (11, C) in float64, gradients of the nine taps, sums over tokens of grad and grad x.
    """
    C = len(scale)
    a, b, c = bn_grad_coeffs
    pre_act = torch.addcmul(offset, x, scale)
    grad = torch.addcmul(torch.addcmul(c, conv_out, b), grad_pre_act, a).permute(0, 3, 1, 2)
    grad, grad_weight, _ = aten.convolution_backward(
        grad, F.gelu(pre_act).permute(0, 3, 1, 2), _filters(conv_weight), None, [1, 1], [1, 1],
        [1, 1], False, [0, 0], C, [True, True, False],
    )  # fmt: skip
    out = aten.gelu_backward(grad.permute(0, 2, 3, 1), pre_act)
    return out, torch.cat((grad_weight.view(C, 9).t().double(), _sums(out, x)))


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
    size = qkv.shape[1:3]
    windows = _windows(qkv, qkv_bias, window).unflatten(-1, (3, num_heads, -1))
    nW, N, _, h, d = windows.shape
    scale = d**-0.5
    # A single copy: all products below then read and write contiguous matrices.
    q, k, v = windows.permute(2, 0, 3, 1, 4).contiguous().view(3, nW * h, N, d)
    q = q.mul_(scale)
    logits = (q @ k.transpose(1, 2)).view(nW, h, N, N)
    probs = (logits if rel_pos_bias is None else logits.add_(rel_pos_bias)).softmax(-1)
    grad = window_partition(grad, window).unflatten(-1, (h, d)).transpose(1, 2)
    grad = grad.reshape(nW * h, N, d)
    grads = torch.empty_like(windows, memory_format=torch.contiguous_format).view(3, nW * h, N, d)
    torch.bmm(probs.view(nW * h, N, N).transpose(1, 2), grad, out=grads[2])
    grad_probs = (grad @ v.transpose(1, 2)).view_as(probs)
    grad_logits = aten._softmax_backward_data(grad_probs, probs, -1, probs.dtype)
    flat = grad_logits.view(nW * h, N, N)
    torch.bmm(flat, k, out=grads[0]).mul_(scale)
    torch.bmm(flat.transpose(1, 2), q, out=grads[1])
    grad_windows = grads.view(3, nW, h, N, d).permute(1, 3, 0, 2, 4).reshape(nW, N, 3 * h * d)
    grad_qkv = window_reverse(grad_windows, window, size).contiguous()
    grad_rel_pos_bias = None if rel_pos_bias is None else grad_logits.sum(0)
    return grad_qkv, grad_windows.sum((0, 1)), grad_rel_pos_bias


def _windows(qkv: torch.Tensor, qkv_bias: torch.Tensor, window: Window) -> torch.Tensor:
    """Partition (B, H, W, 3 C) into (nW, N, 3 C) with `qkv_bias` at padded tokens."""
    return window_partition(qkv - qkv_bias, window).add_(qkv_bias)


def _dwconv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    x = F.conv2d(x.permute(0, 3, 1, 2), _filters(weight), bias, padding=1, groups=len(bias))
    return x.permute(0, 2, 3, 1)


def _filters(conv_weight: torch.Tensor) -> torch.Tensor:
    """(9, C) -> (C, 1, 3, 3)."""
    return conv_weight.t().reshape(-1, 1, 3, 3)


def _sums(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum grad and grad x over tokens: (2, C) in float64."""
    grad, x = grad.flatten(0, -2), x.flatten(0, -2)
    return torch.stack((grad.sum(0), (grad * x).sum(0))).double()


register_kernels('CPU', cpu)
register_kernels('CUDA', cuda)
