"""Count operator calls, memory traffic, multiply-adds and bytes kept for the backward pass.

Counts are the same on every machine with the same kernels, and in every run. All convolutions,
linear layers and matrix products count as multiply-adds, those inside attention included;
normalisation, activations, sums and interpolation do not. Papers and MMPose call a multiply-add one
FLOP.

A fused operator of `execution/fused_ops/` is one call: what its plain form calls is not counted.
Its traffic is that of its kernel for half precision on GPUs.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .multiply_adds import multiply_adds
from .steps import loss_of, set_training

aten = torch.ops.aten
_FREE = {aten.detach, aten._unsafe_view, aten.lift_fresh, aten._fused_sdp_choice, aten.empty}
_FREE |= {aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
_OVERWRITE = {aten.copy_, aten.fill_, aten.zero_}  # write their first argument without reading it


@dataclass
class Counts:
    """Counts of an inference or a training step.

    Attributes:
        calls: operators that compute or copy, each at least one kernel on a GPU; views are free.
        traffic: bytes that these read and write, as if nothing stayed in a cache.
        flops: multiply-adds.
        kept: bytes kept for the backward pass.
        operators: calls, traffic and multiply-adds by operator.
    """

    calls: float = 0
    traffic: float = 0
    flops: float = 0
    kept: float = 0
    operators: dict[str, 'Counts'] = field(default_factory=dict, repr=False)

    def add(self, traffic: int, flops: int) -> None:
        """Add a call."""
        self.calls += 1
        self.traffic += traffic
        self.flops += flops


def extrapolate(two: Counts, three: Counts, batch: int) -> Counts:
    """Counts of a larger batch from those of two and three images; all are linear in the batch.

    A single image does not do: axes of size one save some copies.
    """
    names = [f.name for f in dataclasses.fields(Counts) if f.name != 'operators']
    pairs = ((getattr(two, name), getattr(three, name)) for name in names)
    operators = {
        name: extrapolate(two.operators.get(name, Counts()), counts, batch)
        for name, counts in three.operators.items()
    }
    return Counts(*(a + (b - a) * (batch - 2) for a, b in pairs), operators)


def count(network: Callable, *inputs: torch.Tensor) -> Counts:
    """Count one forward pass without gradients."""
    counts = Counts()
    with torch.no_grad(), _Counter(counts):
        network(*inputs)
    return counts


def count_step(network: nn.Module, image: torch.Tensor, dtype: torch.dtype) -> Counts:
    """Count a training step, see `steps`.

    Args:
        network: a backbone.
        image: (B, 3, H, W), float32.
        dtype: type of autocast; float32 for none.
    """
    set_training(network, True).zero_grad(set_to_none=True)
    counts = Counts()
    with _Counter(counts):
        with _kept_for_backward(network) as kept:
            loss = loss_of(network, image, dtype)
        counts.kept = _storage_bytes(kept)
        kept.clear()
        loss.backward()
    network.zero_grad(set_to_none=True)
    return counts


def saved_bytes(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, parameters and buffers aside."""
    with torch.enable_grad(), _kept_for_backward(network) as kept:
        result = network(*inputs)
    total = _storage_bytes(kept)
    del result
    return total


class _Counter(TorchDispatchMode):
    def __init__(self, counts: Counts):
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)  # without this mode: calls inside are not counted
        if not function.is_view and function.overloadpacket not in _FREE:
            work = _traffic(function, args, kwargs, result), multiply_adds(function, args, result)
            self.counts.add(*work)
            self.counts.operators.setdefault(str(function.overloadpacket), Counts()).add(*work)
        return result


def _traffic(function, args: tuple, kwargs: dict, result) -> int:
    out = {argument.name for argument in function._schema.arguments if argument.is_out}
    read = args[1:] if function.overloadpacket in _OVERWRITE else args
    named = [v for k, v in kwargs.items() if k not in out]
    return _bytes(read) + _bytes(named) + _bytes(result)


def _bytes(value) -> int:
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    if not isinstance(value, torch.Tensor):
        return 0
    shape = value.shape
    if value.layout is torch.strided:  # an expanded axis is in memory once
        shape = [n for n, step in zip(shape, value.stride(), strict=True) if step or not n]
    return torch.Size(shape).numel() * value.element_size()


@contextlib.contextmanager
def _kept_for_backward(network: nn.Module) -> Iterator[dict[int, torch.Tensor]]:
    """Collect the tensors that autograd saves, by the address of their storage."""
    tensors = [*network.parameters(), *network.buffers()] if isinstance(network, nn.Module) else []
    of_network = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in of_network:
            kept[address] = tensor  # alive, so that no other tensor takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _storage_bytes(kept: dict[int, torch.Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
