"""Training steps that keep less for the backward pass, and compute what is cheap again.

Kept as written, a block's FFN leaves six maps of four times its width behind: what convolutions,
BatchNorm and GELU were given. BatchNorm and GELU cost little; here only what the first layer and
the convolution gave is kept, and the rest is made again when gradients need it. Attention keeps
query, key and value of the map's own tokens, not the attention maps, nor what pads a window.
The shortcut around each is part of it. Outputs and gradients are those of the plain layers.

A step is a chain of matrix products (`kernels.linear`) and of what lies between them (`passes`).

Shapes: B batch, H and W of a map, T = B * H * W tokens, C channels, D hidden channels of the FFN, h
heads, N tokens a window.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from ..layers.attention import LocalWindowSelfAttention
from ..layers.ffn import CrossFFN
from . import fused_ops as passes
from .linear import linear

TALL = 512  # tokens of an image from which on `_outer` multiplies image by image


def attention(
    x: torch.Tensor,
    norm: nn.LayerNorm,
    layer: LocalWindowSelfAttention,
    keep: torch.Tensor | None = None,
) -> torch.Tensor:
    """x + keep layer(norm(x)): (B, H, W, C) -> (B, H, W, C).

    Args:
        keep: (B, 1, 1, 1), the scale of stochastic depth; None for 1.
    """
    attn = layer.attn
    qkv, proj = attn.qkv, attn.proj
    return _Attention.apply(
        x.contiguous(), norm.weight, norm.bias, qkv.weight, qkv.bias, attn.rel_pos_bias(),
        proj.weight, proj.bias, keep, norm.eps, attn.num_heads, layer.window,
    )  # fmt: skip


def ffn(
    x: torch.Tensor, norm: nn.LayerNorm, layer: CrossFFN, keep: torch.Tensor | None = None
) -> torch.Tensor:
    """x + keep layer(norm(x)): (B, H, W, C) -> (B, H, W, C).

    Args:
        keep: see `attention`.
    """
    fc1, fc2, conv, norm1, norm2, norm3 = (
        getattr(layer, name) for name in ('fc1', 'fc2', 'dw3x3', 'norm1', 'norm2', 'norm3')
    )
    second = (None,) * 4 if conv is None else (conv.weight, conv.bias, norm2.weight, norm2.bias)
    statistics = [None if bn is None else _Statistics.of(bn) for bn in (norm1, norm2, norm3)]
    # On tokens a 1x1 convolution is a linear layer.
    return _FFN.apply(
        x.contiguous(), norm.weight, norm.bias, fc1.weight.flatten(1), fc1.bias, norm1.weight,
        norm1.bias, *second, fc2.weight.flatten(1), fc2.bias, norm3.weight, norm3.bias, keep,
        norm.eps, statistics,
    )  # fmt: skip


def _first_order(backward: Callable) -> Callable:
    """Refuse gradients that are to be differentiated again, and those alone.

    PyTorch's `once_differentiable` lets them pass, as constants, where the gradient of the output
    needs none itself.
    """

    @functools.wraps(backward)
    def checked(ctx, grad: torch.Tensor) -> tuple:
        if torch.is_grad_enabled():
            raise RuntimeError(
                'create_graph=True needs the plain layers: set with_recompute = False on each '
                'HRFormerBlock before the forward pass'
            )
        return backward(ctx, grad)

    return checked


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x, gamma, beta, matrix, shift, bias, proj, proj_shift, keep, eps, heads, window
    ):
        y, statistics = passes.layer_norm(x, gamma, beta, eps)
        qkv = linear(y, matrix, shift)
        attended = passes.window_attention(qkv, shift, bias, heads, window)
        ctx.save_for_backward(
            x, gamma, beta, statistics, matrix, shift, qkv, bias, attended, proj, keep
        )
        ctx.settings = eps, heads, window
        if keep is None:
            return linear(attended, proj, proj_shift, x)
        return torch.addcmul(x, linear(attended, proj, proj_shift), keep)

    @staticmethod
    @_first_order
    def backward(ctx, residual):
        # Once: a checkpoint hands them out once.
        saved = ctx.saved_tensors
        x, gamma, beta, statistics, matrix, shift, qkv, bias, attended, proj, keep = saved
        eps, heads, window = ctx.settings
        grad = residual if keep is None else residual * keep
        grad_proj, grad_proj_shift = _outer(grad, attended), _column_sum(grad.flatten(0, -2))
        grad, grad_shift, grad_bias = passes.window_attention_backward(
            qkv, shift, bias, linear(grad, proj.t()), heads, window
        )
        y, _ = passes.layer_norm(x, gamma, beta, eps)
        grad_matrix = _outer(grad, y)
        grad, grads = passes.layer_norm_backward(
            x, statistics, gamma, linear(grad, matrix.t()), residual
        )
        return (
            grad, *grads.to(x.dtype), grad_matrix, grad_shift, grad_bias, grad_proj,
            grad_proj_shift, None, None, None, None,
        )  # fmt: skip


class _FFN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x, gamma, beta, fc1, shift1, gamma1, beta1, conv, conv_shift, gamma2, beta2, fc2,
        shift2, gamma3, beta3, keep, eps, statistics,
    ):  # fmt: skip
        y, of_tokens = passes.layer_norm(x, gamma, beta, eps)
        first = wide = linear(y, fc1, shift1)
        norm1 = norm2 = _Norm.of(statistics[0], gamma1, beta1, first)
        if conv is not None:
            wide, moments = passes.gelu_conv(first, *norm1.line, _taps(conv), conv_shift)
            norm2 = _Norm.of(statistics[1], gamma2, beta2, wide, moments)
        last = linear(passes.norm_gelu(wide, *norm2.line), fc2, shift2)
        norm3 = _Norm.of(statistics[2], gamma3, beta3, last)
        ctx.save_for_backward(
            x, gamma, beta, of_tokens, first, wide, last, fc1, fc2, conv, keep,
            *norm1, *norm2, *norm3,
        )  # fmt: skip
        ctx.eps = eps
        # Over how many tokens each norm took its statistics; 0 where it took the running ones.
        tokens = x.numel() // x.shape[-1]
        ctx.of_batch = [tokens if s is not None and s.of_batch else 0 for s in statistics]
        if keep is None:
            return passes.norm_gelu(last, *norm3.line, x)
        return torch.addcmul(x, passes.norm_gelu(last, *norm3.line), keep)

    @staticmethod
    @_first_order
    def backward(ctx, residual):
        saved = ctx.saved_tensors
        x, gamma, beta, of_tokens, first, wide, last, fc1, fc2, conv, keep, *norms = saved
        grad = residual if keep is None else residual * keep
        norm1, norm2, norm3 = (_Norm(*norms[i : i + 3]) for i in (0, 3, 6))
        slope, _, sums = passes.norm_gelu_backward(last, grad, *norm3.line)
        abc, *grads3 = norm3.backward(sums, ctx.of_batch[2])
        grad = passes.scale_add_(slope, last, abc)
        slope, act, sums = passes.norm_gelu_backward(
            wide, linear(grad, fc2.t()), *norm2.line, with_act=True
        )
        grad_fc2 = _outer(grad, act)
        del act
        grads2 = (None,) * 4
        if conv is not None:
            abc, *grads2 = norm2.backward(sums, ctx.of_batch[1])
            slope, sums = passes.gelu_conv_backward(
                first, *norm1.line, wide, slope, abc, _taps(conv)
            )
            grad_conv = sums[:9].to(conv.dtype).t().reshape(conv.shape)
            grads2, sums = (grad_conv, *grads2), sums[9:]
        abc, *grads1 = norm1.backward(sums, ctx.of_batch[0])
        grad = passes.scale_add_(slope, first, abc)
        y, _ = passes.layer_norm(x, gamma, beta, ctx.eps)
        grad_fc1 = _outer(grad, y)
        grad, grads = passes.layer_norm_backward(
            x, of_tokens, gamma, linear(grad, fc1.t()), residual
        )
        return (
            grad, *grads.to(x.dtype), grad_fc1, *grads1, *grads2, grad_fc2, *grads3, None, None,
            None,
        )  # fmt: skip


class _Statistics(NamedTuple):
    """What a BatchNorm does in this step."""

    running_mean: torch.Tensor | None
    running_var: torch.Tensor | None
    of_batch: bool  # takes the batch's mean and variance, not the running ones
    momentum: float
    eps: float

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> '_Statistics':
        """Counts the step, as BatchNorm does."""
        momentum, of_batch = norm.momentum, norm.training or norm.running_mean is None
        mean, var = norm.running_mean, norm.running_var
        if norm.training and not norm.track_running_stats:
            mean = var = None
        elif norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(norm.num_batches_tracked)
        return cls(mean, var, of_batch, momentum or 0.0, norm.eps)


class _Norm(NamedTuple):
    """BatchNorm as x scale + offset; each (C)."""

    scale: torch.Tensor
    offset: torch.Tensor
    mean_and_rstd: torch.Tensor  # (2, C)

    @classmethod
    def of(
        cls,
        statistics: _Statistics,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        x: torch.Tensor,
        moments: torch.Tensor | None = None,
    ) -> '_Norm':
        """Of x (..., C), whose `passes.moments` may be known; moves the running statistics."""
        running_mean, running_var, of_batch, momentum, eps = statistics
        if of_batch:
            mean, var = passes.moments(x) if moments is None else moments
            if running_mean is not None:
                tokens = x.numel() // x.shape[-1]
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(var * (tokens / max(tokens - 1, 1)), momentum)
        else:
            mean, var = running_mean, running_var
        rstd = (var + eps).rsqrt()
        scale = gamma * rstd
        return cls(scale, torch.addcmul(beta, mean, scale, value=-1), torch.stack((mean, rstd)))

    @property
    def line(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and offset."""
        return self.scale, self.offset

    def backward(self, sums: torch.Tensor, tokens: int) -> tuple:
        """Gradients from the sums of the output's gradient, alone and times x, (2, C) in float64.

        Args:
            tokens: over which the statistics were taken; 0 for the running ones.

        Returns:
            What `passes.scale_add_` makes the gradient of x with, (3, C); the gradients of a shift
            added to x before the norm, of gamma and of beta.
        """
        dtype = self.scale.dtype
        scale, (mean, rstd) = self.scale.double(), self.mean_and_rstd.double()
        grad_beta, grad_gamma = sums[0], (sums[1] - mean * sums[0]) * rstd
        if tokens:
            b = scale * rstd * grad_gamma / -tokens
            abc = torch.stack((scale, b, scale * grad_beta / -tokens - b * mean))
            grad_shift = torch.zeros_like(scale)  # the norm takes it away again
        else:
            abc = torch.stack((scale, *torch.zeros_like(self.mean_and_rstd)))
            grad_shift = scale * grad_beta
        return (*(x.to(dtype) for x in (abc, grad_shift, grad_gamma, grad_beta)),)


def _taps(kernel: torch.Tensor) -> torch.Tensor:
    """(C, 1, 3, 3) -> (9, C)."""
    return kernel.flatten(1).t().contiguous()


def _column_sum(x: torch.Tensor) -> torch.Tensor:
    """x.sum(0) of a tall matrix, as a product: several times as fast on a CPU."""
    return (x.new_ones(1, len(x)) @ x)[0]


def _outer(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a^T b, summed over the tokens of (B, H, W, C) and (B, H, W, D): (C, D).

    On a CPU large maps are multiplied image by image, the narrower one first, which takes down to
    half the time of one product of all.
    """
    if a.device.type != 'cpu' or a.shape[1] * a.shape[2] < TALL:
        return a.flatten(0, -2).t() @ b.flatten(0, -2)
    if a.shape[-1] > b.shape[-1]:
        return _outer(b, a).t()
    return torch.bmm(a.flatten(1, 2).transpose(1, 2), b.flatten(1, 2)).sum(0)
