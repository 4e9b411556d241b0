"""A network for inference that computes in half precision, with float32 at both ends."""

import torch
from torch import nn

from ..execution import processor
from ..execution.inference import InferenceBlock
from ..execution.linear import FusedConv


def takes_half_weights(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether `HalfPrecision` is faster than autocast on a device.

    Args:
        device: of the network.
        dtype: float16 or bfloat16.
    """
    return device.type == 'cuda' or (device.type == 'cpu' and dtype in processor.half_types())


class HalfPrecision(nn.Module):
    """Network that computes in half precision, also under autocast.

    Autocast would cast the weights in each call and keep LayerNorm and sums in float32; kernels of
    half precision accumulate in float32 themselves.

    On a GPU all maps and weights are half precision. On a CPU only the branches of HRFormer's
    blocks are: the convolutions of stem, transitions and fusions take a tenth of the time there,
    and rounding them and the residual stream moves as many keypoints again as rounding the
    branches (docs/speed.md). 3x3 convolutions may still multiply by bfloat16's instructions, to
    2^-16 of each product. Networks without such blocks are converted whole.

    Args:
        network: maps a tensor to a tuple of tensors; converted in place.
        dtype: float16 or bfloat16.
        device: on which the network will run.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, device: torch.device):
        super().__init__()
        self.network, self.dtype = network, dtype
        blocks = [block for block in network.modules() if isinstance(block, InferenceBlock)]
        if blocks and device.type == 'cpu':
            self.dtype = torch.float32
            for block in blocks:
                block.use_mixed_precision(dtype)
            for module in network.modules():
                if isinstance(module, FusedConv):
                    module.with_mixed_precision = dtype is torch.bfloat16
        else:
            network.to(dtype)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network, float32 -> float32."""
        with torch.autocast(x.device.type, enabled=False):
            return tuple(y.float() for y in self.network(x.to(self.dtype)))
