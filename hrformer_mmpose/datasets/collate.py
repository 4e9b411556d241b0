"""From a loading worker to the training process in one piece.

PyTorch hands each tensor of a batch over in a shared file of its own, a hundred for 32 training
samples, which costs as much as decoding some images. Here a batch is pickled once, with the bytes
of its arrays and tensors side by side in one shared block, of which those of the training process
are views.
"""

import io
import pickle
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate as _pseudo_collate
from torch.utils.data import get_worker_info

from ..registry import FUNCTIONS

ALIGNMENT = 64  # bytes, at which each array begins


@FUNCTIONS.register_module()
def pseudo_collate(data_batch: list[dict]) -> dict:
    """MMEngine's `pseudo_collate`: lists of the samples' values, not stacked.

    Args:
        data_batch: samples.

    Returns:
        In a worker an object that arrives as that dictionary in the training process.
    """
    batch = _pseudo_collate(data_batch)
    return batch if get_worker_info() is None else _Packed(batch)


class _Packed:
    """Something that pickles into one block of shared memory, and unpickles into itself."""

    def __init__(self, content: Any):
        self.content = content

    def __reduce__(self) -> tuple:
        buffers: list[pickle.PickleBuffer] = []
        file = io.BytesIO()
        _Pickler(file, protocol=5, buffer_callback=buffers.append).dump(self.content)
        parts = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        places = np.cumsum([0, *(-(-len(part) // ALIGNMENT) * ALIGNMENT for part in parts)])
        block = torch.empty(max(int(places[-1]), 1), dtype=torch.uint8).share_memory_()
        shared = block.numpy()
        for part, place in zip(parts, places, strict=False):
            shared[place : place + len(part)] = part
        spans = [(int(place), len(part)) for place, part in zip(places, parts, strict=False)]
        return _unpack, (file.getvalue(), block, spans)


class _Pickler(pickle.Pickler):
    """Pickles tensors as the NumPy arrays they can be viewed as, whose bytes go out of band."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and _is_an_array(value):
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


def _is_an_array(value: torch.Tensor) -> bool:
    plain = value.device.type == 'cpu' and value.layout is torch.strided
    return plain and not value.requires_grad and value.dtype is not torch.bfloat16


def _unpack(pickled: bytes, block: torch.Tensor, spans: list[tuple[int, int]]) -> Any:
    shared = block.numpy()
    return pickle.loads(pickled, buffers=[shared[place : place + size] for place, size in spans])
