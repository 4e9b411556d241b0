"""Training steps that save fewer activations and recompute the cheap ones in the backward pass.

The plain FFN saves six maps of its hidden width: the inputs of convolutions, BatchNorms and GELUs.
`ffn` saves the outputs of the first two convolutions only; BatchNorm and GELU are cheap to
recompute. `attention` saves query, key and value of the map's own tokens, neither attention
probabilities nor padding. Both include the residual connection. Outputs and gradients equal those
of the plain layers.

Shapes: B batch, H and W of a map, T = B * H * W tokens, C channels, D hidden channels of the FFN, h
heads, N tokens per window.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from ..layers.attention import LocalWindowSelfAttention
from ..layers.ffn import CrossFFN
from . import fused_ops, policy
from .linear import linear


def attention(
    x: torch.Tensor,
    norm: nn.LayerNorm,
    layer: LocalWindowSelfAttention,
    drop_path_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute x + drop_path_scale layer(norm(x)).

    Args:
        x: (B, H, W, C).
        norm: LayerNorm before the attention.
        layer: the attention.
        drop_path_scale: (B, 1, 1, 1), or None for 1.

    Returns:
        (B, H, W, C).
    """
    attn = layer.attn
    qkv, proj = attn.qkv, attn.proj
    return _Attention.apply(
        x.contiguous(), norm.weight, norm.bias, qkv.weight, qkv.bias, attn.rel_pos_bias(),
        proj.weight, proj.bias, drop_path_scale, norm.eps, attn.num_heads, layer.window,
    )  # fmt: skip


def ffn(
    x: torch.Tensor,
    norm: nn.LayerNorm,
    layer: CrossFFN,
    drop_path_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute x + drop_path_scale layer(norm(x)); arguments as in `attention`."""
    fc1, fc2, conv, norm1, norm2, norm3 = (
        getattr(layer, name) for name in ('fc1', 'fc2', 'dw3x3', 'norm1', 'norm2', 'norm3')
    )
    dwconv = (None,) * 4 if conv is None else (conv.weight, conv.bias, norm2.weight, norm2.bias)
    statistics = [None if bn is None else _Statistics.step(bn) for bn in (norm1, norm2, norm3)]
    # On tokens a 1x1 convolution is a linear layer.
    return _FFN.apply(
        x.contiguous(), norm.weight, norm.bias, fc1.weight.flatten(1), fc1.bias, norm1.weight,
        norm1.bias, *dwconv, fc2.weight.flatten(1), fc2.bias, norm3.weight, norm3.bias,
        drop_path_scale, norm.eps, statistics,
    )  # fmt: skip


def _first_order(backward: Callable) -> Callable:
    """Make a backward pass raise an error if its gradients are to be differentiated.

    PyTorch's `once_differentiable` returns them as constants, without an error, if the gradient of
    the output requires none.
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
        ctx, x, gamma, beta, qkv_weight, qkv_bias, rel_pos_bias, proj_weight, proj_bias,
        drop_path_scale, eps, num_heads, window,
    ):  # fmt: skip
        y, mean_and_rstd = fused_ops.layer_norm(x, gamma, beta, eps)
        qkv = linear(y, qkv_weight, qkv_bias)
        out = fused_ops.window_attention(qkv, qkv_bias, rel_pos_bias, num_heads, window)
        ctx.save_for_backward(
            x, gamma, beta, mean_and_rstd, qkv_weight, qkv_bias, qkv, rel_pos_bias, out,
            proj_weight, drop_path_scale,
        )  # fmt: skip
        ctx.settings = eps, num_heads, window
        if drop_path_scale is None:
            return linear(out, proj_weight, proj_bias, x)
        return torch.addcmul(x, linear(out, proj_weight, proj_bias), drop_path_scale)

    @staticmethod
    @_first_order
    def backward(ctx, residual):
        # Read once: under gradient checkpointing a second read fails.
        (
            x, gamma, beta, mean_and_rstd, qkv_weight, qkv_bias, qkv, rel_pos_bias, out,
            proj_weight, drop_path_scale,
        ) = ctx.saved_tensors  # fmt: skip
        eps, num_heads, window = ctx.settings
        grad = residual if drop_path_scale is None else residual * drop_path_scale
        grad_proj_weight, grad_proj_bias = _weight_grad(grad, out), _bias_grad(grad)
        grad, grad_qkv_bias, grad_rel_pos_bias = fused_ops.window_attention_backward(
            qkv, qkv_bias, rel_pos_bias, linear(grad, proj_weight.t()), num_heads, window
        )
        y, _ = fused_ops.layer_norm(x, gamma, beta, eps)
        grad_qkv_weight = _weight_grad(grad, y)
        grad, norm_grads = fused_ops.layer_norm_backward(
            x, mean_and_rstd, gamma, linear(grad, qkv_weight.t()), residual
        )
        return (
            grad, *norm_grads.to(x.dtype), grad_qkv_weight, grad_qkv_bias, grad_rel_pos_bias,
            grad_proj_weight, grad_proj_bias, None, None, None, None,
        )  # fmt: skip


class _FFN(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x, gamma, beta, fc1_weight, fc1_bias, gamma1, beta1, conv_weight, conv_bias, gamma2,
        beta2, fc2_weight, fc2_bias, gamma3, beta3, drop_path_scale, eps, statistics,
    ):  # fmt: skip
        y, mean_and_rstd = fused_ops.layer_norm(x, gamma, beta, eps)
        fc1_out = conv_out = linear(y, fc1_weight, fc1_bias)
        norm1 = norm2 = _Norm.update(statistics[0], gamma1, beta1, fc1_out)
        if conv_weight is not None:
            conv_out, moments = fused_ops.gelu_dwconv(
                fc1_out, *norm1.scale_and_offset, _taps(conv_weight), conv_bias
            )
            norm2 = _Norm.update(statistics[1], gamma2, beta2, conv_out, moments)
        act = fused_ops.bn_gelu(conv_out, *norm2.scale_and_offset)
        fc2_out = linear(act, fc2_weight, fc2_bias)
        norm3 = _Norm.update(statistics[2], gamma3, beta3, fc2_out)
        ctx.save_for_backward(
            x, gamma, beta, mean_and_rstd, fc1_out, conv_out, fc2_out, fc1_weight, fc2_weight,
            conv_weight, drop_path_scale, *norm1, *norm2, *norm3,
        )  # fmt: skip
        ctx.eps = eps
        tokens = x.numel() // x.shape[-1]
        ctx.tokens = [tokens if s is not None and s.is_batch else 0 for s in statistics]
        if drop_path_scale is None:
            return fused_ops.bn_gelu(fc2_out, *norm3.scale_and_offset, x)
        out = fused_ops.bn_gelu(fc2_out, *norm3.scale_and_offset)
        return torch.addcmul(x, out, drop_path_scale)

    @staticmethod
    @_first_order
    def backward(ctx, residual):
        (
            x, gamma, beta, mean_and_rstd, fc1_out, conv_out, fc2_out, fc1_weight, fc2_weight,
            conv_weight, drop_path_scale, *norms,
        ) = ctx.saved_tensors  # fmt: skip
        norm1, norm2, norm3 = (_Norm(*norms[i : i + 3]) for i in (0, 3, 6))
        grad = residual if drop_path_scale is None else residual * drop_path_scale
        grad_pre_act, _, sums = fused_ops.bn_gelu_backward(fc2_out, grad, *norm3.scale_and_offset)
        bn_grad_coeffs, *fc2_grads = norm3.backward(sums, ctx.tokens[2])
        grad = fused_ops.bn_backward_(grad_pre_act, fc2_out, bn_grad_coeffs)
        grad_pre_act, act, sums = fused_ops.bn_gelu_backward(
            conv_out, linear(grad, fc2_weight.t()), *norm2.scale_and_offset, with_act=True
        )
        grad_fc2_weight = _weight_grad(grad, act)
        del act
        conv_grads = (None,) * 4
        if conv_weight is not None:
            bn_grad_coeffs, *conv_grads = norm2.backward(sums, ctx.tokens[1])
            grad_pre_act, sums = fused_ops.gelu_dwconv_backward(
                fc1_out, *norm1.scale_and_offset, conv_out, grad_pre_act, bn_grad_coeffs,
                _taps(conv_weight),
            )  # fmt: skip
            grad_conv_weight = sums[:9].to(conv_weight.dtype).t().reshape(conv_weight.shape)
            conv_grads, sums = (grad_conv_weight, *conv_grads), sums[9:]
        bn_grad_coeffs, *fc1_grads = norm1.backward(sums, ctx.tokens[0])
        grad = fused_ops.bn_backward_(grad_pre_act, fc1_out, bn_grad_coeffs)
        y, _ = fused_ops.layer_norm(x, gamma, beta, ctx.eps)
        grad_fc1_weight = _weight_grad(grad, y)
        grad, norm_grads = fused_ops.layer_norm_backward(
            x, mean_and_rstd, gamma, linear(grad, fc1_weight.t()), residual
        )
        return (
            grad, *norm_grads.to(x.dtype), grad_fc1_weight, *fc1_grads, *conv_grads,
            grad_fc2_weight, *fc2_grads, None, None, None,
        )  # fmt: skip


class _Statistics(NamedTuple):
    """Statistics of a BatchNorm in one step."""

    running_mean: torch.Tensor | None
    running_var: torch.Tensor | None
    is_batch: bool  # normalise by the batch's statistics, not by the running ones
    momentum: float
    eps: float

    @classmethod
    def step(cls, norm: nn.BatchNorm2d) -> '_Statistics':
        """Count a step of a BatchNorm, as its `forward` does."""
        momentum, is_batch = norm.momentum, norm.training or norm.running_mean is None
        mean, var = norm.running_mean, norm.running_var
        if norm.training and not norm.track_running_stats:
            mean = var = None
        elif norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(norm.num_batches_tracked)
        return cls(mean, var, is_batch, momentum or 0.0, norm.eps)


class _Norm(NamedTuple):
    """BatchNorm as x scale + offset, (C) each."""

    scale: torch.Tensor
    offset: torch.Tensor
    mean_and_rstd: torch.Tensor  # (2, C)

    @classmethod
    def update(
        cls,
        statistics: _Statistics,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        x: torch.Tensor,
        moments: torch.Tensor | None = None,
    ) -> '_Norm':
        """Compute the BatchNorm of x and update the running statistics.

        Args:
            statistics: see `_Statistics`.
            gamma: (C), learned scale.
            beta: (C), learned offset.
            x: (..., C).
            moments: (2, C), `fused_ops.moments` of x if they are available.
        """
        running_mean, running_var, is_batch, momentum, eps = statistics
        if is_batch:
            mean, var = fused_ops.moments(x) if moments is None else moments
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
    def scale_and_offset(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scale, self.offset

    def backward(self, sums: torch.Tensor, tokens: int) -> tuple[torch.Tensor, ...]:
        """Compute the gradients of parameters.

        Args:
            sums: (2, C) in float64, sums over tokens of the output's gradient, and of that times x.
            tokens: tokens in the batch's statistics; 0 for running statistics.

        Returns:
            bn_grad_coeffs: (3, C), see `fused_ops.bn_backward_`.
            grad_bias: (C), gradient of a bias added to x before the norm.
            grad_gamma: (C).
            grad_beta: (C).
        """
        dtype = self.scale.dtype
        scale, (mean, rstd) = self.scale.double(), self.mean_and_rstd.double()
        grad_beta, grad_gamma = sums[0], (sums[1] - mean * sums[0]) * rstd
        if tokens:
            b = scale * rstd * grad_gamma / -tokens
            coeffs = torch.stack((scale, b, scale * grad_beta / -tokens - b * mean))
            grad_bias = torch.zeros_like(scale)  # the norm subtracts the mean
        else:
            coeffs = torch.stack((scale, *torch.zeros_like(self.mean_and_rstd)))
            grad_bias = scale * grad_beta
        return (*(x.to(dtype) for x in (coeffs, grad_bias, grad_gamma, grad_beta)),)


def _taps(conv_weight: torch.Tensor) -> torch.Tensor:
    """(C, 1, 3, 3) -> (9, C)."""
    return conv_weight.flatten(1).t().contiguous()


def _bias_grad(grad: torch.Tensor) -> torch.Tensor:
    """Sum (..., C) over tokens, by a product: several times as fast as `sum` on a CPU."""
    grad = grad.flatten(0, -2)
    return (grad.new_ones(1, len(grad)) @ grad)[0]


def _weight_grad(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Compute the weight gradient of a linear layer.

    Args:
        grad: (B, H, W, D), gradient of its output.
        x: (B, H, W, C), its input.

    Returns:
        (D, C).
    """
    if not policy.multiply_by_image(grad):
        return grad.flatten(0, -2).t() @ x.flatten(0, -2)
    if grad.shape[-1] > x.shape[-1]:  # the narrower one first is faster
        return _weight_grad(x, grad).t()
    return torch.bmm(grad.flatten(1, 2).transpose(1, 2), x.flatten(1, 2)).sum(0)
