"""Multiply-adds of one call of an operator: matrix products, convolutions, attention.

PyTorch's `FlopCounterMode` cannot be used: its hooks on all modules turn off the recompute path
(`execution/policy.py`), and it counts the weight gradient of a grouped convolution once per group.
"""

from collections.abc import Callable

import torch

from ..execution import fused_ops, policy  # noqa: F401  fused_ops registers the operators

aten, mkldnn, fused = torch.ops.aten, torch.ops.mkldnn, torch.ops.hrformer_mmpose
TAPS = 9  # of the depth-wise 3x3 convolution


def multiply_adds(function: torch._ops.OpOverload, args: tuple, result: object) -> int:
    """Count the multiply-adds of a call; 0 for operators other than products and convolutions.

    Args:
        function: the operator.
        args: its positional arguments.
        result: its result.
    """
    formula = FORMULAS.get(function) or FORMULAS.get(function.overloadpacket)
    return 0 if formula is None else formula(args, result)


def _product(factor: int) -> Callable:
    """Formula of a matrix product whose left matrix is argument number `factor`."""
    return lambda args, result: result.numel() * args[factor].shape[-1]


def _convolution(args: tuple, result: torch.Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return (x if transposed else result).numel() * weight[0].numel()


def _convolution_backward(args: tuple, result: tuple) -> int:
    grad, x, weight, transposed, mask = *args[:3], args[7], args[10]
    return (x if transposed else grad).numel() * weight[0].numel() * sum(mask[:2])


def _onednn_convolution(weight: int) -> Callable:
    return lambda args, result: result.numel() * args[weight].shape[1:].numel()


def _attention(args: tuple, result: tuple) -> int:
    query, key, value = args[:3]
    return query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_backward(args: tuple, result: tuple) -> int:
    _, query, key = args[:3]
    return 5 * query.numel() * key.shape[-2]  # the logits again, and four gradients


def _window_attention(args: tuple, result: torch.Tensor) -> int:
    # All keys of a window, but padded tokens issue no query.
    return 2 * result.numel() * args[4][0] * args[4][1]


def _window_attention_backward(args: tuple, result: tuple) -> int:
    return 5 * args[3].numel() * args[5][0] * args[5][1]


def _weight_grad(args: tuple, result: torch.Tensor) -> int:
    return result.numel() * args[0].shape[:-1].numel()


def _norm_attention(args: tuple, result: torch.Tensor) -> int:
    return result.numel() * (3 * result.shape[-1] + 2 * args[8][0] * args[8][1])


def _finish_block(args: tuple, result: torch.Tensor) -> int:
    tokens, (D, C) = result.shape[:-1].numel(), args[7].shape
    return tokens * (C * C + D * (2 * C + TAPS))


# By operator, or by overload where overloads differ in the order of their arguments.
FORMULAS: dict[object, Callable] = {
    aten.mm: _product(0),
    aten.bmm: _product(0),
    aten.addmm: _product(1),
    aten.baddbmm: _product(1),
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    fused.weight_grad: _weight_grad,
    fused.window_attention: _window_attention,
    fused.window_attention_backward: _window_attention_backward,
    fused.norm_attention: _norm_attention,
    fused.finish_block: _finish_block,
    fused.conv3x3: lambda args, result: result.numel() * args[1][0].numel(),
    fused.gelu_dwconv: lambda args, result: TAPS * args[0].numel(),
    fused.gelu_dwconv_gelu: lambda args, result: TAPS * args[0].numel(),
    fused.gelu_dwconv_backward: lambda args, result: 2 * TAPS * args[0].numel(),
    fused.dwconv_backward: lambda args, result: 2 * TAPS * args[0].numel(),
}
for _kind in ('flash_attention_for_cpu', 'flash_attention', 'efficient_attention'):
    _name = f'_scaled_dot_product_{_kind}'
    FORMULAS[getattr(aten, _name)] = _attention
    FORMULAS[getattr(aten, f'{_name}_backward')] = _attention_backward
if policy.HAS_ONEDNN:
    FORMULAS[mkldnn._linear_pointwise] = _product(0)
    FORMULAS[mkldnn._convolution_pointwise.default] = _onednn_convolution(1)
    FORMULAS[mkldnn._convolution_pointwise.binary] = _onednn_convolution(2)
