"""Replay of a network as a CUDA graph, one for each shape of its input.

A graph starts all kernels of a network with a single launch. It is bound to the addresses and
shapes of its capture: inputs are copied to its own, and another shape takes another graph. A
network that reads a value on the CPU, or copies from it, cannot be captured and runs as it is.
"""

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules import module as torch_module

from ..errors import first_line

Outputs = tuple[torch.Tensor, ...]
Replay = Callable[[torch.Tensor], Outputs]
MAX_GRAPHS = 8
WARM_UP = 2  # runs on the stream of the capture: libraries allocate their workspaces then
logger = logging.getLogger(__name__)


class CudaGraphs:
    """Network in evaluation mode that is replayed as a CUDA graph where its input's shape recurs.

    The first input of a shape runs the network itself, which also compiles and tunes kernels. The
    second captures a graph. Without a GPU, with gradients and under autocast the network runs as it
    is. Weights may be changed in place between calls, but not replaced. A network with hooks at the
    time of the capture runs as it is.

    Args:
        network: maps a tensor to a tuple of tensors.
        max_graphs: number of graphs; another one replaces the least recently used. If shapes
            return that were replaced, no more graphs are captured, since a capture takes longer
            than it saves.
        capture: returns the replay of the network for inputs like the given one; None captures a
            CUDA graph.
    """

    def __init__(
        self,
        network: nn.Module,
        max_graphs: int = MAX_GRAPHS,
        capture: Callable[[nn.Module, torch.Tensor], Replay] | None = None,
    ):
        self.network, self.max_graphs = network, max_graphs
        self._capture = capture or CudaCapture()
        self._graphs: OrderedDict[tuple, Replay] = OrderedDict()
        self._seen: set[tuple] = set()
        self._dropped: set[tuple] = set()
        self._may_capture = True
        self._lock = threading.Lock()  # a graph's buffers belong to one call at a time

    def __call__(self, x: torch.Tensor) -> Outputs:
        """Run the network."""
        if not self._can_replay(x):
            return self.network(x)
        key = self._key(x)
        with self._lock:
            replay = self._graphs.get(key) or self._new_graph(key, x)
            if replay is not None:
                self._graphs.move_to_end(key)
                return replay(x)
        return self.network(x)

    def _can_replay(self, x: torch.Tensor) -> bool:
        return x.is_cuda and not torch.is_grad_enabled() and not torch.is_autocast_enabled('cuda')

    def _key(self, x: torch.Tensor) -> tuple:
        return x.shape, x.stride(), x.dtype, x.device

    def _new_graph(self, key: tuple, x: torch.Tensor) -> Replay | None:
        """Capture a graph if the shape recurs and there may be another one."""
        if not self._may_capture or key not in self._seen:
            self._seen.add(key)
            return None
        if _has_hooks(self.network):
            self._stop('a replay would not call the hooks of the network, which runs without them')
            return None
        if key in self._dropped:
            self._stop(f'shapes keep changing: only {len(self._graphs)} are replayed')
            return None
        if len(self._graphs) == self.max_graphs:
            self._dropped.add(self._graphs.popitem(last=False)[0])
        try:
            self._graphs[key] = self._capture(self.network, x)
        except torch.OutOfMemoryError:
            self._graphs.clear()
            self._stop('not enough memory: the network runs without them')
        except RuntimeError as error:
            self._graphs.clear()
            _leave_capture(x.device)
            reason = first_line(_first_error(error))
            logger.debug('The capture failed', exc_info=error)
            self._stop(f'this network cannot be captured ({reason}) and runs without them')
        return self._graphs.get(key)

    def _stop(self, reason: str) -> None:
        self._may_capture = False
        logger.warning('CUDA graphs: %s', reason)


def _first_error(error: BaseException) -> BaseException:
    """Return the error that made a capture fail; ending the capture raises another one after it."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _leave_capture(device: torch.device) -> None:
    """Free the random numbers of a device from a capture that failed.

    PyTorch (2.11) leaves its generator in the state of the capture, in which each further random
    number raises an error. A copy of the state is in no capture.
    """
    index = device.index or 0
    for generator in torch.cuda.default_generators[index : index + 1]:
        generator.graphsafe_set_state(generator.clone_state())


def _has_hooks(network: nn.Module) -> bool:
    hooks = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks
    layers = ((x._forward_hooks, x._forward_pre_hooks) for x in network.modules())
    return any(map(any, (hooks, *layers)))


class CudaCapture:
    """Capture of CUDA graphs that share their memory.

    Graphs of one instance must not run at the same time: they use the same memory for what they
    compute in between. Their inputs and outputs are their own.
    """

    def __init__(self):
        self._pool = self._stream = self._done = None

    def __call__(self, network: nn.Module, x: torch.Tensor) -> Replay:
        """Capture `network` for inputs of the shape of `x`; return the function that replays it."""
        with torch.cuda.device(x.device), torch.inference_mode(False), torch.no_grad():
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
                self._stream, self._done = torch.cuda.Stream(), torch.cuda.Event()
            current = torch.cuda.current_stream()
            with torch.cuda.stream(current):  # a capture that fails leaves its stream as current
                return self._captured(network, x.clone(), current)

    def _captured(self, network: nn.Module, own: torch.Tensor, current) -> Replay:
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                network(own)
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may allocate memory meanwhile, as a data loader's does.
        options = dict(pool=self._pool, stream=self._stream, capture_error_mode='thread_local')
        with torch.cuda.graph(graph, **options):
            outputs = network(own)
        return _Captured(graph, own, outputs, self._done, network)


class _Captured:
    """Captured graph with its own input and outputs.

    Args:
        graph: CUDA graph.
        own: the graph's input.
        outputs: the graph's outputs.
        done: event after the latest use of the memory that graphs share.
        network: the captured network.
    """

    def __init__(self, graph, own: torch.Tensor, outputs: Outputs, done, network: nn.Module):
        self._graph, self._own, self._outputs, self._done = graph, own, outputs, done
        # Moving the network must not free the memory that the graph reads.
        self.weights = [x.detach() for x in (*network.parameters(), *network.buffers())]

    def __call__(self, x: torch.Tensor) -> Outputs:
        with torch.cuda.device(self._own.device), torch.inference_mode(False), torch.no_grad():
            self._done.wait()  # the call before may have been on another stream
            self._own.copy_(x)
            self._graph.replay()
            results = tuple(y.clone() for y in self._outputs)
            self._done.record()
        return results


class TrainingGraphs(CudaGraphs):
    """Network in training mode whose forward and backward pass are replayed as CUDA graphs.

    A training step launches thousands of kernels; launching them takes a fast GPU longer than
    running them. Differences from training without graphs: random numbers (stochastic depth) are
    drawn in another order, and a gradient must not be kept until the next backward pass, which
    overwrites it: gradients cannot be accumulated. A forward pass whose predecessor still awaits
    its backward pass runs without a graph, and so does an input of another shape.

    Args:
        network: maps a tensor that requires no gradient to a tuple of tensors.
        capture: see `CudaGraphs`.
    """

    def __init__(
        self,
        network: nn.Module,
        capture: Callable[[nn.Module, torch.Tensor], Replay] | None = None,
    ):
        super().__init__(_Forward(network), capture=self._tracked(capture or capture_training))
        self._awaited: weakref.ref | None = None  # node of a backward pass that has not run

    def __call__(self, x: torch.Tensor) -> Outputs:
        """Run the network."""
        if self._awaited is not None and self._awaited() is not None:
            return self.network(x)
        return super().__call__(x)

    def _tracked(self, capture: Callable) -> Callable:
        """Make the replays of a capture note that their backward pass is to come."""

        def tracked(network: nn.Module, x: torch.Tensor) -> Replay:
            replay = capture(network, x)

            def run(x: torch.Tensor) -> Outputs:
                first, *others = replay(x)
                first = _Tracked.apply(first, self._on_backward)
                self._awaited = weakref.ref(first.grad_fn)
                return first, *others

            return run

        return tracked

    def _on_backward(self) -> None:
        self._awaited = None

    def _can_replay(self, x: torch.Tensor) -> bool:
        return x.is_cuda and torch.is_grad_enabled() and self.network.wrapped.training

    def _new_graph(self, key: tuple, x: torch.Tensor) -> Replay | None:
        # The first shape that recurs is the usual batch. A graph holds all activations.
        return None if self._graphs else super()._new_graph(key, x)

    def _key(self, x: torch.Tensor) -> tuple:
        trainable = sum(p.requires_grad for p in self.network.parameters())
        enabled = torch.is_autocast_enabled('cuda')
        return *super()._key(x), trainable, enabled, torch.get_autocast_dtype('cuda')


class _Tracked(torch.autograd.Function):
    """Identity that calls a function in the backward pass."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, on_backward: Callable) -> torch.Tensor:
        ctx.on_backward = on_backward
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple:
        ctx.on_backward()
        return grad, None


class _Forward(nn.Module):
    """A network's present forward pass, whatever replaces it later."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.wrapped, self._forward = network, network.forward

    def forward(self, x: torch.Tensor) -> Outputs:
        return self._forward(x)


def capture_training(network: nn.Module, x: torch.Tensor) -> Replay:
    """Capture forward and backward pass of a network in training mode for inputs like `x`.

    Running statistics and the state of random numbers are those before the capture.
    """
    buffers = [*network.buffers()]
    saved, random_state = [buffer.clone() for buffer in buffers], torch.cuda.get_rng_state(x.device)
    enabled, dtype = torch.is_autocast_enabled('cuda'), torch.get_autocast_dtype('cuda')
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    # The capture computes the gradients of aliases. Those of the parameters themselves belong to
    # the stream of the step before for as long as somebody holds its loss, and no capture may wait
    # for that stream.
    aliases = [p.detach().requires_grad_() for p in trainable.values()]

    def run(x: torch.Tensor, *weights: torch.Tensor) -> Outputs:
        return functional_call(network, dict(zip(trainable, weights, strict=True)), (x,))

    try:
        with torch.autocast('cuda', dtype, enabled=enabled, cache_enabled=False):
            replay = torch.cuda.make_graphed_callables(
                run, (x.clone(), *aliases), allow_unused_input=True
            )
    finally:
        for buffer, value in zip(buffers, saved, strict=True):
            buffer.copy_(value)
        torch.cuda.set_rng_state(random_state, x.device)
    return lambda x: replay(x, *trainable.values())
