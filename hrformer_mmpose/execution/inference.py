"""Inference versions of the layers: BatchNorm folded, activations fused, biases gathered once.

Each is built from a layer and computes that layer's output in evaluation mode. Its buffers are
derived from the layer's weights and are not in the state dict.

Shapes: B batch, H and W of a map, T = B * H * W tokens, C channels, N tokens per window, h heads,
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
from . import fused_ops, policy
from .block import HRFormerBlock
from .depthwise import DepthwiseConv2d
from .linear import ACTIVATIONS, FusedConv, FusedLinear, fold_batch_norm, fuse_conv


class ConvertedBlock(nn.Module):
    """Base of the inference and export versions of `HRFormerBlock`: LayerNorms and settings.

    Args:
        block: block to convert.
    """

    def __init__(self, block: HRFormerBlock):
        super().__init__()
        attention = block.attn.attn
        self.window, self.shift_size = block.attn.window, block.attn.shift_size
        self.with_pad_mask = block.attn.with_pad_mask
        self.num_heads = attention.num_heads
        self.norm1, self.norm2 = eval_copy(block.norm1), eval_copy(block.norm2)
        bias = attention.rel_pos_bias()
        bias = None if bias is None else bias.detach()[None].contiguous()  # 1, h, N, N
        self.register_buffer('rel_pos_bias', bias, persistent=False)


class InferenceBlock(ConvertedBlock):
    """`HRFormerBlock` for inference.

    Args:
        block: block to convert.
    """

    def __init__(self, block: HRFormerBlock):
        super().__init__(block)
        attention, ffn = block.attn.attn, block.ffn
        qkv, proj = eval_copy(attention.qkv), eval_copy(attention.proj)
        self.qkv = FusedLinear(qkv.weight, qkv.bias)
        self.proj = FusedLinear(proj.weight, proj.bias)
        # On tokens a 1x1 convolution is a linear layer.
        weight, bias = fold_batch_norm(ffn.fc1, ffn.norm1)
        self.fc1 = FusedLinear(weight.flatten(1), bias)
        conv_weight = conv_bias = None
        if ffn.dw3x3 is not None:
            weight, conv_bias = fold_batch_norm(ffn.dw3x3, ffn.norm2)
            conv_weight = weight.flatten(1)  # D, 9
        self.register_buffer('conv_weight', conv_weight, persistent=False)
        self.register_buffer('conv_bias', conv_bias, persistent=False)
        weight, bias = fold_batch_norm(ffn.fc2, ffn.norm3)
        self.fc2 = FusedLinear(weight.flatten(1), bias)
        self.dtype: torch.dtype | None = None

    def use_mixed_precision(self, dtype: torch.dtype) -> None:
        """Compute the branches in half precision from here on; input and output stay float32.

        Args:
            dtype: bfloat16 or float16.
        """
        self.dtype = dtype
        for norm in (self.norm1, self.norm2):
            norm.weight, norm.bias = map(nn.Parameter, affine(norm, self.qkv.bias))
        for layer in (self.qkv, self.proj, self.fc1, self.fc2):
            layer.convert_weight(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W), channels last."""
        x = x.permute(0, 2, 3, 1)  # B, H, W, C
        if self.dtype is not None:
            return self._in_mixed_precision(x).permute(0, 3, 1, 2)
        x = self.proj(self._attend(_layer_norm(x, self.norm1)), x)
        y = self._ffn(_layer_norm(x, self.norm2))
        return fused_ops.bn_gelu(y, residual=x).permute(0, 3, 1, 2)

    def _in_mixed_precision(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the branches in `dtype` and their sum in float32, (B, H, W, C) -> the same."""
        y, n2 = self._attend_in_mixed_precision(x), self.norm2
        if self.conv_weight is not None and policy.use_block_kernel(x, self.fc1.weight):
            return fused_ops.finish_block(
                x, y, self.proj.weight, self.proj.bias, n2.weight, n2.bias, n2.eps,
                self.fc1.weight, self.fc1.bias, self.conv_weight, self.conv_bias,
                self.fc2.weight, self.fc2.bias,
            )  # fmt: skip
        y = self.proj(y)
        x, y = fused_ops.add_norm_stream(x, y, n2.weight, n2.bias, n2.eps)
        return fused_ops.add_gelu_stream(x, self._ffn(y))

    def _attend_in_mixed_precision(self, x: torch.Tensor) -> torch.Tensor:
        """Attention of the stream's LayerNorm, see `_attend`."""
        norm, qkv = self.norm1, self.qkv
        if policy.use_attention_kernel(x, qkv.weight) and self._mask(x) is None:
            bias = None if self.rel_pos_bias is None else self.rel_pos_bias[0]
            return fused_ops.norm_attention(
                x, norm.weight, norm.bias, norm.eps, qkv.weight, qkv.bias, bias, self.num_heads,
                self.window, self.dtype,
            )  # fmt: skip
        return self._attend(fused_ops.norm_stream(x, norm.weight, norm.bias, norm.eps, self.dtype))

    def _ffn(self, x: torch.Tensor) -> torch.Tensor:
        """FFN without its last GELU, (B, H, W, C) -> (B, H, W, C)."""
        x = self.fc1(x)
        if self.conv_weight is None:
            x = fused_ops.bn_gelu(x)
        else:
            x = fused_ops.gelu_dwconv_gelu(x, self.conv_weight, self.conv_bias)
        return self.fc2(x)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """Attention without its output projection, (B, H, W, C) -> (B, H, W, C)."""
        size, mask, bias = x.shape[1:3], self._mask(x), self.rel_pos_bias
        if mask is None and policy.use_fused_ops(x):
            bias = None if bias is None else bias[0]
            return fused_ops.window_attention(
                self.qkv(x), self.qkv.bias, bias, self.num_heads, self.window
            )
        x = window_partition(x, self.window, self.shift_size)
        windows, N, C = x.shape
        qkv = self.qkv(x)
        q, k, v = qkv.view(windows, N, 3, self.num_heads, C // self.num_heads).permute(
            2, 0, 3, 1, 4
        )
        if mask is not None:
            bias = masked_bias(bias, mask, self.num_heads, windows)
        bias = None if bias is None else bias.to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.transpose(1, 2).reshape(windows, N, C)
        return window_reverse(out, self.window, size, self.shift_size)

    def _mask(self, x: torch.Tensor) -> torch.Tensor | None:
        """See `attention_mask`; x: (B, H, W, C)."""
        return attention_mask(x.shape[1:3], self.window, x, self.shift_size, self.with_pad_mask)


def _layer_norm(x: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    if policy.use_fused_ops(x) and norm.bias is not None:
        return fused_ops.layer_norm(x, norm.weight, norm.bias, norm.eps)[0]
    return norm(x)


def affine(norm: nn.LayerNorm, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and offset of a LayerNorm, (C) each; if it has none, 1 and 0 typed `like`."""
    (C,) = norm.normalized_shape
    weight = like.new_ones(C) if norm.weight is None else norm.weight
    return weight, weight.new_zeros(C) if norm.bias is None else norm.bias


class InferenceBottleneck(nn.Module):
    """`Bottleneck` for inference.

    Args:
        block: block to convert.
    """

    def __init__(self, block: Bottleneck):
        super().__init__()
        self.conv1 = fuse_conv(block.conv1, block.bn1, 'relu')
        self.conv2 = fuse_conv(block.conv2, block.bn2, 'relu')
        self.conv3 = fuse_conv(block.conv3, block.bn3, 'relu')
        self.downsample = None if block.downsample is None else fuse_conv(*block.downsample)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, 4 * channels, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv3(self.conv2(self.conv1(x)), shortcut)


class InferenceFusion(nn.Module):
    """`MultiScaleFusion` for inference.

    The maps of lower resolutions are added first, then those of higher resolutions, each by the
    last convolution of its path; the last step applies the ReLU.

    Args:
        fusion: fusion to convert.
    """

    def __init__(self, fusion: MultiScaleFusion):
        super().__init__()
        self.upsample = fusion.upsample
        self.up, self.down = nn.ModuleList(), nn.ModuleList()
        for i, row in enumerate(fusion):
            self.up.append(nn.ModuleList(fuse(path) for path in row[i + 1 :]))
            down = (
                _DownPath(path, 'relu' if j == i - 1 else 'none') for j, path in enumerate(row[:i])
            )
            self.down.append(nn.ModuleList(down))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of (B, C_i, H_i, W_i)."""
        return [self._fuse(maps, i) for i in range(len(self.up))]

    def _fuse(self, maps: list[torch.Tensor], i: int) -> torch.Tensor:
        lower = [path(x) for path, x in zip(self.up[i], maps[i + 1 :], strict=True)]
        total = self._add_upsampled(maps[i], lower, relu=i == 0)
        for path, x in zip(self.down[i], maps, strict=False):
            total = path(x, total)
        return total

    def _add_upsampled(
        self, x: torch.Tensor, lower: list[torch.Tensor], relu: bool
    ) -> torch.Tensor:
        if lower and self.upsample == 'bilinear' and policy.use_cpu_kernels(x):
            x, *lower = (y.permute(0, 2, 3, 1) for y in (x, *lower))
            lower += [None] * (3 - len(lower))
            return fused_ops.add_upsampled(x, *lower, relu).permute(0, 3, 1, 2)
        size = map_size(x.shape[2:])
        for y in lower:
            x = x + UPSAMPLE[self.upsample](y, size)
        return F.relu(x) if relu else x


class _DownPath(nn.Module):
    """Path of a fusion to a lower resolution, with the sum and an activation after it.

    Args:
        path: path to convert.
        act: 'none' or 'relu'.
    """

    def __init__(self, path: nn.Sequential, act: str):
        super().__init__()
        self.path, self.act, self.last = fuse(path), act, None
        steps = self.path[-1] if type(self.path) is nn.Sequential else None
        if type(steps) is nn.Sequential and type(steps[-1]) is FusedConv:
            self.last = steps.pop(-1)
            self.last.act = act

    def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """Compute act(path(x) + residual).

        Args:
            x: (B, C, H, W).
            residual: (B, D, h, w).

        Returns:
            (B, D, h, w).
        """
        x = self.path(x)
        if self.last is not None:
            return self.last(x, residual)
        return ACTIVATIONS[self.act](x + residual)


class InferenceBasicBlock(nn.Module):
    """`BasicBlock` for inference.

    Args:
        block: block to convert.
    """

    def __init__(self, block: BasicBlock):
        super().__init__()
        self.conv1 = fuse_conv(block.conv1, block.bn1, 'relu')
        self.conv2 = fuse_conv(block.conv2, block.bn2, 'relu')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.conv2(self.conv1(x), x)


def fuse(module: nn.Module, block: type[nn.Module] = InferenceBlock) -> nn.Module:
    """Convert a layer, or the layers inside a container, for inference.

    Modules that `policy` does not allow to convert are copied, see `eval_copy`.

    Args:
        module: layer or container; it is not changed.
        block: class that converts an `HRFormerBlock`.
    """
    converters = {
        HRFormerBlock: block,
        BasicBlock: InferenceBasicBlock,
        Bottleneck: InferenceBottleneck,
    }
    kind = type(module)
    if kind in converters and policy.may_fuse(module):
        return converters[kind](module)
    if kind is MultiScaleFusion and policy.obstacle(module) is None:
        return InferenceFusion(module)
    if kind is nn.Sequential and policy.obstacle(module) is None:
        return nn.Sequential(*fuse_sequence(module, block))
    return eval_copy(module)


def fuse_sequence(
    modules: Iterable[nn.Module], block: type[nn.Module] = InferenceBlock
) -> list[nn.Module]:
    """Fuse convolutions with the BatchNorm and ReLU after them; convert other layers alone.

    Args:
        modules: layers that are applied one after the other.
        block: class that converts an `HRFormerBlock`.
    """
    layers, result = [*modules], []
    while layers:
        layer = layers.pop(0)
        if not _may_join(layer, nn.Conv2d, DepthwiseConv2d):
            result.append(fuse(layer, block))
            continue
        norm = layers.pop(0) if layers and _may_join(layers[0], *BATCH_NORMS) else None
        relu = layers.pop(0) if layers and _may_join(layers[0], nn.ReLU) else None
        result.append(fuse_conv(layer, norm, 'none' if relu is None else 'relu'))
    return result


def _may_join(layer: nn.Module, *classes: type[nn.Module]) -> bool:
    return type(layer) in classes and policy.may_fuse(layer)


def eval_copy(module: nn.Module) -> nn.Module:
    """Copy a module in evaluation mode; the copy shares its hooks."""
    memo: dict[int, object] = {}
    for layer in module.modules():
        for name, value in vars(layer).items():
            if 'hooks' in name:
                memo[id(value)] = value
            elif isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach()  # set by a hook in each call
    return copy.deepcopy(module, memo).eval()
