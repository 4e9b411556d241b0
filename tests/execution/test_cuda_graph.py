"""Which calls are replayed as CUDA graphs; the graphs themselves where there is a GPU."""

import copy
import logging

import pytest
import torch
from torch import nn

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.execution.cuda_graph import CudaGraphs, TrainingGraphs, capture_training
from tests.conftest import relative_error
from tests.fake_cuda import fake_cuda
from tests.recorded_graph import Anywhere, record_graphs


class Sum(nn.Module):
    """Network that counts its runs."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return (x.sum(dim=1),)


class Two(nn.Module):
    """Layer with two outputs."""

    def forward(self, x):
        return x, x + 1


class Recorder:
    """Capture that records the shapes it is asked for, and the replays."""

    def __init__(self, error: Exception | None = None):
        self.captured, self.replayed, self.error = [], [], error

    def __call__(self, network, x):
        self.captured.append(len(x))
        if self.error is not None:
            raise self.error

        def replay(x):
            self.replayed.append(len(x))
            return (x.sum(dim=1),)

        return replay


def run(sizes, capture, max_graphs: int = 2) -> tuple[CudaGraphs, Sum]:
    network = Sum()
    graphs = CudaGraphs(network, max_graphs, capture)
    with fake_cuda(), torch.no_grad():
        for size in sizes:
            (total,) = graphs(torch.empty(size, 3, device='cuda'))
            assert total.shape == (size,)
    return graphs, network


def test_a_shape_is_captured_when_it_recurs():
    recorder = Recorder()
    _, network = run([4, 4, 4, 3, 4], recorder)
    assert recorder.captured == [4]
    assert recorder.replayed == [4, 4, 4]
    assert network.runs == 2  # the first 4, and 3


def test_the_least_recently_used_graph_makes_way():
    recorder = Recorder()
    run([1, 1, 2, 2, 1, 3, 3, 1], recorder)
    assert recorder.captured == [1, 2, 3]
    assert recorder.replayed == [1, 2, 1, 3, 1]


def test_shapes_that_keep_changing_are_reported_once_and_run_without_graphs(caplog):
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        _, network = run([1, 1, 2, 2, 3, 3, 1, 1, 2, 3, 3, 4, 4, 5, 5], recorder)
    assert recorder.captured == [1, 2, 3]
    assert recorder.replayed == [1, 2, 3, 2, 3, 3]
    assert network.runs == 9
    assert [record.getMessage() for record in caplog.records] == [
        'CUDA graphs: shapes keep changing: only 2 are replayed'
    ]


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (
            RuntimeError('operation not permitted when stream is capturing\nCompile with ...'),
            'this network cannot be captured (operation not permitted when stream is capturing) '
            'and runs without them',
        ),
        (
            torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
            'not enough memory: the network runs without them',
        ),
    ],
)
def test_a_network_that_cannot_be_captured_runs_as_it_is(error, line, caplog):
    recorder = Recorder(error)
    with caplog.at_level(logging.WARNING):
        _, network = run([4, 4, 4, 3, 3], recorder)
    assert recorder.captured == [4]
    assert network.runs == 5
    assert [record.getMessage() for record in caplog.records] == [f'CUDA graphs: {line}']


def test_hooks_are_called_each_time(caplog):
    recorder, network, calls = Recorder(), nn.Sequential(nn.ReLU(), Sum()), []
    network[0].register_forward_hook(lambda *_: calls.append(1))
    graphs = CudaGraphs(network, 8, recorder)
    with fake_cuda(), torch.no_grad():
        for _ in range(4):
            graphs(torch.empty(3, 3, device='cuda'))
    assert recorder.captured == []
    assert len(calls) == 4
    assert caplog.text.count('hooks') == 1


def test_layout_and_type_belong_to_the_shape():
    recorder, network = Recorder(), Sum()
    graphs = CudaGraphs(network, 8, recorder)
    with fake_cuda(), torch.no_grad():
        x = torch.empty(3, 3, device='cuda')
        for other in (x, x.t(), x.half()):
            graphs(other)
        assert recorder.captured == []
        graphs(x.t())
    assert recorder.captured == [3]


def test_gradients_autocast_and_the_cpu_take_no_graph():
    recorder, network = Recorder(), Sum()
    graphs = CudaGraphs(network, 8, recorder)
    with fake_cuda():
        for _ in range(3):
            graphs(torch.empty(3, 3, device='cuda'))
        torch.set_autocast_enabled('cuda', True)
        with torch.no_grad():
            for _ in range(3):
                graphs(torch.empty(3, 3, device='cuda'))
        torch.set_autocast_enabled('cuda', False)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(graphs(torch.ones(2, 3))[0], torch.full((2,), 3.0))
    assert network.runs == 9
    assert recorder.captured == []


@pytest.mark.parametrize('inference_mode', [False, True])
def test_a_captured_network_gives_its_results(inference_mode, monkeypatch):
    """Earlier results stay, shapes alternate, weights change in place; graphs are recorded ones."""
    record_graphs(monkeypatch)
    layers = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4), Two())
    graphs = Anywhere(layers, 2)
    inputs = [torch.randn(n, 8) for n in (3, 5, 3, 5, 3, 7, 7, 7, 5, 3)]
    with torch.inference_mode(inference_mode), torch.no_grad():
        for _ in range(2):
            results = [graphs(x) for x in inputs]
            for x, result in zip(inputs, results, strict=True):
                for actual, expected in zip(result, layers(x), strict=True):
                    torch.testing.assert_close(actual, expected)
            with torch.inference_mode(False), torch.no_grad():
                layers[0].weight.mul_(0.5)
    assert len(graphs._graphs) == 2


def test_a_moved_network_leaves_the_weights_of_its_graph(monkeypatch):
    record_graphs(monkeypatch)
    layers = nn.Sequential(nn.Linear(8, 4), Two())
    graphs, x = Anywhere(layers, 2), torch.randn(3, 8)
    with torch.no_grad():
        expected = [graphs(x) for _ in range(2)][-1]
        addresses = {weight.data_ptr() for weight in layers.parameters()}
        layers.double()
        assert torch.equal(graphs(x)[0], expected[0])
    (captured,) = graphs._graphs.values()
    assert {weight.data_ptr() for weight in captured.weights} == addresses


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('inference_mode', [False, True])
def test_a_graph_gives_the_networks_results(inference_mode):
    """Results of earlier calls stay, shapes alternate, weights change in place."""
    network = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4), Two()).cuda()
    graphs = CudaGraphs(network, 2)
    inputs = [torch.randn(n, 8, device='cuda') for n in (3, 5, 3, 5, 3, 7, 7, 7, 5, 3)]
    with torch.inference_mode(inference_mode), torch.no_grad():
        for _ in range(2):
            results = [graphs(x) for x in inputs]
            for x, result in zip(inputs, results, strict=True):
                for actual, expected in zip(result, network(x), strict=True):
                    torch.testing.assert_close(actual, expected)
            with torch.inference_mode(False), torch.no_grad():
                network[0].weight.mul_(0.5)
    assert graphs._graphs


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_network_that_reads_a_value_runs_without_a_graph(caplog):
    class Reading(nn.Module):
        def forward(self, x):
            return (x * float(x.sum()),)

    graphs, x = CudaGraphs(Reading()), torch.randn(4, 2, device='cuda')
    stream = torch.cuda.current_stream()
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(graphs(x)[0], x * float(x.sum()))
    assert torch.cuda.current_stream() == stream
    assert 'cannot be captured' in caplog.text
    torch.rand(2, device='cuda')  # random numbers are not left in the capture


class Scale(nn.Module):
    """Network with a weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return (x * self.weight,)


def training_graphs(error: Exception | None = None) -> tuple[TrainingGraphs, Scale, list]:
    """Graphs on the CPU whose replay doubles what the network computes."""
    replayed, network = [], Scale()

    def capture(network, x):
        if error is not None:
            raise error

        def replay(x):
            replayed.append(len(x))
            return (2 * x * network.wrapped.weight,)

        return replay

    graphs = TrainingGraphs(network, capture)
    graphs._can_replay = lambda x: torch.is_grad_enabled() and network.training
    return graphs, network, replayed


def test_training_is_replayed_once_a_shape_recurs():
    graphs, network, replayed = training_graphs()
    for size in (4, 4, 2, 2, 4):
        graphs(torch.ones(size, 3))[0].sum().backward()
    assert replayed == [4, 4]
    assert network.runs == 3
    assert torch.equal(network.weight.grad, torch.full((3,), 4.0 + 8 + 2 + 2 + 8))


def test_evaluation_and_other_trainable_weights_are_not_replayed():
    graphs, network, replayed = training_graphs()
    x = torch.ones(4, 3)
    for _ in range(2):
        graphs(x)[0].sum().backward()
    with torch.no_grad():
        graphs(x)
    network.eval()
    graphs(x)
    network.train().weight.requires_grad_(False)
    graphs(x)
    assert replayed == [4]


def test_a_forward_pass_does_not_overwrite_one_that_awaits_its_backward_pass():
    graphs, _, replayed = training_graphs()
    x = torch.ones(4, 3)
    graphs(x)[0].sum().backward()
    (first,) = graphs(x)
    (second,) = graphs(x)
    assert replayed == [4]
    second.sum().backward()
    first.sum().backward()
    graphs(x)[0].sum().backward()
    graphs(x)  # dropped: no backward pass will follow
    graphs(x)
    assert replayed == [4] * 4


def test_a_training_step_that_cannot_be_captured_runs_without_a_graph(caplog):
    graphs, network, _ = training_graphs(RuntimeError('not permitted\nin detail'))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            graphs(torch.ones(4, 3))[0].sum().backward()
    assert network.runs == 3
    assert caplog.text.count('cannot be captured (not permitted)') == 1


def test_the_first_error_of_a_capture_is_reported(caplog):
    """PyTorch raises another one when it ends the capture."""
    error = RuntimeError('operation failed due to a previous error during capture')
    error.__context__ = RuntimeError('no reading of values')
    graphs, *_ = training_graphs(error)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            graphs(torch.ones(4, 3))[0].sum().backward()
    assert 'cannot be captured (no reading of values)' in caplog.text


def test_the_replaced_forward_pass_is_the_one_that_is_captured():
    network = Scale()
    graphs = TrainingGraphs(network)
    network.forward = graphs.__call__
    assert torch.equal(network(torch.ones(2, 3))[0], torch.ones(2, 3))


@pytest.mark.parametrize('with_cp', [False, True])
def test_the_gradients_of_a_capture_are_those_of_the_parameters(monkeypatch, with_cp):
    """Without a GPU: what would be captured runs instead."""
    monkeypatch.setattr(torch.cuda, 'make_graphed_callables', lambda run, *_, **__: run)
    monkeypatch.setattr(torch.cuda, 'get_rng_state', lambda *_: None)
    monkeypatch.setattr(torch.cuda, 'set_rng_state', lambda *_: None)
    network = HRFormer(arch='tiny', with_cp=with_cp).train()
    network.conv1.requires_grad_(False)
    x, gradients = torch.rand(2, 3, 32, 32), []
    for run in (network, capture_training(network, x)):
        network.zero_grad()
        sum(y.square().mean() for y in run(x)).backward()
        gradients.append([p.grad for p in network.parameters()])
    assert sum(grad is None for grad in gradients[0]) < 0.1 * len(gradients[0])
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
def test_a_replayed_training_step_equals_the_networks(dtype, monkeypatch):
    """Losses, gradients and running statistics over several steps."""
    # The gradients of random weights turn rounding errors of 1e-6 into errors of 4e-3, and a step
    # of an optimizer turns those into other weights. So there is none, and noise is avoided.
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', True)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    tolerance = 1e-3 if dtype is torch.float32 else 0.05
    torch.manual_seed(0)
    plain = HRFormer(arch='tiny').cuda().train()
    graphed = copy.deepcopy(plain)
    graphed.forward = TrainingGraphs(graphed).__call__
    losses = []  # kept, and with them the steps' autograd graphs, as a user may
    for _ in range(5):
        image, results = torch.rand(2, 3, 64, 64, device='cuda'), []
        for network in (plain, graphed):
            network.zero_grad()
            with torch.autocast('cuda', dtype, enabled=dtype is not torch.float32):
                loss = sum(y.float().square().mean() for y in network(image))
            loss.backward()
            losses.append(loss)
            tensors = [p.grad for p in network.parameters() if p.grad is not None]
            results.append((loss, torch.cat([x.flatten() for x in tensors])))
        (loss, gradients), (own_loss, own_gradients) = results
        torch.testing.assert_close(own_loss, loss, rtol=1e-3, atol=0)
        assert relative_error(own_gradients, gradients) < tolerance
    assert graphed.forward.__self__._graphs
    for a, b in zip(graphed.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=min(tolerance, 1e-2), atol=min(tolerance, 1e-2))
