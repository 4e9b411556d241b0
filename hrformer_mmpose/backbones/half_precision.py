"""A network for inference whose weights are half precision, with float32 at both ends."""

import torch
from torch import nn

from ..execution import processor
from ..execution.inference import InferenceBlock


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
    half precision accumulate in float32 themselves. On CPUs, whose kernels take their parameters in
    float32, LayerNorms, depth-wise convolutions and position biases stay as they are.

    Args:
        network: maps a tensor to a tuple of tensors; converted in place.
        dtype: float16 or bfloat16.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        kept = _float32_parameters(network)
        self.network, self.dtype = network.to(dtype), dtype
        for holder, name, value in kept:
            getattr(holder, name).data = value

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network, float32 -> float32."""
        with torch.autocast(x.device.type, enabled=False):
            return tuple(y.float() for y in self.network(x.to(self.dtype)))


def _float32_parameters(network: nn.Module) -> list[tuple[nn.Module, str, torch.Tensor]]:
    """Return holder, name and value of the parameters that kernels of the CPU take in float32."""
    return [
        (holder, name, getattr(holder, name).data)
        for block in network.modules()
        if isinstance(block, InferenceBlock)
        for holder, name in block.kernel_parameters()
        if getattr(holder, name).device.type == 'cpu'
    ]
