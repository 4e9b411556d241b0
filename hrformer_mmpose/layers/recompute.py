"""Training steps that keep less for the backward pass, and compute what is cheap again.

Kept as written, a block's FFN leaves six maps of four times its width behind: what convolutions,
BatchNorm and GELU were given. BatchNorm and GELU cost little; here only what convolutions gave is
kept, and their inputs are made again when gradients need them. Attention keeps query, key and
value, not the attention maps. Outputs and gradients are those of the plain layers.

The BatchNorm behind the FFN's first layer costs no pass over its wide map at all: mean and variance
of W x + b follow from mean and covariance of x, and so do the gradients (`norm_linear_norm`).

Shapes: B batch, C and D channels in and out, H and W of a map, T = B * H * W tokens; W windows,
N tokens a window, h heads, d head width.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from .kernels import linear
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


def norm_gelu_linear(
    x: torch.Tensor, norm: nn.BatchNorm2d, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """GELU(norm(x)) W^T + b, of which only `x` is kept: (B, C, H, W) -> (B, D, H, W)."""
    return _NormGeluLinear.apply(x, norm.weight, norm.bias, *_statistics(norm), weight, bias)


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


def norm_linear_norm(
    x: torch.Tensor,
    layer_norm: nn.LayerNorm,
    weight: torch.Tensor,
    bias: torch.Tensor,
    norm: nn.BatchNorm2d,
) -> torch.Tensor:
    """norm(layer_norm(x) W^T + b), of which only `x` is kept: (B, H, W, C) -> (B, H, W, D).

    With y the output of LayerNorm, m its mean and G its covariance over all tokens, the map
    h = W y + b has mean W m + b and variance diag(W G W^T); BatchNorm is then part of the weights,
    and its gradients follow from grad^T (y - m), which the gradient of W needs anyway.
    """
    return _NormLinearNorm.apply(
        x, layer_norm.weight, layer_norm.bias, layer_norm.eps, weight, bias,
        norm.weight, norm.bias, *_statistics(norm),
    )  # fmt: skip


def gelu_conv(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """conv(GELU(x)), of which only `x` is kept: (B, C, H, W) -> (B, D, H, W)."""
    shape = conv.stride, conv.padding, conv.dilation, conv.groups
    return _GeluConv.apply(x, conv.weight, conv.bias, shape)


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
        return linear(y if window is None else window_partition(y, window), matrix, shift)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, bias, mean, scale, matrix = ctx.saved_tensors
        y = torch.native_layer_norm(x, x.shape[-1:], weight, bias, ctx.eps)[0]
        if ctx.window is not None:
            y = window_partition(y, ctx.window)
        flat = grad.flatten(0, -2)
        grad_matrix = _outer(flat, y.flatten(0, -2))
        grad_shift = _column_sum(flat)
        grad = linear(grad, matrix.t())
        if ctx.window is not None:
            grad = window_merge(grad, ctx.window, x.shape[1:3])
        grads = aten.native_layer_norm_backward(
            grad, x, x.shape[-1:], mean, scale, weight, bias, [*ctx.needs_input_grad[:3]]
        )
        return *grads, None, grad_matrix, grad_shift, None


class _NormLinearNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x, weight, bias, eps, matrix, shift,
        gamma, beta, running_mean, running_var, of_batch, momentum, norm_eps,
    ):  # fmt: skip
        y, mean, scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        flat = y.flatten(0, -2)
        centre = _column_sum(flat) / len(flat) if of_batch else None
        covariance = None
        if of_batch:
            flat.sub_(centre)
            covariance = (flat.t() @ flat) / len(flat)
            variance = ((matrix @ covariance) * matrix).sum(1)
            _update(running_mean, F.linear(centre, matrix, shift), momentum)
            _update(running_var, variance * (len(flat) / max(len(flat) - 1, 1)), momentum)
            inverse = (variance + norm_eps).rsqrt()
            offset = beta
        else:
            inverse = (running_var + norm_eps).rsqrt()
            offset = (shift - running_mean) * inverse * gamma + beta
        ctx.save_for_backward(
            x, weight, bias, mean, scale, matrix, shift, gamma, running_mean, inverse, centre,
            covariance,
        )  # fmt: skip
        ctx.eps = eps
        return linear(y, matrix * (inverse * gamma)[:, None], offset)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (
            x, weight, bias, mean, scale, matrix, shift, gamma, running_mean, inverse, centre,
            covariance,
        ) = ctx.saved_tensors  # fmt: skip
        y = torch.native_layer_norm(x, x.shape[-1:], weight, bias, ctx.eps)[0]
        flat, grad_flat = y.flatten(0, -2), grad.flatten(0, -2)
        if centre is not None:
            flat.sub_(centre)
        total = inverse * gamma  # by which a row of the matrix is scaled
        product = _outer(grad_flat, flat)
        grad_beta = _column_sum(grad_flat)
        grad_gamma = (product * matrix).sum(1)
        grad_matrix = product
        if centre is None:
            grad_gamma = grad_gamma + (shift - running_mean) * grad_beta
        grad_gamma = grad_gamma * inverse
        if centre is None:
            grad_shift = grad_beta * total
            grad_y = linear(grad, (matrix * total[:, None]).t())
        else:
            # h's gradient is total (grad - grad_beta / T - h' grad_gamma / T) with h' = (h - mean)
            # inverse. Neither it nor y has a mean, so that the shift has no gradient.
            grad_shift = torch.zeros_like(shift)
            rows = (inverse * grad_gamma)[:, None] * matrix
            grad_matrix = product - rows @ covariance
            scaled = matrix * total[:, None]
            back = (scaled.t() @ rows) / -len(flat)
            constant = (grad_beta @ scaled) / -len(flat)
            grad_y = linear(grad, scaled.t(), constant, linear(y, back))
        grads = aten.native_layer_norm_backward(
            grad_y, x, x.shape[-1:], mean, scale, weight, bias, [*ctx.needs_input_grad[:3]]
        )
        grad_matrix = grad_matrix * total[:, None]
        return *grads, None, grad_matrix, grad_shift, grad_gamma, grad_beta, *[None] * 5


def _update(running: torch.Tensor | None, value: torch.Tensor, momentum: float) -> None:
    if running is not None:
        running.lerp_(value, momentum)


def _column_sum(x: torch.Tensor) -> torch.Tensor:
    """x.sum(0) of a tall matrix, as a product: several times as fast on a CPU."""
    return (x.new_ones(1, len(x)) @ x)[0]


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a^T b of tall matrices, the narrower one first: on a CPU the other order takes longer."""
    return (b.t() @ a).t() if b.shape[1] < a.shape[1] else a.t() @ b


class _GeluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel, shift, shape):
        ctx.save_for_backward(x, kernel)
        ctx.shape = shape
        stride, padding, dilation, groups = shape
        return F.conv2d(F.gelu(x), kernel, shift, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, kernel = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.shape
        grads = aten.convolution_backward(
            grad, F.gelu(x), kernel, [len(kernel)], stride, padding, dilation, False, [0, 0],
            groups, [*ctx.needs_input_grad[:3]],
        )  # fmt: skip
        return None if grads[0] is None else aten.gelu_backward(grads[0], x), *grads[1:], None


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


class _NormGeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x, weight, bias, running_mean, running_var, of_batch, momentum, eps, matrix, shift
    ):
        out, mean, scale = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, of_batch, momentum, eps
        )
        ctx.save_for_backward(x, weight, bias, running_mean, running_var, mean, scale, matrix)
        ctx.of_batch, ctx.eps = of_batch, eps
        return linear(F.gelu(out).permute(0, 2, 3, 1), matrix, shift).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        *saved, matrix = ctx.saved_tensors  # once: a checkpoint hands them out once
        normed = _normed(ctx, *saved)
        grad = grad.permute(0, 2, 3, 1)
        flat = grad.flatten(0, -2)
        grad_matrix = _outer(flat, F.gelu(normed).permute(0, 2, 3, 1).flatten(0, -2))
        needed = ctx.needs_input_grad[:3]
        grads = (None,) * 3
        if any(needed):
            back = linear(grad, matrix.t()).permute(0, 3, 1, 2)
            grads = _norm_gelu_backward(ctx, *saved, normed, back, needed)
        return *grads, *[None] * 5, grad_matrix, _column_sum(flat)


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
        W, N, _, h, d = qkv.shape
        factor = d**-0.5
        # One copy, and all products below read and write matrices as they lie.
        q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous().view(3, W * h, N, d)
        q = q.mul_(factor)
        logits = (q @ k.transpose(1, 2)).view(W, h, N, N)
        attention = (logits if bias is None else logits.add_(bias)).softmax(-1)
        grad = grad.transpose(1, 2).reshape(W * h, N, d)
        grads = torch.empty_like(qkv, memory_format=torch.contiguous_format).view(3, W * h, N, d)
        torch.bmm(attention.view(W * h, N, N).transpose(1, 2), grad, out=grads[2])
        grad_attention = (grad @ v.transpose(1, 2)).view_as(attention)
        grad_logits = aten._softmax_backward_data(grad_attention, attention, -1, attention.dtype)
        flat = grad_logits.view(W * h, N, N)
        torch.bmm(flat, k, out=grads[0]).mul_(factor)
        torch.bmm(flat.transpose(1, 2), q, out=grads[1])
        grad_qkv = grads.view(3, W, h, N, d).permute(1, 3, 0, 2, 4).contiguous()
        return grad_qkv, None if bias is None else grad_logits.sum(0)
