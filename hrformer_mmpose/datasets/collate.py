"""Transfer of a batch from a worker to the training process in one shared-memory block.

PyTorch transfers each tensor of a batch in its own shared file. A batch of 32 training samples has
about a hundred, which cost as much as decoding several images. Here a batch is pickled once, with
the bytes of its arrays and tensors in one shared block. The arrays and tensors of the training
process are views of the block.
"""

import io
import pickle
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate as _pseudo_collate
from torch.utils.data import get_worker_info

from ..registry import FUNCTIONS

ALIGNMENT = 64  # of each array, in bytes


@FUNCTIONS.register_module()
def pseudo_collate(data_batch: list[dict]) -> dict:
    """MMEngine's `pseudo_collate`: collect the values of samples in lists, without stacking.

    Args:
        data_batch: samples.

    Returns:
        Dictionary of lists. In a worker, an object that unpickles to it in the training process.
    """
    batch = _pseudo_collate(data_batch)
    return batch if get_worker_info() is None else _Packed(batch)


class _Packed:
    """Content that is pickled to one block of shared memory."""

    def __init__(self, content: Any):
        self.content = content

    def __reduce__(self) -> tuple:
        buffers: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(self.content)
        parts = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        offsets = np.cumsum([0, *(-(-len(part) // ALIGNMENT) * ALIGNMENT for part in parts)])
        block = torch.empty(max(int(offsets[-1]), 1), dtype=torch.uint8).share_memory_()
        shared = block.numpy()
        for part, offset in zip(parts, offsets, strict=False):
            shared[offset : offset + len(part)] = part
        spans = [(int(offset), len(part)) for offset, part in zip(offsets, parts, strict=False)]
        return _unpack, (file.getvalue(), block, spans)


class _Pickler(pickle.Pickler):
    """Pickler that converts CPU tensors to NumPy arrays, whose bytes go out of band."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and _is_array_like(value):
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


def _is_array_like(value: torch.Tensor) -> bool:
    plain = value.device.type == 'cpu' and value.layout is torch.strided
    return plain and not value.requires_grad and value.dtype is not torch.bfloat16


def _unpack(pickled: bytes, block: torch.Tensor, spans: list[tuple[int, int]]) -> Any:
    shared = block.numpy()
    return pickle.loads(pickled, buffers=[shared[offset : offset + size] for offset, size in spans])
