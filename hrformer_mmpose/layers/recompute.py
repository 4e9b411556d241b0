"""Training steps that keep less for the backward pass, and compute what is cheap again.

Kept as written, a block's FFN leaves six maps of four times its width behind: what convolutions,
BatchNorm and GELU were given. BatchNorm and GELU cost little; here only what convolutions gave is
kept, and their inputs are made again when gradients need them. Attention keeps query, key and
value, not the attention maps. Outputs and gradients are those of the plain layers.

Shapes: B batch, C and D channels in and out, H and W of a map; W windows, N tokens a window,
h heads, d head width.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .window import Window, window_merge, window_partition

aten = torch.ops.aten
_KNOWN = (nn.BatchNorm2d, nn.LayerNorm)  # what synchronises or differs takes the plain way


def applies(x: torch.Tensor, *norms: nn.Module) -> bool:
    """Whether a layer may take these steps: in eager training, with plain normalisation."""
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled(x.device.type)
        and all(type(norm) in _KNOWN and norm.weight is not None for norm in norms)
    )


def norm_gelu_conv(x: torch.Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> torch.Tensor:
    """conv(GELU(norm(x))), of which only `x` is kept: (B, C, H, W) -> (B, D, H, W)."""
    shape = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return _NormGeluConv.apply(
        x, norm.weight, norm.bias, *_statistics(norm), conv.weight, conv.bias, shape
    )


def norm_gelu(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """GELU(norm(x)), of which only `x` is kept: (B, C, H, W) -> (B, C, H, W)."""
    return _NormGelu.apply(x, norm.weight, norm.bias, *_statistics(norm))


def norm_linear(
    x: torch.Tensor,
    norm: nn.LayerNorm,
    weight: torch.Tensor,
    bias: torch.Tensor,
    window: Window | None = None,
) -> torch.Tensor:
    """norm(x) W^T + b, of which only `x` is kept.

    Args:
        x: (B, H, W, C). weight: (D, C). bias: (D,). window: partition what LayerNorm gave.

    Returns:
        (B, H, W, D), or with a window (B * nW, N, D).
    """
    return _NormLinear.apply(x, norm.weight, norm.bias, norm.eps, weight, bias, window)


def window_attention(qkv: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, of which only `qkv` is kept.

    Args:
        qkv: (W, N, 3, h, d). bias: (h, N, N).

    Returns:
        (W, N, h, d).
    """
    return _WindowAttention.apply(qkv, bias)


def _statistics(norm: nn.BatchNorm2d) -> tuple:
    """Running mean and variance, whether the batch's are used, momentum and eps of this step."""
    momentum = norm.momentum
    if norm.training and norm.track_running_stats:
        norm.num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(norm.num_batches_tracked)
    of_batch = norm.training or norm.running_mean is None
    return norm.running_mean, norm.running_var, of_batch, momentum or 0.0, norm.eps


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps, matrix, shift, window):
        y, mean, scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale, matrix)
        ctx.eps, ctx.window = eps, window
        return F.linear(y if window is None else window_partition(y, window), matrix, shift)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, bias, mean, scale, matrix = ctx.saved_tensors
        y = torch.native_layer_norm(x, x.shape[-1:], weight, bias, ctx.eps)[0]
        if ctx.window is not None:
            y = window_partition(y, ctx.window)
        flat = grad.flatten(0, -2)
        grad_matrix = flat.t() @ y.flatten(0, -2)
        grad = grad @ matrix
        if ctx.window is not None:
            grad = window_merge(grad, ctx.window, x.shape[1:3])
        grads = aten.native_layer_norm_backward(
            grad, x, x.shape[-1:], mean, scale, weight, bias, [*ctx.needs_input_grad[:3]]
        )
        return *grads, None, grad_matrix, flat.sum(0), None


class _NormGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, of_batch, momentum, eps):
        out, mean, scale = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, of_batch, momentum, eps
        )
        ctx.save_for_backward(x, weight, bias, running_mean, running_var, mean, scale)
        ctx.of_batch, ctx.eps = of_batch, eps
        return F.gelu(out)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        saved = ctx.saved_tensors
        normed = _normed(ctx, *saved)
        needed = ctx.needs_input_grad[:3]
        return *_norm_gelu_backward(ctx, *saved, normed, grad, needed), *[None] * 5


class _NormGeluConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x,
        weight,
        bias,
        running_mean,
        running_var,
        of_batch,
        momentum,
        eps,
        kernel,
        shift,
        shape,
    ):
        out, mean, scale = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, of_batch, momentum, eps
        )
        ctx.save_for_backward(x, weight, bias, running_mean, running_var, mean, scale, kernel)
        ctx.of_batch, ctx.eps, ctx.shape = of_batch, eps, shape
        stride, padding, dilation, groups = shape
        return F.conv2d(F.gelu(out), kernel, shift, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *saved, kernel = ctx.saved_tensors  # once: a checkpoint hands them out once
        stride, padding, dilation, groups = ctx.shape
        normed = _normed(ctx, *saved)
        needed = ctx.needs_input_grad
        grad, grad_kernel, grad_shift = aten.convolution_backward(
            grad, F.gelu(normed), kernel, [len(kernel)], stride, padding, dilation, False, [0, 0],
            groups, [any(needed[:3]), needed[8], needed[9]],
        )  # fmt: skip
        grads = (None,) * 3
        if grad is not None:
            grads = _norm_gelu_backward(ctx, *saved, normed, grad, needed[:3])
        return *grads, *[None] * 5, grad_kernel, grad_shift, None


def _normed(ctx, x, weight, bias, running_mean, running_var, mean, scale) -> torch.Tensor:
    """BatchNorm's output once more, from its input and the statistics it took."""
    if ctx.of_batch:
        running_mean, running_var = mean, scale.square().reciprocal() - ctx.eps
    settings = (running_mean, running_var, False, 0.0, ctx.eps)
    return torch.native_batch_norm(x, weight, bias, *settings)[0]


def _norm_gelu_backward(
    ctx, x, weight, _, running_mean, running_var, mean, scale, normed, grad, needed
) -> tuple:
    grad = aten.gelu_backward(grad, normed)
    return aten.native_batch_norm_backward(
        grad, x, weight, running_mean, running_var, mean, scale, ctx.of_batch, ctx.eps, [*needed]
    )


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv, bias):
        ctx.save_for_backward(qkv, bias)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # Fused kernels take a bias of four axes that asks for no gradient.
        bias = None if bias is None else bias.detach()[None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        qkv, bias = ctx.saved_tensors
        factor = qkv.shape[-1] ** -0.5
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # W, h, N, d
        q = q * factor
        logits = q @ k.transpose(-2, -1)
        attention = (logits if bias is None else logits.add_(bias)).softmax(-1)
        grad = grad.transpose(1, 2)
        grad_v = attention.transpose(-2, -1) @ grad
        grad_attention = grad @ v.transpose(-2, -1)
        grad_logits = aten._softmax_backward_data(grad_attention, attention, -1, attention.dtype)
        grads = (grad_logits @ k) * factor, grad_logits.transpose(-2, -1) @ q, grad_v
        grad_qkv = torch.stack(grads, 2).permute(0, 3, 2, 1, 4)  # W, N, 3, h, d
        return grad_qkv, None if bias is None else grad_logits.sum(0)
