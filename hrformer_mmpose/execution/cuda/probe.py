"""A tiny kernel that shows whether Triton can compile for a device and PyTorch can run on it."""

import torch
import triton
import triton.language as tl

from .common import launch


@triton.jit
def _add_one(x_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(x_ptr + i, tl.load(x_ptr + i) + 1)


def probe(device: int | str) -> None:
    """Run a kernel on a device.

    Raises:
        RuntimeError: its result is wrong, or PyTorch has no kernels for the device.
    """
    x = torch.zeros(32, device=device)
    launch(_add_one, (1,), x, BLOCK=32)
    if not bool((x == 1).all()):
        raise RuntimeError('a test kernel gave a wrong result')
