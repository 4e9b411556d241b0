"""The transformer block as a graph that ONNX runtimes execute well.

The same figures as `HRFormerBlock` in evaluation mode, in other steps than those that suit PyTorch:
maps stay (B, C, H, W) from block to block, since that is the order in which runtimes know
convolutions (what lies in memory is theirs to choose), LayerNorm's mean is therefore taken over the
second axis, and queries, keys and values are three products, whose results a runtime can read in
place where it fuses attention. docs/export.md has the measurements.

Shapes: B batch, C channels, H and W of a map, Kh x Kw window, N = Kh * Kw, nW windows a map, h
heads, d = C / h head width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..layers.attention import attention_mask
from ..layers.window import map_size, padding, window_partition, window_reverse
from .block import HRFormerBlock
from .inference import BlockTwin, folded, fused_conv, plain_copy
from .linear import FusedConv


class ExportBlock(BlockTwin):
    """`HRFormerBlock` for export.

    Args:
        block: whose output this one gives.
    """

    def __init__(self, block: HRFormerBlock):
        super().__init__(block)
        attention, ffn = block.attn.attn, block.ffn
        C = attention.proj.in_features
        weights, biases = attention.qkv.weight.detach(), attention.qkv.bias.detach()
        scale = weights.new_ones(3)
        scale[0] = (C // self.num_heads) ** -0.5  # of the queries
        for number, name in enumerate(('query', 'key', 'value')):
            part = slice(number * C, (number + 1) * C)
            layer = nn.Linear(C, C)
            layer.weight.data = weights[part] * scale[number]
            layer.bias.data = biases[part] * scale[number]
            self.add_module(name, layer)
        proj = plain_copy(attention.proj)
        self.proj = FusedConv(proj.weight.detach()[:, :, None, None], proj.bias, 1, 1)
        # Nothing is padded before fc1: it takes over what the LayerNorm before it scales and adds.
        weight, bias = folded(ffn.fc1, ffn.norm1)
        gamma, beta = _affine(self.norm2)
        bias = bias + weight.flatten(1) @ beta.detach()
        weight = weight * gamma.detach()[None, :, None, None]
        self.fc1 = FusedConv(weight, bias, 1, 1, 'gelu')
        self.dw3x3 = None if ffn.dw3x3 is None else fused_conv(ffn.dw3x3, ffn.norm2, 'gelu')
        self.fc2 = fused_conv(ffn.fc2, ffn.norm3, 'gelu')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = x + self.proj(self._attend(x))
        y = self.fc1(_standardised(x, self.norm2.eps))
        if self.dw3x3 is not None:
            y = self.dw3x3(y)
        return x + self.fc2(y)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """LayerNorm and attention up to the output projection, (B, C, H, W) -> the same."""
        size = map_size(x.shape[2:])
        weight, bias = (p[:, None, None] for p in _affine(self.norm1))
        y = _standardised(x, self.norm1.eps) * weight + bias
        # Padded before its axes are exchanged: OpenVINO has channels last in memory, and takes the
        # exchange for a change of names only where no layer but a reshape follows it.
        rows, cols = (padding(n, k) for n, k in zip(size, self.window, strict=True))
        y = F.pad(y, (*cols, *rows))
        tokens = window_partition(y.permute(0, 2, 3, 1), self.window, self.shift)
        N, C = map_size(tokens.shape[1:])
        q, k, v = (
            layer(tokens).view(-1, N, self.num_heads, C // self.num_heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        logits = q @ k.transpose(2, 3)
        if self.position_bias is not None:
            logits = logits + self.position_bias
        mask = attention_mask(size, self.window, x, self.shift, self.with_pad_mask)
        if mask is not None:
            mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
            # nW windows a map side by side, so that the mask is one for any batch
            logits = (logits.unflatten(0, (-1, len(mask))) + mask).flatten(0, 1)
        out = (logits.softmax(-1) @ v).transpose(1, 2).reshape(-1, N, C)
        return window_reverse(out, self.window, size, self.shift).permute(0, 3, 1, 2)


def _affine(norm: nn.LayerNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of a LayerNorm that may have none, (C) each."""
    (C,) = norm.normalized_shape
    weight = torch.ones(C) if norm.weight is None else norm.weight
    return weight, weight.new_zeros(C) if norm.bias is None else norm.bias


def _standardised(x: torch.Tensor, eps: float) -> torch.Tensor:
    """LayerNorm over the channels of (B, C, H, W), without scale and shift; computed in float32."""
    y = x.float()
    y = y - y.mean(1, keepdim=True)
    y = y * torch.rsqrt((y * y).mean(1, keepdim=True) + eps)
    return y.to(x.dtype)
