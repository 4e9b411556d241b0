"""CUDA tensors without a GPU: PyTorch's fake tensors, which have a device and sizes but no values.

Code that mixes devices, or needs a value and thus waits for the GPU, fails on them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NoCopies(TorchDispatchMode):
    """Mode that forbids copies from one device to another and counts the operators.

    Attributes:
        count: operators so far, views included.
    """

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += 1
        if function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            tensors = [x for x in tree_leaves((args, result)) if isinstance(x, torch.Tensor)]
            devices = {str(x.device) for x in tensors}
            assert len(devices) == 1, f'{function} copies between {sorted(devices)}'
        return result


class _Bindings(TorchFunctionMode):
    """Mode that replaces methods that need a build of PyTorch with CUDA by operators."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.__getitem__:
            return _view(*args)
        if function is torch.Tensor.__setitem__:
            _view(*args[:2]).copy_(args[2])
            return None
        if function is torch.Tensor.contiguous:
            return torch.ops.aten.contiguous(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _view(x: torch.Tensor, index) -> torch.Tensor:
    index = [*index] if isinstance(index, tuple) else [index]
    axes = sum(part is not None and part is not Ellipsis for part in index)
    axis = 0
    for part in index:
        if part is Ellipsis:
            axis += x.ndim - axis - axes
        elif part is None:
            x = x.unsqueeze(axis)
            axis += 1
        else:
            axes -= 1
            if isinstance(part, int):
                x = x.select(axis, part)
                continue
            # Lists are copied to the GPU, masks wait for it.
            assert isinstance(part, slice), f'{type(part).__name__} as an index'
            start, stop, step = part.indices(x.shape[axis])
            x = torch.ops.aten.slice(x, axis, start, stop, step)
            axis += 1
    return x


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Context in which tensors can be created on, and moved to, 'cuda'."""
    with FakeTensorMode(allow_non_fake_inputs=False) as mode, _Bindings():
        yield mode


def to_fake_cuda(module: torch.nn.Module) -> torch.nn.Module:
    """Replace parameters and buffers by fake buffers, in a `fake_cuda` context; returns it."""
    for part in module.modules():
        tensors = {**part._parameters, **part._buffers}
        part._parameters.clear()
        for name, x in tensors.items():
            if x is not None:
                x = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device='cuda')
            part._buffers[name] = x
    return module
