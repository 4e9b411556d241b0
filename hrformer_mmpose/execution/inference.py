"""Inference twins of the layers: BatchNorm folded, activations fused, biases and indices prepared.

Each is made from a layer and gives the same output in evaluation mode. What a twin holds is derived
from that layer's weights, never stored: its buffers stay out of the state dict.

Shapes: B batch, H and W of a map, T = B * H * W tokens, C channels, N tokens a window, h heads,
d = C / h head width.
"""

import copy
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from ..layers.attention import attention_mask, masked_bias
from ..layers.fusion import UPSAMPLE, BasicBlock, Bottleneck, MultiScaleFusion
from ..layers.norm import BATCH_NORMS
from ..layers.window import map_size, window_partition, window_reverse
from . import fused_ops as passes
from . import policy
from .block import HRFormerBlock
from .linear import FusedConv, FusedLinear, onednn_takes


def folded(conv: nn.Conv2d, norm: nn.Module | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution that includes the BatchNorm behind it."""
    weight, bias = conv.weight.detach(), conv.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
    if norm is None:
        return weight.clone(), bias.clone()
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean * scale
    if norm.affine:
        scale = scale * norm.weight.detach()
        shift = shift * norm.weight.detach() + norm.bias.detach()
    return weight * scale[:, None, None, None], bias * scale + shift


def fused_conv(conv: nn.Conv2d, norm: nn.Module | None = None, act: str = 'none') -> FusedConv:
    """Convolution, BatchNorm and activation in one."""
    return FusedConv(*folded(conv, norm), conv.stride[0], conv.groups, act)


class BlockTwin(nn.Module):
    """What all twins of an `HRFormerBlock` take over from it as it is.

    Args:
        block: whose output this one gives.
    """

    def __init__(self, block: HRFormerBlock):
        super().__init__()
        attention = block.attn.attn
        self.window, self.shift = block.attn.window, block.attn.shift_size
        self.with_pad_mask = block.attn.with_pad_mask
        self.num_heads = attention.num_heads
        self.norm1, self.norm2 = plain_copy(block.norm1), plain_copy(block.norm2)
        bias = attention.rel_pos_bias()
        bias = None if bias is None else bias.detach()[None].contiguous()
        self.register_buffer('position_bias', bias, persistent=False)


class FusedBlock(BlockTwin):
    """`HRFormerBlock` for inference.

    Args:
        block: whose output this one gives.
    """

    def __init__(self, block: HRFormerBlock):
        super().__init__(block)
        attention, ffn = block.attn.attn, block.ffn
        qkv, proj = plain_copy(attention.qkv), plain_copy(attention.proj)
        self.qkv = FusedLinear(qkv.weight, qkv.bias)
        self.proj = FusedLinear(proj.weight, proj.bias)
        # On tokens a 1x1 convolution is a linear layer.
        weight, bias = folded(ffn.fc1, ffn.norm1)
        self.fc1 = FusedLinear(weight.flatten(1), bias)
        taps = shift = None
        if ffn.dw3x3 is not None:
            weight, shift = folded(ffn.dw3x3, ffn.norm2)
            taps = weight.flatten(1).t().contiguous()
        self.register_buffer('taps', taps, persistent=False)
        self.register_buffer('taps_shift', shift, persistent=False)
        weight, bias = folded(ffn.fc2, ffn.norm3)
        self.fc2 = FusedLinear(weight.flatten(1), bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W), channels last."""
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        x = self.proj(self._attend(_normed(x, self.norm1)), x)
        y = self.fc1(_normed(x, self.norm2))
        if self.taps is None:
            y = passes.norm_gelu(y)
        else:
            y = passes.gelu_conv_gelu(y, self.taps, self.taps_shift)
        return passes.norm_gelu(self.fc2(y), residual=x).permute(0, 3, 1, 2)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, C) -> (B, H, W, C), before the output projection."""
        size = x.shape[1:3]
        mask = attention_mask(size, self.window, x, self.shift, self.with_pad_mask)
        if mask is None and onednn_takes(x):
            qkv = self.qkv(x)
            bias = self.position_bias
            bias = None if bias is None else bias[0]
            return passes.window_attention(qkv, self.qkv.bias, bias, self.num_heads, self.window)
        x = window_partition(x, self.window, self.shift)
        windows, N, C = x.shape
        qkv = self.qkv(x)
        q, k, v = qkv.view(windows, N, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.position_bias
        if mask is not None:
            bias = masked_bias(bias, mask, self.num_heads, windows)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.transpose(1, 2).reshape(windows, N, C)
        return window_reverse(out, self.window, size, self.shift)


def _normed(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    if onednn_takes(x) and norm.bias is not None:
        return passes.layer_norm(x, norm.weight, norm.bias, norm.eps)[0]
    return norm(x)


class FusedBottleneck(nn.Module):
    """`Bottleneck` for inference.

    Args:
        block: whose output this one gives.
    """

    def __init__(self, block: Bottleneck):
        super().__init__()
        self.conv1 = fused_conv(block.conv1, block.bn1, 'relu')
        self.conv2 = fused_conv(block.conv2, block.bn2, 'relu')
        self.conv3 = fused_conv(block.conv3, block.bn3)
        self.downsample = None if block.downsample is None else fused_conv(*block.downsample)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, 4 * channels, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv3(self.conv2(self.conv1(x)), shortcut)


class FusedFusion(nn.Module):
    """`MultiScaleFusion` for inference.

    Args:
        fusion: whose output this one gives.
    """

    def __init__(self, fusion: MultiScaleFusion):
        super().__init__()
        self.upsample = fusion.upsample
        self.rows = nn.ModuleList(
            nn.ModuleList(None if path is None else fuse(path) for path in row) for row in fusion
        )

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of (B, C_i, H_i, W_i)."""
        return [self._fuse(maps, i, row) for i, row in enumerate(self.rows)]

    def _fuse(self, maps: list[torch.Tensor], i: int, row: nn.ModuleList) -> torch.Tensor:
        size, own = map_size(maps[i].shape[2:]), maps[i]
        total = None
        for j, path in enumerate(row):
            if path is None:
                continue
            y = path(maps[j])
            if j > i:
                y = UPSAMPLE[self.upsample](y, size)
            total = own + y if total is None else total + y
        return F.relu(own if total is None else total)


class FusedBasicBlock(nn.Module):
    """`BasicBlock` for inference.

    Args:
        block: whose output this one gives.
    """

    def __init__(self, block: BasicBlock):
        super().__init__()
        self.conv1 = fused_conv(block.conv1, block.bn1, 'relu')
        self.conv2 = fused_conv(block.conv2, block.bn2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.conv2(self.conv1(x), x)


def fuse(module: nn.Module, block: type[nn.Module] = FusedBlock) -> nn.Module:
    """Convert a layer, or the layers inside a container, for inference.

    What `policy` keeps from being bypassed is copied as it is, see `plain_copy`.

    Args:
        module: stays as it is. block: class that converts an `HRFormerBlock`.
    """
    converters = {HRFormerBlock: block, BasicBlock: FusedBasicBlock, Bottleneck: FusedBottleneck}
    kind = type(module)
    if kind in converters and policy.may_fuse(module):
        return converters[kind](module)
    if kind is MultiScaleFusion and policy.obstacle(module) is None:
        return FusedFusion(module)
    if kind is nn.Sequential and policy.obstacle(module) is None:
        return nn.Sequential(*fused_sequence(module, block))
    return plain_copy(module)


def fused_sequence(
    modules: Iterable[nn.Module], block: type[nn.Module] = FusedBlock
) -> list[nn.Module]:
    """Join convolutions with the BatchNorm and ReLU behind them, convert the rest one by one."""
    layers, result = [*modules], []
    while layers:
        layer = layers.pop(0)
        if not _joins(layer, nn.Conv2d):
            result.append(fuse(layer, block))
            continue
        norm = layers.pop(0) if layers and _joins(layers[0], *BATCH_NORMS.values()) else None
        relu = layers.pop(0) if layers and _joins(layers[0], nn.ReLU) else None
        result.append(fused_conv(layer, norm, 'none' if relu is None else 'relu'))
    return result


def _joins(layer: nn.Module, *classes: type[nn.Module]) -> bool:
    return type(layer) in classes and policy.may_fuse(layer)


def plain_copy(module: nn.Module) -> nn.Module:
    """Copy a module in evaluation mode; hooks are shared with it, not copied."""
    memo: dict[int, object] = {}
    for layer in module.modules():
        for name, value in vars(layer).items():
            if 'hooks' in name:
                memo[id(value)] = value
            elif isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach()  # set by a hook at each call
    return copy.deepcopy(module, memo).eval()
