"""Training steps that save fewer activations and recompute the cheap ones in the backward pass.

The plain FFN saves six maps of its hidden width: the inputs of convolutions, BatchNorms and GELUs.
Of those `ffn` saves two, the outputs of the first two convolutions; BatchNorm and GELU are cheap to
recompute. `attention` saves query, key and value of the map's own tokens, neither attention
probabilities nor padding. Both also save maps of C channels, their input and output. Both include
the residual connection. Outputs and gradients equal those of the plain layers.

Under autocast x has autocast's type and parameters are float32. Products are computed in the type
of x; norms, statistics and the gradients of parameters in float32. Weights are converted in each
pass, which keeps no converted copies for the backward pass.

Shapes: B batch, H and W of a map, C channels, D hidden channels of the FFN.
"""

import functools
from collections.abc import Callable

import torch
from torch import nn

from ..layers.attention import LocalWindowSelfAttention
from ..layers.ffn import CrossFFN
from . import fused_ops
from .batch_norm import BatchNormState, FoldedBatchNorm
from .linear import bias_grad, cast, linear

aten = torch.ops.aten


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
    table = attn.relative_position_bias_table if attn.with_rpe else None
    index = attn.relative_position_index if attn.with_rpe else None
    return _Attention.apply(
        x.contiguous(), norm.weight, norm.bias, qkv.weight, qkv.bias, table, index,
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
    states = [BatchNormState.of(each) for each in (norm1, norm2, norm3)]
    # On tokens a 1x1 convolution is a linear layer.
    return _FFN.apply(
        x.contiguous(), norm.weight, norm.bias, fc1.weight.flatten(1), fc1.bias, norm1.weight,
        norm1.bias, *dwconv, fc2.weight.flatten(1), fc2.bias, norm3.weight, norm3.bias,
        drop_path_scale, norm.eps, states,
    )  # fmt: skip


def _without_autocast(forward: Callable) -> Callable:
    """Turn autocast off: the forward pass converts its operands itself."""

    @functools.wraps(forward)
    def wrapped(ctx, x: torch.Tensor, *args):
        with torch.autocast(x.device.type, enabled=False):
            return forward(ctx, x, *args)

    return wrapped


def _first_order(backward: Callable) -> Callable:
    """Make a backward pass raise an error if its gradients are to be differentiated.

    PyTorch's `once_differentiable` may return constants instead of raising an error.
    """

    @functools.wraps(backward)
    def wrapped(ctx, grad: torch.Tensor) -> tuple:
        if torch.is_grad_enabled():
            raise RuntimeError(
                'create_graph=True needs the plain layers: set with_recompute = False on each '
                'HRFormerBlock before the forward pass'
            )
        with torch.autocast(grad.device.type, enabled=False):
            return backward(ctx, grad)

    return wrapped


class _Attention(torch.autograd.Function):
    @staticmethod
    @_without_autocast
    def forward(
        ctx, x, gamma, beta, qkv_weight, qkv_bias, bias_table, bias_index, proj_weight, proj_bias,
        drop_path_scale, eps, num_heads, window,
    ):  # fmt: skip
        y, mean_and_rstd = fused_ops.layer_norm(x, gamma, beta, eps)
        rel_pos_bias = None if bias_table is None else bias_table[bias_index].permute(2, 0, 1)
        weights = cast(x.dtype, qkv_weight, qkv_bias, proj_weight, proj_bias)
        qkv = linear(y, *weights[:2])
        out = fused_ops.window_attention(qkv, qkv_bias, rel_pos_bias, num_heads, window)
        ctx.save_for_backward(
            x, gamma, beta, mean_and_rstd, qkv_weight, qkv_bias, qkv, rel_pos_bias, bias_index, out,
            proj_weight, drop_path_scale,
        )  # fmt: skip
        ctx.settings = eps, num_heads, window
        ctx.table_rows = 0 if bias_table is None else len(bias_table)
        if drop_path_scale is None:
            return linear(out, *weights[2:], x)
        return torch.addcmul(x, linear(out, *weights[2:]), drop_path_scale)

    @staticmethod
    @_first_order
    def backward(ctx, grad_out):
        # Read once: under gradient checkpointing a second read fails.
        (
            x, gamma, beta, mean_and_rstd, qkv_weight, qkv_bias, qkv, rel_pos_bias, bias_index, out,
            proj_weight, drop_path_scale,
        ) = ctx.saved_tensors  # fmt: skip
        eps, num_heads, window = ctx.settings
        grad = grad_out if drop_path_scale is None else grad_out * drop_path_scale
        grad_proj_weight, grad_proj_bias = fused_ops.weight_grad(grad, out), bias_grad(grad)
        qkv_weight, proj_weight = cast(x.dtype, qkv_weight, proj_weight)
        grad, grad_qkv_bias, grad_bias = fused_ops.window_attention_backward(
            qkv, qkv_bias, rel_pos_bias, linear(grad, proj_weight.t()), num_heads, window
        )
        grad_table = None
        if bias_index is not None:
            grad_table = aten.embedding_dense_backward(
                grad_bias.flatten(1).t(), bias_index.flatten(), ctx.table_rows, -1, False
            )
        y, _ = fused_ops.layer_norm(x, gamma, beta, eps)
        grad_qkv_weight = fused_ops.weight_grad(grad, y)
        grad, norm_grads = fused_ops.layer_norm_backward(
            x, mean_and_rstd, gamma, linear(grad, qkv_weight.t()), grad_out
        )
        return (
            grad, *norm_grads, grad_qkv_weight, grad_qkv_bias, grad_table, None,
            grad_proj_weight, grad_proj_bias, None, None, None, None,
        )  # fmt: skip


class _FFN(torch.autograd.Function):
    @staticmethod
    @_without_autocast
    def forward(
        ctx, x, gamma, beta, fc1_weight, fc1_bias, gamma1, beta1, conv_weight, conv_bias, gamma2,
        beta2, fc2_weight, fc2_bias, gamma3, beta3, drop_path_scale, eps, states,
    ):  # fmt: skip
        y, mean_and_rstd = fused_ops.layer_norm(x, gamma, beta, eps)
        weights = cast(x.dtype, fc1_weight, fc1_bias, fc2_weight, fc2_bias)
        fc1_out = conv_out = linear(y, *weights[:2])
        norm1 = norm2 = FoldedBatchNorm.from_input(states[0], gamma1, beta1, fc1_out)
        if conv_weight is not None:
            conv_out, table = fused_ops.gelu_dwconv(
                fc1_out, *norm1.scale_and_offset, conv_weight.flatten(1), conv_bias,
                *states[1].arguments(gamma2, beta2),
            )  # fmt: skip
            norm2 = FoldedBatchNorm.from_input(states[1], gamma2, beta2, conv_out, table)
        act = fused_ops.bn_gelu(conv_out, *norm2.scale_and_offset)
        fc2_out = linear(act, *weights[2:])
        norm3 = FoldedBatchNorm.from_input(states[2], gamma3, beta3, fc2_out)
        ctx.save_for_backward(
            x, gamma, beta, mean_and_rstd, fc1_out, conv_out, fc2_out, fc1_weight, fc2_weight,
            conv_weight, drop_path_scale, norm1.table, norm2.table, norm3.table,
        )  # fmt: skip
        ctx.eps, ctx.counts = eps, [norm[1:] for norm in (norm1, norm2, norm3)]
        if drop_path_scale is None:
            return fused_ops.bn_gelu(fc2_out, *norm3.scale_and_offset, x)
        out = fused_ops.bn_gelu(fc2_out, *norm3.scale_and_offset)
        return torch.addcmul(x, out, drop_path_scale)

    @staticmethod
    @_first_order
    def backward(ctx, grad_out):
        (
            x, gamma, beta, mean_and_rstd, fc1_out, conv_out, fc2_out, fc1_weight, fc2_weight,
            conv_weight, drop_path_scale, *tables,
        ) = ctx.saved_tensors  # fmt: skip
        norm1, norm2, norm3 = (
            FoldedBatchNorm(table, *counts)
            for table, counts in zip(tables, ctx.counts, strict=True)
        )
        fc1_weight, fc2_weight = cast(x.dtype, fc1_weight, fc2_weight)
        grad = grad_out if drop_path_scale is None else grad_out * drop_path_scale
        grad_pre_act, _, *sums = fused_ops.bn_gelu_backward(
            fc2_out, grad, norm3.table, norm3.of_batch
        )
        bn_grad_coeffs, *fc2_grads = norm3.backward(*sums)
        grad = fused_ops.bn_backward_(grad_pre_act, fc2_out, bn_grad_coeffs)
        grad_pre_act, act, *sums = fused_ops.bn_gelu_backward(
            conv_out, linear(grad, fc2_weight.t()), norm2.table, norm2.of_batch, with_act=True
        )
        grad_fc2_weight = fused_ops.weight_grad(grad, act)
        del act
        conv_grads = (None,) * 4
        if conv_weight is not None:
            bn_grad_coeffs, *conv_grads = norm2.backward(*sums)
            grad_pre_act, grad_conv_weight, *sums = fused_ops.gelu_dwconv_backward(
                fc1_out, norm1.table, conv_out, grad_pre_act, bn_grad_coeffs,
                conv_weight.flatten(1), norm1.of_batch,
            )  # fmt: skip
            conv_grads = grad_conv_weight.view_as(conv_weight), *conv_grads
        bn_grad_coeffs, *fc1_grads = norm1.backward(*sums)
        grad = fused_ops.bn_backward_(grad_pre_act, fc1_out, bn_grad_coeffs)
        y, _ = fused_ops.layer_norm(x, gamma, beta, ctx.eps)
        grad_fc1_weight = fused_ops.weight_grad(grad, y)
        grad, norm_grads = fused_ops.layer_norm_backward(
            x, mean_and_rstd, gamma, linear(grad, fc1_weight.t()), grad_out
        )
        return (
            grad, *norm_grads, grad_fc1_weight, *fc1_grads, *conv_grads,
            grad_fc2_weight, *fc2_grads, None, None, None,
        )  # fmt: skip
