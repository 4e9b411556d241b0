"""Training step and inference, as they are timed and counted.

A training step is a forward and a backward pass, under autocast where the precision is not float32.
An inference in half precision is `HalfPrecision`'s, or runs under autocast.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn

from ..backbones.half_precision import HalfPrecision, takes_half_weights

DTYPES = dict(float32=torch.float32, float16=torch.float16, bfloat16=torch.bfloat16)


def set_training(network: nn.Module, training: bool) -> nn.Module:
    """Set the mode of a network and return it; `train` of MMPose's classes returns None."""
    network.train(training)
    return network


def loss_of(network: nn.Module, image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Compute a loss whose gradient reaches all outputs.

    Args:
        network: a backbone in training mode.
        image: (B, 3, H, W), float32.
        dtype: type of autocast; float32 for none.
    """
    # CPUs have no autocast to float32, not even a disabled one.
    enabled = dtype is not torch.float32
    with torch.autocast(image.device.type, dtype if enabled else torch.bfloat16, enabled=enabled):
        out = network(image)[0]
    return out.float().square().mean()


def training_step(network: nn.Module, image: torch.Tensor, dtype: torch.dtype) -> Callable:
    """Return a function that runs one training step; the gradients are freed at the end.

    Args:
        network: a backbone.
        image: (B, 3, H, W), float32.
        dtype: type of autocast; float32 for none.
    """
    set_training(network, True)

    def step() -> None:
        try:
            loss_of(network, image, dtype).backward()
        finally:  # also out of memory: the other networks take their turns
            network.zero_grad(set_to_none=True)

    return step


def for_inference(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Copy a network for inference: this package's fused as in `PoseEstimator`, MMPose's as it is.

    Args:
        network: on its device; takes images in float32.
        dtype: in which it computes.
    """
    network = copy.deepcopy(set_training(network, False))
    fuse = getattr(network, 'fuse_for_inference', None)
    device = next(network.parameters()).device
    network = network if fuse is None else fuse()
    if dtype is torch.float32:
        return network
    if takes_half_weights(device, dtype):
        return HalfPrecision(network, dtype, device)
    return UnderAutocast(network, dtype)


class UnderAutocast(nn.Module):
    """A network for inference under autocast, channels last: half precision on CPUs.

    Args:
        network: any network; a copy is used.
        dtype: type of autocast.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype):
        super().__init__()
        network = copy.deepcopy(set_training(network, False))
        self.network, self.dtype = network.to(memory_format=torch.channels_last), dtype

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the network on (B, 3, H, W), float32."""
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, self.dtype):
            return self.network(x)


def inference(network: nn.Module, image: torch.Tensor) -> Callable:
    """Return a function that runs one inference and returns the map of highest resolution.

    Args:
        network: a network from `for_inference`.
        image: (B, 3, H, W).
    """

    def step() -> torch.Tensor:
        with torch.no_grad():
            return network(image)[0]

    return step
