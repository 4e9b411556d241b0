"""Memory on CPUs that the C library keeps for the next map instead of returning it to the kernel.

By default glibc returns a block above 32 MiB as soon as it is freed, and the free end of its heap
when that exceeds 64 MiB (mallopt(3)). Every page of the next map is a page fault then: without the
measures here, a fifth to a quarter of the time of large batches (docs/speed.md).
"""

import ctypes
import functools
import os

import torch

# The highest value of M_MMAP_THRESHOLD on 64-bit systems.
LARGEST_KEPT_BLOCK = 32 * 2**20
KEPT_FOR_INFERENCE = 2**30

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of malloc.h
VARIABLES = (
    'MALLOC_TRIM_THRESHOLD_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_MMAP_MAX_', 'GLIBC_TUNABLES',
)  # fmt: skip


@functools.cache
def keep_for_inference() -> bool:
    """Keep up to 1 GiB of freed memory in this process, in blocks of up to 32 MiB.

    Environment variables that configure glibc's allocator take precedence.

    Returns:
        Whether it is kept. Other C libraries than glibc have no such setting.
    """
    if keep_for_training.cache_info().currsize:  # was called and keeps more
        return keep_for_training()
    return _configure(
        (_M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK), (_M_TRIM_THRESHOLD, KEPT_FOR_INFERENCE)
    )


@functools.cache
def keep_for_training() -> bool:
    """Keep all freed memory in this process: each training step needs as much again.

    See `keep_for_inference`.
    """
    return _configure((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1))  # -1: never trim


def split(x: torch.Tensor, bytes_per_image: int) -> tuple[torch.Tensor, ...]:
    """Split a batch into parts of about the same size whose maps are in blocks that are kept.

    Args:
        x: (B, ...).
        bytes_per_image: of the largest map. An image whose map is larger is a part by itself.
    """
    images_per_part = max(1, LARGEST_KEPT_BLOCK // bytes_per_image)
    return x.chunk(max(1, -(-len(x) // images_per_part)))


def _configure(*settings: tuple[int, int]) -> bool:
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: on Windows
        return False
    accepted = [mallopt(*setting) for setting in settings]
    return all(accepted)
