"""Count calls, memory traffic, FLOPs and bytes kept for backward of a network.

Counts are the same on every machine and in every run. One multiply-add is one FLOP, the convention
of the paper's tables and of MMPose's; all convolutions, linear layers and matrix products count,
those inside attention included; normalisation, activations, sums and interpolation do not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


@dataclass
class Counts:
    """Counts of one forward pass.

    Attributes:
        calls: operators that compute or copy; views are free.
        traffic: bytes that these read and write, as if nothing stayed in a cache.
        flops: multiply-adds.
    """

    calls: int = 0
    traffic: int = 0
    flops: int = 0


class _Counter(TorchDispatchMode):
    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view and function not in _FREE:
            self.counts.calls += 1
            self.counts.traffic += _bytes(args) + _bytes(result)
        return result


_FREE = {aten.detach.default, aten.empty.memory_format, aten._unsafe_view.default}


def _bytes(value) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return 0


def count(network: Callable, *inputs: torch.Tensor) -> Counts:
    """Count one forward pass without gradients.

    oneDNN's fused kernels, which a network that is folded for inference calls, are no operators
    that PyTorch's FLOP counter knows: its FLOPs are those of the network it was made from.
    """
    counts = Counts()
    with torch.no_grad():
        with _Counter(counts):
            network(*inputs)
        with FlopCounterMode(display=False, custom_mapping=ATTENTION) as flops:
            network(*inputs)
    counts.flops = flops.get_total_flops() // 2
    return counts


def _attention_flops(query_shape, key_shape, value_shape, *args, out_shape=None, **kwargs) -> int:
    *batch, queries, width = query_shape
    pairs = torch.Size(batch).numel() * queries * key_shape[-2]
    return 2 * pairs * (width + value_shape[-1])


ATTENTION = {
    operator: _attention_flops
    for name in ('_scaled_dot_product_flash_attention_for_cpu',)
    if (operator := getattr(aten, name, None)) is not None
}


def saved_bytes(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, the parameters aside."""
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in known:
            kept[address] = tensor  # alive, so that no other tensor takes its address
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        result = network(*inputs)
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return total
