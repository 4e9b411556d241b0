"""Frozen stages: what stays, what learns, and what is kept for the backward pass."""

import copy

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from hrformer_mmpose.backbones import HRFormer
from tests.backbones.test_arch import mmpose_extra
from tests.backbones.test_hrformer import SMALL, saved_bytes
from tests.backbones.weights import randomise
from tests.conftest import relative_error, without_recompute

# The parts that each number freezes, beside those of the numbers before.
PARTS = (
    ('conv1', 'bn1', 'conv2', 'bn2'), ('layer1', 'transition1'), ('stage2', 'transition2'),
    ('stage3', 'transition3'), ('stage4',),
)  # fmt: skip


def is_frozen(name: str, stages: int) -> bool:
    return name.split('.')[0] in sum(PARTS[: stages + 1], ())


def network(kind: str, stages: int, **options) -> HRFormer:
    torch.manual_seed(2)
    model = HRFormer(arch=SMALL, frozen_stages=stages, with_cp=kind == 'with_cp', **options)
    model.double()  # rounding errors change the sign of inputs of ReLU, and with it the gradient
    randomise(model)
    return without_recompute(model) if kind == 'plain' else model


@pytest.mark.slow
@pytest.mark.parametrize('stages', [1, 3])
def test_a_step_is_that_of_mmposes_class(stages):
    """Its `frozen_stages`: the same is frozen; gradients, statistics and output are equal."""
    backbones = pytest.importorskip('mmpose.models.backbones')
    extra = mmpose_extra('tiny', drop_path_rate=0.0)
    theirs = backbones.HRFormer(extra=copy.deepcopy(extra), frozen_stages=stages)
    ours = HRFormer(extra=extra, frozen_stages=stages)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    x, grads = torch.randn(2, 3, 64, 96, dtype=torch.float64), []
    for model in (ours, theirs):
        model.double().train()
        output = model(x)[0]
        output.square().mean().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert grads[0].keys() == grads[1].keys()
    assert {n for n, _ in ours.named_parameters() if not is_frozen(n, stages)} == {*grads[0]}
    for name, grad in grads[0].items():
        assert (grad - grads[1][name]).norm() <= 1e-8 * grads[1][name].norm() + 1e-10, name
    expected = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if not name.endswith('relative_position_index'):
            assert torch.allclose(value, expected[name], atol=1e-5), name


@pytest.mark.parametrize('kind', ['recompute', 'with_cp', 'plain'])
@pytest.mark.parametrize('stages', [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 3))])
def test_gradients_of_the_rest_are_those_of_the_whole_network(kind, stages):
    """Reference: the plain network with all gradients, the frozen parts' BatchNorms in eval()."""
    model, whole = network(kind, stages).train(), network('plain', -1).train()
    for name, module in whole.named_modules():
        if isinstance(module, _BatchNorm) and is_frozen(name, stages):
            module.eval()
    x = torch.randn(3, 3, 64, 48, dtype=torch.float64)
    outputs = [net(x)[0] for net in (model, whole)]
    assert relative_error(*(output.detach() for output in outputs)) < 1e-8
    for output in outputs:
        output.square().mean().backward()
    for (name, p), q in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert (p.grad is None) == is_frozen(name, stages), name
        if p.grad is not None:
            assert (p.grad - q.grad).norm() <= 1e-8 * q.grad.norm() + 1e-10, name


@pytest.mark.parametrize('kind', ['recompute', 'with_cp', 'plain'])
@pytest.mark.parametrize('stages', [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (-1, 4))])
def test_frozen_values_stay_and_others_change(kind, stages):
    model = network(kind, stages, drop_path_rate=0.2)
    before = copy.deepcopy(model.state_dict())
    head = torch.nn.Conv2d(8, 2, 1).double()
    optimizer = torch.optim.AdamW(
        [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad], lr=0.1
    )
    for _ in range(2):
        model.eval().train()  # as after a validation
        optimizer.zero_grad()
        head(model(torch.randn(3, 3, 64, 48, dtype=torch.float64))[0]).square().mean().backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        if not name.endswith('relative_position_index'):
            assert torch.equal(value, before[name]) == is_frozen(name, stages), name


@pytest.mark.parametrize('with_cp', [False, True])
def test_less_is_kept_for_the_backward_pass(with_cp):
    """Each further stage saves memory, also where the first blocks that learn are checkpointed."""
    x = torch.rand(1, 3, 64, 48)
    sizes = [
        saved_bytes(HRFormer(arch=SMALL, with_cp=with_cp, frozen_stages=n).train(), x)
        for n in range(-1, 4)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len({*sizes}) == 5
    assert sizes[4] < 0.5 * sizes[0]
    output = HRFormer(arch=SMALL, with_cp=with_cp, frozen_stages=4).train()(x)[0]
    assert not output.requires_grad
