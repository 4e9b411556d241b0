"""Strided depth-wise convolution of the fusions, with a fast backward pass in bfloat16 on CPUs."""

import torch
import torch.nn.functional as F
from torch import nn

from . import fused_ops, policy
from .stock import stock


@stock
class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d`, whose gradients under a CPU's autocast are computed in float32.

    In bfloat16 oneDNN takes 15 to 30 times as long for them (PyTorch 2.13, AVX-512 BF16, stride 2),
    which was 0.28 of 6.0 seconds of HRFormer-B's training step.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H / stride, W / stride)."""
        if policy.use_float32_gradients(self, x):
            return _Convolution.apply(x, self.weight, self.stride[0])
        return super().forward(x)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, stride):
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        with torch.autocast('cpu', enabled=False):
            return F.conv2d(x, weight.to(x.dtype), None, stride, 1, groups=len(weight))

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad, x = (y.permute(0, 2, 3, 1) for y in (grad, x))
        grad_x, grad_weight = fused_ops.dwconv_backward(grad, x, weight.flatten(1), ctx.stride)
        return grad_x.permute(0, 3, 1, 2), grad_weight.view_as(weight), None
