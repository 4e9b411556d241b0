"""CUDA graphs on a CPU: operators are recorded, and run again on the same memory.

As in a CUDA graph, all that Python computes during the capture is fixed: values, sizes, addresses.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from hrformer_mmpose.execution.cuda_graph import CudaGraphs


class RecordedGraph(TorchDispatchMode):
    """Stand-in for `torch.cuda.CUDAGraph`."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        args = tree_map_only(torch.Tensor, torch.Tensor.detach, args)  # memory, not parameters
        self.calls.append((function, args, kwargs or {}, _tensors(result)))
        return result

    def replay(self) -> None:
        """Run the recorded operators; their results go to the tensors of the capture."""
        for function, args, kwargs, results in self.calls:
            for own, new in zip(results, _tensors(function(*args, **kwargs)), strict=True):
                if own.data_ptr() != new.data_ptr():
                    own.copy_(new)


def _tensors(result) -> list[torch.Tensor]:
    return [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]


@contextmanager
def _capture(graph: RecordedGraph, **options) -> Iterator[None]:
    with graph:
        yield


class Anywhere(CudaGraphs):
    """`CudaGraphs` that also captures on CPUs."""

    def _can_replay(self, x: torch.Tensor) -> bool:
        return True


def record_graphs(monkeypatch) -> None:
    """Replace what `CudaCapture` takes from `torch.cuda` by recorded graphs."""
    nothing = SimpleNamespace(
        wait_stream=lambda stream: None, wait=lambda: None, record=lambda: None
    )
    for name, stand_in in dict(
        device=lambda device: nullcontext(),
        stream=lambda stream: nullcontext(),
        current_stream=lambda: nothing,
        Stream=lambda: nothing,
        Event=lambda: nothing,
        graph_pool_handle=lambda: (0, 1),
        CUDAGraph=RecordedGraph,
        graph=_capture,
    ).items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
