"""Decide which path a layer takes: plain, recompute (training), inference, export, or a kernel.

A module that is not known to be stock, see `stock.py`, takes the plain path. Three kinds of
decisions:

- `obstacles_to_fusing`, `may_fuse`: may a module be converted for inference or export?
- `may_recompute_attention`, `may_recompute_ffn`: may a training step recompute activations?
- `allows_kernels`, `use_fused_ops`, `use_onednn`, ...: is a kernel available and the faster one?
"""

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.batchnorm import _BatchNorm

from . import cpu, cuda, processor
from .cpu import products
from .stock import has_global_hooks, is_stock_tree, obstacle

HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
_NARROW = 100  # channels, see `use_onednn_linear`
_MANY_TOKENS = 512  # per image, see `use_product_per_image`
_ATTENTION_WEIGHTS = 2**15  # numbers, see `use_attention_kernel`
_BLOCK_WEIGHTS = 2**18  # see `use_block_kernel`
_CONV_WEIGHTS = 2**19  # see `use_conv_kernel`
_RECOMPUTE_DEVICES = ('cpu', 'cuda')  # MPS lacks float64, in which gradients are summed


def obstacles_to_fusing(module: nn.Module) -> dict[str, str]:
    """Return the reasons why a module or its submodules cannot be converted, by module name."""
    if has_global_hooks():
        return {'': 'hooks are registered for all modules'}
    reasons = {}
    for name, child in module.named_modules():
        reason = obstacle(child)
        if reason is None and isinstance(child, _BatchNorm) and child.running_mean is None:
            reason = f'{type(child).__name__} has no running statistics'
        if reason is not None:
            reasons[name] = reason
    return reasons


def may_fuse(module: nn.Module) -> bool:
    """Return whether a module and all its submodules may be converted for inference or export."""
    return not obstacles_to_fusing(module)


def may_recompute_attention(block: nn.Module, x: torch.Tensor) -> bool:
    """Return whether `recompute.attention` may replace the attention branch of a block.

    Args:
        block: `execution.block.HRFormerBlock`.
        x: (B, H, W, C), input of the branch.
    """
    return _may_recompute(
        block, x, block.norm1, block.attn, block.drop_path
    ) and not block.attn.is_masked(x.shape[1:3])


def may_recompute_ffn(block: nn.Module, x: torch.Tensor) -> bool:
    """Return whether `recompute.ffn` may replace the FFN branch of a block.

    Args:
        block: `execution.block.HRFormerBlock`.
        x: (B, H, W, C), input of the branch.
    """
    # With one value per channel, take the plain path so that BatchNorm raises its usual error.
    return x.numel() > x.shape[-1] and _may_recompute(
        block, x, block.norm2, block.ffn, block.drop_path
    )


def use_float32_gradients(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether a depth-wise convolution computes its gradients in float32 under autocast.

    Args:
        conv: the convolution.
        x: (B, C, H, W), its input.
    """
    return (
        x.device.type == 'cpu'
        and type(x) is torch.Tensor
        and torch.is_grad_enabled()
        and x.dtype is not torch.float32
        and _parameter_dtype(x) is conv.weight.dtype
        and _is_eager()
        and obstacle(conv) is None
        and (conv.kernel_size, conv.groups, conv.bias) == ((3, 3), conv.in_channels, None)
    )


def _may_recompute(block: nn.Module, x: torch.Tensor, *modules: nn.Module) -> bool:
    device = x.device.type
    return (
        block.with_recompute
        and torch.is_grad_enabled()
        and type(x) in (torch.Tensor, nn.Parameter)
        and device in _RECOMPUTE_DEVICES
        and (parameter_dtype := _parameter_dtype(x)) is not None
        and _is_eager()
        and not has_global_hooks()
        and all(is_stock_tree(module, parameter_dtype) for module in modules)
    )


def _parameter_dtype(x: torch.Tensor) -> torch.dtype | None:
    """Return the type that parameters must have to recompute a layer of input x, or None."""
    if not _is_autocast(x.device.type):
        return x.dtype if x.dtype in (torch.float32, torch.float64) else None
    return torch.float32 if x.dtype is torch.get_autocast_dtype(x.device.type) else None


def allows_kernels(device: str) -> bool:
    """Return whether operators without derivatives may be called now.

    Args:
        device: type of the device: 'cpu', 'cuda', ...
    """
    return not torch.is_grad_enabled() and _is_eager() and not _is_autocast(device)


def use_fused_ops(x: torch.Tensor) -> bool:
    """Return whether inference takes the fused LayerNorm and window attention for `x`.

    On GPUs PyTorch's fused operators are faster than the plain forms where there is no kernel of
    our own; on CPUs the plain forms are those operators.
    """
    device = x.device.type
    if device == 'cuda':
        return x.dtype in cuda.DTYPES and allows_kernels(device) and cuda.available('layer_norm')
    return use_cpu_kernels(x)


def use_cpu_kernels(x: torch.Tensor) -> bool:
    """Return whether inference takes the operators that only CPUs have for `x`."""
    return _is_fast_on_cpu(x) and allows_kernels('cpu')


def use_attention_kernel(x: torch.Tensor, qkv_weight: torch.Tensor) -> bool:
    """Return whether inference takes `norm_attention`.

    Two cores of a Xeon with AMX, time over that of LayerNorm, projection and attention one after
    the other, maps of 8 images: C = 32 0.78, 78 0.90, 156 1.07, 312 1.3.

    Args:
        x: (B, H, W, C), the residual stream in float32.
        qkv_weight: (3 C, C).
    """
    return _use_tiles('norm_attention', x, qkv_weight, _ATTENTION_WEIGHTS)


def use_block_kernel(x: torch.Tensor, fc1_weight: torch.Tensor) -> bool:
    """Return whether inference takes `finish_block`.

    It reads all weights for each few rows of a map, so they have to stay in a core's cache.

    Args:
        x: (B, H, W, C), the residual stream in float32.
        fc1_weight: (D, C).
    """
    return _use_tiles('finish_block', x, fc1_weight, _BLOCK_WEIGHTS)


def _use_tiles(name: str, x: torch.Tensor, weight: torch.Tensor, most: int) -> bool:
    """Return whether a kernel that needs AMX takes weights of this size and type."""
    return weight.numel() <= most and use_cpu_kernels(x) and cpu.available(name, weight.dtype)


def use_conv_kernel(x: torch.Tensor, weight: torch.Tensor, groups: int) -> bool:
    """Return whether a convolution in float32 may take `conv3x3`, whose products are of bfloat16.

    As in `use_block_kernel`, its weights have to stay in a core's cache. A product of AMX takes
    whole groups of 32 channels.

    Args:
        x: (B, C, H, W).
        weight: (D, C, k, k).
        groups: groups of channels.
    """
    _, C, *size = weight.shape
    return (
        size == [3, 3]
        and groups == 1
        and C >= 32
        and _use_tiles('conv3x3', x, weight, _CONV_WEIGHTS)
    )


def use_onednn(x: torch.Tensor) -> bool:
    """Return whether oneDNN's fused convolutions and linear layers are available for `x`."""
    return use_cpu_kernels(x) and torch.backends.mkldnn.enabled and HAS_ONEDNN


def _is_fast_on_cpu(x: torch.Tensor) -> bool:
    """Return whether `x` is on a CPU, in float32 or in bfloat16 if that has its instructions."""
    if x.device.type != 'cpu':
        return False
    if x.dtype is torch.bfloat16:
        return torch.bfloat16 in processor.half_types()
    return x.dtype is torch.float32


def use_onednn_linear(x: torch.Tensor, weight: torch.Tensor, packed: bool = False) -> bool:
    """Return whether oneDNN is the faster library for x W^T.

    In float32 `cpu.products` measures it and corrects this rule: oneDNN for packed weights, and for
    others if D is small or no multiple of 8. The rule was measured for batch 8 on one core of a
    Xeon with AVX-512, oneDNN's time over `F.linear`'s (C -> D channels): 32 -> 32 0.90, 78 -> 78
    0.74, 78 -> 234 0.70, 156 -> 468 0.98; but 156 -> 624 1.04, 128 -> 384 1.11, 312 -> 1248 1.12,
    where reordering the weight costs more than it saves. In bfloat16 `F.linear` calls oneDNN.

    Args:
        x: (..., C).
        weight: (D, C), W.
        packed: the weight is prepared for oneDNN beforehand.
    """
    if not use_onednn(x):
        return False
    if x.dtype is not torch.float32:
        return packed
    D, C = weight.shape
    layout = 'packed' if packed else 'plain' if weight.is_contiguous() else 'transposed'
    rule = packed or D <= _NARROW or D % 8 != 0
    return products.onednn_is_faster(x.numel() // C, C, D, layout, rule)


def use_product_per_image(x: torch.Tensor) -> bool:
    """Return whether a weight's gradient is the sum of one product per image.

    Measured for batch 8 on one core of a Xeon with AVX-512, time over that of one product for the
    batch (tokens per image, C -> D channels): 3072 tokens, 78 -> 312 0.62; 768, 64 -> 256 0.82;
    768, 156 -> 624 1.16; 192, 312 -> 1248 1.11; 48, 624 -> 2496 5.7. With `use_onednn_linear` it
    brought HRFormer-B's training step from 1.54 to 1.64 times MMPose's speed (docs/speed.md).
    In bfloat16, two cores of an EPYC with AVX-512 BF16: 3072 tokens, 78 -> 312 0.56; 768,
    156 -> 624 0.76; 192, 312 -> 1248 1.26; 48, 624 -> 2496 2.4.

    Args:
        x: (B, H, W, C).
    """
    return _is_fast_on_cpu(x) and x.shape[1] * x.shape[2] >= _MANY_TOKENS


def _is_eager() -> bool:
    """Return whether no compiler, tracer, function transform or forward-mode gradient is active."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def _is_autocast(device: str) -> bool:
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
