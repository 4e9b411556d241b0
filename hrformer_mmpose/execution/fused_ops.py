"""What a transformer block does between matrix products, in as few passes as the machine allows.

Every operator here has two forms of the same figures: the function below in PyTorch's operators,
for any device and type, and one in C (`native`) for float32 on CPUs, which goes over its maps once.
The kernels know no gradients; `recompute.py` and `fused.py` make layers of them.

Shapes: B batch, H and W of a map, C channels, T = B * H * W tokens (written `...` before C), h
heads, d = C / h head width, Kh x Kw window, N = Kh * Kw tokens a window.
"""

import torch
import torch.nn.functional as F

from ..layers.window import Window, window_partition, window_reverse
from .cpu import operator

aten = torch.ops.aten


@operator(
    '(Tensor x, Tensor? scale=None, Tensor? offset=None, Tensor? residual=None) -> Tensor',
    x='... C', scale='C', offset='C', residual='... C',
)  # fmt: skip
def norm_gelu(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """gelu(x scale + offset) + residual: (..., C); scale and offset (C), by default 1 and 0."""
    out = F.gelu(x if scale is None else torch.addcmul(offset, x, scale))
    return out if residual is None else out + residual


@operator(
    '(Tensor x, Tensor grad, Tensor scale, Tensor offset, bool with_act=False)'
    ' -> (Tensor, Tensor, Tensor)',
    x='... C', grad='... C', scale='C', offset='C',
)  # fmt: skip
def norm_gelu_backward(
    x: torch.Tensor,
    grad: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    with_act: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradient of gelu(y) with y = x scale + offset.

    Returns:
        slope = grad gelu'(y) (..., C); gelu(y) if `with_act`, else an empty tensor; sums over all
        tokens of slope and of slope x, (2, C) in float64.
    """
    y = torch.addcmul(offset, x, scale)
    slope = aten.gelu_backward(grad, y)
    return slope, F.gelu(y) if with_act else x.new_empty(0), _sums(slope, x)


@operator(
    '(Tensor(a!) slope, Tensor x, Tensor abc) -> Tensor(a!)', slope='... C', x='... C', abc='3 C'
)
def scale_add_(slope: torch.Tensor, x: torch.Tensor, abc: torch.Tensor) -> torch.Tensor:
    """slope = a slope + b x + c by channel, (..., C); abc (3, C): the gradient of BatchNorm."""
    return torch.addcmul(torch.addcmul(abc[2], x, abc[1]), slope, abc[0], out=slope)


@operator('(Tensor x) -> Tensor', x='... C')
def moments(x: torch.Tensor) -> torch.Tensor:
    """Mean and (biased) variance over all tokens of (..., C): (2, C)."""
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
    """LayerNorm over C: (..., C), and mean and 1 / standard deviation of every token, (2, ...)."""
    out, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], gamma, beta, eps)
    return out, torch.stack((mean, rstd)).squeeze(-1)


@operator(
    '(Tensor x, Tensor statistics, Tensor gamma, Tensor grad, Tensor residual) -> (Tensor, Tensor)',
    x='... C', statistics='2 ...', gamma='C', grad='... C', residual='... C',
)  # fmt: skip
def layer_norm_backward(
    x: torch.Tensor,
    statistics: torch.Tensor,
    gamma: torch.Tensor,
    grad: torch.Tensor,
    residual: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of x plus `residual`, (..., C); those of gamma and beta, (2, C) in float64.

    Args:
        x, gamma: as given to `layer_norm`. statistics: as returned by it. residual: (..., C), the
            gradient of the shortcut around what follows the norm.
    """
    mean, rstd = statistics[..., None]
    out, grad_gamma, grad_beta = aten.native_layer_norm_backward(
        grad, x, x.shape[-1:], mean, rstd, gamma, gamma, [True] * 3
    )
    return out.add_(residual), torch.stack((grad_gamma, grad_beta)).double()


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor kernel, Tensor shift) -> (Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', kernel='9 C', shift='C',
)  # fmt: skip
def gelu_conv(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    kernel: torch.Tensor,
    shift: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth-wise 3x3 convolution of gelu(x scale + offset), padded by one.

    Args:
        x: (B, H, W, C). scale, offset, shift: (C). kernel: (9, C), the taps row by row.

    Returns:
        The map (B, H, W, C), and its `moments`.
    """
    out = _depth_wise(F.gelu(torch.addcmul(offset, x, scale)), kernel, shift)
    return out, moments(out)


@operator('(Tensor x, Tensor kernel, Tensor shift) -> Tensor', x='B H W C', kernel='9 C', shift='C')
def gelu_conv_gelu(x: torch.Tensor, kernel: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """gelu(conv(gelu(x)) + shift), the convolution as in `gelu_conv`: (B, H, W, C)."""
    return F.gelu(_depth_wise(F.gelu(x), kernel, shift))


@operator(
    '(Tensor x, Tensor scale, Tensor offset, Tensor z, Tensor slope, Tensor abc, Tensor kernel)'
    ' -> (Tensor, Tensor)',
    x='B H W C', scale='C', offset='C', z='B H W C', slope='B H W C', abc='3 C', kernel='9 C',
)  # fmt: skip
def gelu_conv_backward(
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    z: torch.Tensor,
    slope: torch.Tensor,
    abc: torch.Tensor,
    kernel: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of `gelu_conv`, whose output is z, and of the BatchNorm behind it.

    Args:
        x, scale, offset, kernel: as given to `gelu_conv`. z: what it returned. slope, abc: as of
            `scale_add_`, which gives the gradient of z.

    Returns:
        The gradient of x scale + offset, (B, H, W, C); in float64 (11, C): that of the nine taps,
        and the sums over all tokens of the first and of the first times x.
    """
    C = len(scale)
    y = torch.addcmul(offset, x, scale)
    grad = torch.addcmul(torch.addcmul(abc[2], z, abc[1]), slope, abc[0]).permute(0, 3, 1, 2)
    grad, grad_kernel, _ = aten.convolution_backward(
        grad, F.gelu(y).permute(0, 3, 1, 2), _filters(kernel), None, [1, 1], [1, 1], [1, 1],
        False, [0, 0], C, [True, True, False],
    )  # fmt: skip
    out = aten.gelu_backward(grad.permute(0, 2, 3, 1), y)
    return out, torch.cat((grad_kernel.view(C, 9).t().double(), _sums(out, x)))


@operator(
    '(Tensor qkv, Tensor shift, Tensor? bias, int heads, int[2] window) -> Tensor',
    qkv='B H W 3C', shift='3C', bias='h N N',
)  # fmt: skip
def window_attention(
    qkv: torch.Tensor, shift: torch.Tensor, bias: torch.Tensor | None, heads: int, window: Window
) -> torch.Tensor:
    """softmax(q k^T / sqrt(d) + bias) v in the windows of a map, padded around its centre.

    Args:
        qkv: (B, H, W, 3 C), queries, keys and values. shift: (3 C), those of padded positions.
        bias: (h, N, N) or None.

    Returns:
        (B, H, W, C).
    """
    windows = _windows(qkv, shift, window)
    q, k, v = windows.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    # Fused kernels take a bias of four axes that asks for no gradient.
    bias = None if bias is None else bias.detach()[None].to(qkv.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return window_reverse(out.transpose(1, 2).flatten(2), window, qkv.shape[1:3])


@operator(
    '(Tensor qkv, Tensor shift, Tensor? bias, Tensor grad, int heads, int[2] window)'
    ' -> (Tensor, Tensor, Tensor?)',
    qkv='B H W 3C', shift='3C', bias='h N N', grad='B H W C',
)  # fmt: skip
def window_attention_backward(
    qkv: torch.Tensor,
    shift: torch.Tensor,
    bias: torch.Tensor | None,
    grad: torch.Tensor,
    heads: int,
    window: Window,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The gradients of `window_attention`.

    Returns:
        Gradient of qkv; its sum over all positions, padded ones included (3 C), which is that of
        the bias of the projection before; gradient of bias (None without one).
    """
    size = qkv.shape[1:3]
    windows = _windows(qkv, shift, window).unflatten(-1, (3, heads, -1))
    W, N, _, h, d = windows.shape
    factor = d**-0.5
    # One copy, and all products below read and write matrices as they lie.
    q, k, v = windows.permute(2, 0, 3, 1, 4).contiguous().view(3, W * h, N, d)
    q = q.mul_(factor)
    logits = (q @ k.transpose(1, 2)).view(W, h, N, N)
    attention = (logits if bias is None else logits.add_(bias)).softmax(-1)
    grad = window_partition(grad, window).unflatten(-1, (h, d)).transpose(1, 2)
    grad = grad.reshape(W * h, N, d)
    grads = torch.empty_like(windows, memory_format=torch.contiguous_format).view(3, W * h, N, d)
    torch.bmm(attention.view(W * h, N, N).transpose(1, 2), grad, out=grads[2])
    grad_attention = (grad @ v.transpose(1, 2)).view_as(attention)
    grad_logits = aten._softmax_backward_data(grad_attention, attention, -1, attention.dtype)
    flat = grad_logits.view(W * h, N, N)
    torch.bmm(flat, k, out=grads[0]).mul_(factor)
    torch.bmm(flat.transpose(1, 2), q, out=grads[1])
    grad_windows = grads.view(3, W, h, N, d).permute(1, 3, 0, 2, 4).reshape(W, N, 3 * h * d)
    grad_qkv = window_reverse(grad_windows, window, size).contiguous()
    return grad_qkv, grad_windows.sum((0, 1)), None if bias is None else grad_logits.sum(0)


def _windows(qkv: torch.Tensor, shift: torch.Tensor, window: Window) -> torch.Tensor:
    """(B * nW, N, 3 C), `shift` at padded positions."""
    return window_partition(qkv - shift, window).add_(shift)


def _depth_wise(x: torch.Tensor, kernel: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Convolution of (B, H, W, C) with `kernel` (9, C), padded by one, plus `shift` (C)."""
    x = x.permute(0, 3, 1, 2)
    out = F.conv2d(x, _filters(kernel), shift, padding=1, groups=len(shift))
    return out.permute(0, 2, 3, 1)


def _filters(kernel: torch.Tensor) -> torch.Tensor:
    return kernel.t().reshape(-1, 1, 3, 3)


def _sums(slope: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    slope, x = slope.flatten(0, -2), x.flatten(0, -2)
    return torch.stack((slope.sum(0), (slope * x).sum(0))).double()
