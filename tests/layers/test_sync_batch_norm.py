"""SyncBN in two gloo processes, compared with one process that has the whole batch."""

import copy
import multiprocessing

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.layers import SyncBatchNorm
from tests.backbones.test_hrformer import SMALL
from tests.conftest import relative_error, without_recompute

SYNC = dict(type='SyncBN', momentum=0.3)
KINDS = ('norm', 'cumulative', 'block', 'plain block', 'cp')


def _run(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    results = {kind: layer_step(rank, kind) for kind in KINDS}
    results |= {dtype: train(rank, dtype) for dtype in (torch.float32, torch.float64)}
    results['frozen'] = train(rank, torch.float64, 3, frozen_stages=2)
    results['autocast'] = autocast_step(rank)
    results['group'] = step_of_a_group(rank)
    torch.save(results, f'{folder}/{rank}.pt')
    distributed.barrier()
    distributed.destroy_process_group()


def step_of_a_group(rank: int) -> torch.Tensor:
    """Output of a layer whose process group is this process alone."""
    groups = [distributed.new_group([number]) for number in range(2)]
    layer = SyncBatchNorm(8, process_group=groups[rank])
    return layer(torch.full((2, 8, 3, 3), 1.0 + rank) * torch.arange(2.0)[:, None, None, None])


@pytest.fixture(scope='module')
def shares(tmp_path_factory) -> list[dict]:
    """Results of two processes, which start once and share the import of this module."""
    folder = tmp_path_factory.mktemp('processes')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([__name__])
    tasks = [context.Process(target=_run, args=(rank, str(folder))) for rank in range(2)]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(timeout=300)
    assert [task.exitcode for task in tasks] == [0, 0]
    return [torch.load(folder / f'{rank}.pt') for rank in range(2)]


def make_layer(kind: str) -> nn.Module:
    torch.manual_seed(5)
    if kind == 'norm':
        layer = SyncBatchNorm(8, momentum=0.3)
    elif kind == 'cumulative':
        layer = SyncBatchNorm(8, momentum=None)
    else:
        layer = HRFormerBlock(8, 2, (3, 4), 2.0, norm_cfg=SYNC, with_cp=kind == 'cp')
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    layer = layer.double().train()
    return without_recompute(layer) if kind == 'plain block' else layer


def share(x: torch.Tensor, rank: int | None) -> torch.Tensor:
    """Three of four samples for the first process, one for the second."""
    return x if rank is None else (x[:3], x[3:])[rank]


def layer_step(rank: int | None, kind: str) -> dict[str, torch.Tensor]:
    layer = make_layer(kind)
    torch.manual_seed(6)
    x, weight = torch.randn(2, 4, 8, 5, 6, dtype=torch.float64)
    x = share(x, rank).requires_grad_()
    out = layer(x)
    (out * share(weight, rank)).sum().backward()
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    return dict(
        out=out.detach(), x=x.grad, gradients=gradients, buffers=dict(layer.named_buffers())
    )


@pytest.mark.parametrize('kind', KINDS)
def test_uneven_batches_train_as_one(kind, shares):
    shares, whole = [part[kind] for part in shares], layer_step(None, kind)
    for name in ('out', 'x'):
        ours = torch.cat([part[name] for part in shares])
        assert torch.allclose(ours, whole[name], rtol=1e-9, atol=1e-11), name
    for name, expected in whole['gradients'].items():
        ours = sum(part['gradients'][name] for part in shares)
        assert torch.allclose(ours, expected, rtol=1e-9, atol=1e-10), name
    for name, expected in whole['buffers'].items():
        for part in shares:
            assert torch.allclose(part['buffers'][name], expected, rtol=1e-12), name


def make_network(dtype: torch.dtype, **options) -> HRFormer:
    torch.manual_seed(1)
    return HRFormer(arch=SMALL, norm_cfg=dict(type='SyncBN'), **options).to(dtype)


def train(rank: int | None, dtype: torch.dtype, iterations: int = 10, **options) -> dict:
    """Train a network, in float32 at a low learning rate.

    A higher one amplifies rounding: in one process, another order of the images within a batch then
    changes the losses of 20 iterations by 1 %. In float64 the network learns at such a rate.
    """
    network = make_network(dtype, **options)
    images = torch.rand(iterations, 4, 3, 64, 48, dtype=dtype)
    model = network if rank is None else DistributedDataParallel(network)
    lr = 0.01 if dtype is torch.float64 else 1e-5
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    losses = []
    for batch in images:
        optimizer.zero_grad()
        own = batch if rank is None else batch[2 * rank : 2 * rank + 2]
        loss = (model(own)[0] - 0.5).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    losses = torch.stack(losses)
    if rank is not None:
        distributed.all_reduce(losses)
        losses /= 2
    return dict(losses=losses, state=network.state_dict())


def flat(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Concatenate all weights, all running means and all running variances."""
    groups: dict[str, list[torch.Tensor]] = {}
    for name, value in state.items():
        kind = name.split('.')[-1]
        groups.setdefault(kind if kind.startswith('running') else 'weights', []).append(value)
    return {
        kind: torch.cat([x.double().flatten() for x in group]) for kind, group in groups.items()
    }


@pytest.mark.parametrize(('dtype', 'rtol'), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_ten_iterations_equal_those_of_one_process(dtype, rtol, shares):
    whole = train(None, dtype)
    for part in (results[dtype] for results in shares):
        assert torch.allclose(part['losses'], whole['losses'], rtol=rtol)
        ours, expected = (flat(result['state']) for result in (part, whole))
        for name in expected:
            assert relative_error(ours[name], expected[name]) < rtol, name
    if dtype is torch.float64:
        assert whole['losses'][-1] < whole['losses'][0] / 2


def test_frozen_stages_need_no_search_for_unused_parameters(shares):
    """DistributedDataParallel with its defaults fails at the second step if one is unused."""
    before = make_network(torch.float64).state_dict()
    whole = train(None, torch.float64, 3, frozen_stages=2)
    for part in (results['frozen'] for results in shares):
        assert torch.allclose(part['losses'], whole['losses'], rtol=1e-9)
        for name, value in part['state'].items():
            if name.startswith(('stage3', 'stage4', 'transition3')):
                assert torch.allclose(value, whole['state'][name], rtol=1e-7, atol=1e-9), name
            else:
                assert torch.equal(value, before[name]), name


def autocast_step(rank: int | None) -> torch.Tensor:
    layer = make_layer('block').float()
    torch.manual_seed(6)
    x = share(torch.randn(4, 8, 5, 6), rank).bfloat16().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        layer(x).float().square().sum().backward()
    return x.grad.float()


def test_under_autocast(shares):
    ours = torch.cat([part['autocast'] for part in shares])
    assert relative_error(ours, autocast_step(None)) < 1e-2


def test_a_group_shares_with_no_other_process(shares):
    x = torch.arange(2.0)[:, None, None, None].expand(2, 8, 3, 3)
    for rank, share in enumerate(shares):
        torch.testing.assert_close(share['group'], nn.BatchNorm2d(8)((1.0 + rank) * x))


def test_alone_it_is_batch_norm():
    ours, x = make_layer('norm'), torch.randn(2, 8, 5, 6, dtype=torch.float64)
    plain = nn.BatchNorm2d(8, momentum=0.3).double()
    plain.load_state_dict(copy.deepcopy(ours.state_dict()))
    for training in (True, False):
        assert torch.equal(ours.train(training)(x), plain.train(training)(x))
    assert torch.equal(ours.running_var, plain.running_var)
