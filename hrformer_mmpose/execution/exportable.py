"""Transformer block as a graph that ONNX runtimes execute well.

It computes the output of `HRFormerBlock` in evaluation mode with operators that suit runtimes, not
PyTorch. Maps stay (B, C, H, W) from block to block, the order in which runtimes optimise
convolutions; LayerNorm therefore takes its mean over the second axis. Query, key and value are
three products, so that a runtime which fuses attention reads them in place. docs/export.md has the
measurements.

Shapes: B batch, C channels, H and W of a map, Kh x Kw window, N = Kh * Kw tokens per window, nW
windows per map, h heads, d = C / h head width.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..layers.attention import attention_mask
from ..layers.window import map_size, padding, window_partition, window_reverse
from .block import HRFormerBlock
from .inference import ConvertedBlock, affine, eval_copy
from .linear import FusedConv, fold_batch_norm, fuse_conv


class ExportBlock(ConvertedBlock):
    """`HRFormerBlock` for export.

    Args:
        block: block to convert.
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
            layer = nn.utils.skip_init(nn.Linear, C, C)  # draws no random numbers
            layer.weight.data = weights[part] * scale[number]
            layer.bias.data = biases[part] * scale[number]
            self.add_module(name, layer)
        proj = eval_copy(attention.proj)
        self.proj = FusedConv(proj.weight.detach()[:, :, None, None], proj.bias, 1, 1)
        # Fold the LayerNorm's scale and offset into fc1, which sees no padding.
        weight, bias = fold_batch_norm(ffn.fc1, ffn.norm1)
        gamma, beta = affine(self.norm2, weight)
        bias = bias + weight.flatten(1) @ beta.detach()
        weight = weight * gamma.detach()[None, :, None, None]
        self.fc1 = FusedConv(weight, bias, 1, 1, 'gelu')
        self.dw3x3 = None if ffn.dw3x3 is None else fuse_conv(ffn.dw3x3, ffn.norm2, 'gelu')
        self.fc2 = fuse_conv(ffn.fc2, ffn.norm3, 'gelu')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = x + self.proj(self._attend(x))
        y = self.fc1(_normalize(x, self.norm2.eps))
        if self.dw3x3 is not None:
            y = self.dw3x3(y)
        return x + self.fc2(y)

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """LayerNorm and attention without output projection, (B, C, H, W) -> (B, C, H, W)."""
        size = map_size(x.shape[2:])
        weight, bias = (p[:, None, None] for p in affine(self.norm1, x))
        y = _normalize(x, self.norm1.eps) * weight + bias
        # Pad before the permute: OpenVINO keeps channels last in memory, and the permute costs
        # nothing there only if a reshape follows it directly.
        rows, cols = (padding(n, k) for n, k in zip(size, self.window, strict=True))
        y = F.pad(y, (*cols, *rows))
        tokens = window_partition(y.permute(0, 2, 3, 1), self.window, self.shift_size)
        N, C = map_size(tokens.shape[1:])
        q, k, v = (
            layer(tokens).view(-1, N, self.num_heads, C // self.num_heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        logits = q @ k.transpose(2, 3)
        if self.rel_pos_bias is not None:
            logits = logits + self.rel_pos_bias
        mask = attention_mask(size, self.window, x, self.shift_size, self.with_pad_mask)
        if mask is not None:
            mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
            # B, nW, h, N, N: the mask of one map then serves any batch.
            logits = (logits.unflatten(0, (-1, len(mask))) + mask).flatten(0, 1)
        out = (logits.softmax(-1) @ v).transpose(1, 2).reshape(-1, N, C)
        return window_reverse(out, self.window, size, self.shift_size).permute(0, 3, 1, 2)


def _normalize(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Normalize (B, C, H, W) over the channels, in float32."""
    y = x.float()
    y = y - y.mean(1, keepdim=True)
    y = y * torch.rsqrt((y * y).mean(1, keepdim=True) + eps)
    return y.to(x.dtype)
