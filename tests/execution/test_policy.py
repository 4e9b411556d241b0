"""Hooks, adapters, replaced layers and transforms: equal to the plain network, or an error."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.execution.block import HRFormerBlock
from tests.conftest import relative_error, without_recompute
from tests.execution.steps import compare, make_block, recomputed, step  # noqa: F401

X = torch.randn(2, 8, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
BOTH = ['attention', 'ffn']
ATTENTION_LAYERS = ('norm1', 'attn', 'attn.attn', 'attn.attn.qkv', 'attn.attn.proj')
FFN_LAYERS = tuple(
    f'ffn.{name}'.rstrip('.')
    for name in ('', 'fc1', 'norm1', 'dw3x3', 'norm2', 'fc2', 'norm3', 'act')
)
LAYERS = [*ATTENTION_LAYERS, 'norm2', *FFN_LAYERS, 'drop_path']


class LoRA(nn.Module):
    """Wrapper of a linear layer or a 1x1 convolution with a low-rank addition to its weight."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        rows, columns = layer.weight.flatten(1).shape
        self.down = nn.Parameter(torch.randn(2, columns, dtype=torch.float64))
        self.up = nn.Parameter(torch.randn(rows, 2, dtype=torch.float64))

    def merged(self) -> torch.Tensor:
        return self.layer.weight + (self.up @ self.down).view_as(self.layer.weight)

    def forward(self, x):
        return functional_call(self.layer, {'weight': self.merged()}, (x,))


class LoRALinear(nn.Linear):
    """Adapter by inheritance."""

    def forward(self, x):
        return super().forward(x) + x.flip(-1) @ self.weight.t()


class Shifted(nn.Parameter):
    """A subclass of Tensor."""


class ScaledNorm(nn.LayerNorm):
    def forward(self, x):
        return 2 * super().forward(x)


class ScaledBatchNorm(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class ConvAndShortcut(nn.Conv2d):
    def forward(self, x):
        return x + super().forward(x)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def recast(path: str, cls: type):
    """Change the class of a layer and keep its weights."""

    def change(block):
        block.get_submodule(path).__class__ = cls

    return change


def replace(path: str, make):
    def change(block):
        parent, _, name = path.rpartition('.')
        layer = make(block.get_submodule(path)).double().train()
        setattr(block.get_submodule(parent), name, layer)

    return change


def apply(path: str, function, *args):
    return lambda block: function(block.get_submodule(path), *args)


def override_forward(block):
    layer = block.ffn.fc1
    forward = layer.forward
    layer.forward = lambda x: forward(x).square()


def tensor_subclass(block):
    block.attn.attn.qkv.weight = Shifted(block.attn.attn.qkv.weight.detach())


def statistics_switched_off(block):
    block.ffn.norm2.track_running_stats = False


def set_momentum(layer):
    layer.momentum = None


def batch_norm(**settings):
    return lambda layer: nn.BatchNorm2d(layer.num_features, **settings)


def depth_wise(**settings):
    settings = dict(kernel_size=3, padding=1, groups=16) | settings
    return replace('ffn.dw3x3', lambda _: nn.Conv2d(16, 16, **settings))


# What is changed, and the branches that may still take the fast path.
CHANGES = {
    'LoRA qkv': (replace('attn.attn.qkv', LoRA), ['ffn']),
    'LoRA fc2': (replace('ffn.fc2', LoRA), ['attention']),
    'Linear subclass': (recast('attn.attn.proj', LoRALinear), ['ffn']),
    'Conv subclass': (recast('ffn.dw3x3', ConvAndShortcut), ['attention']),
    'BatchNorm subclass': (recast('ffn.norm3', ScaledBatchNorm), ['attention']),
    'LayerNorm subclass': (recast('norm1', ScaledNorm), ['ffn']),
    'SiLU': (replace('ffn.act', lambda _: nn.SiLU()), ['attention']),
    'GELU by tanh': (replace('ffn.act', lambda _: nn.GELU('tanh')), ['attention']),
    '5x5': (depth_wise(kernel_size=5, padding=2), ['attention']),
    'groups': (depth_wise(groups=4), ['attention']),
    'dilation': (depth_wise(padding=2, dilation=2), ['attention']),
    'circular': (depth_wise(padding_mode='circular'), ['attention']),
    'Identity': (replace('norm2', lambda _: nn.Identity()), ['attention']),
    'no bias': (replace('attn.attn.qkv', lambda _: nn.Linear(8, 24, bias=False)), ['ffn']),
    'weight_norm': (apply('attn.attn.qkv', parametrizations.weight_norm), ['ffn']),
    'spectral_norm': (apply('ffn.fc1', parametrizations.spectral_norm), ['attention']),
    'parametrization': (
        lambda b: parametrize.register_parametrization(b.norm1, 'weight', Doubled()),
        ['ffn'],
    ),
    'old weight_norm': (apply('ffn.fc2', weight_norm), ['attention']),
    'old spectral_norm': (apply('attn.attn.proj', spectral_norm), ['ffn']),
    'pruning': (apply('ffn.fc1', prune.l1_unstructured, 'weight', 0.5), ['attention']),
    'own forward': (override_forward, ['attention']),
    'no affine': (replace('ffn.norm1', batch_norm(affine=False)), ['attention']),
    'tensor subclass': (tensor_subclass, ['ffn']),
    # Not bypassed, since the fast path knows them.
    'no statistics': (replace('ffn.norm1', batch_norm(track_running_stats=False)), BOTH),
    'statistics switched off': (statistics_switched_off, BOTH),
    'cumulative average': (apply('ffn.norm3', set_momentum), BOTH),
}  # fmt: skip
KEEPS_OUTPUT = {
    'weight_norm', 'old weight_norm', 'tensor subclass', 'no statistics',
    'statistics switched off', 'cumulative average',
}  # fmt: skip


def changed(change, **settings) -> HRFormerBlock:
    block = make_block(drop_path=0.3, **settings)
    change(block)
    return block


@pytest.mark.filterwarnings('ignore:.*weight_norm.*is deprecated')
@pytest.mark.parametrize('training', [True, False], ids=['training', 'evaluation'])
@pytest.mark.parametrize('name', CHANGES)
def test_changed_layers_act_as_in_the_plain_network(name, training, recomputed):  # noqa: F811
    change, fast = CHANGES[name]
    ours = step(changed(change).train(training), X)
    assert recomputed == fast
    compare(ours, step(without_recompute(changed(change)).train(training), X))
    if name not in KEEPS_OUTPUT:
        assert relative_error(ours[0], step(make_block(drop_path=0.3).train(training), X)[0]) > 1e-6
    if not training:
        with torch.no_grad():
            assert torch.allclose(changed(change).eval()(X), ours[0])


@pytest.mark.parametrize('path', ['attn.attn.qkv', 'attn.attn.proj', 'ffn.fc1'])
def test_an_adapter_equals_its_merged_weight(path, recomputed):  # noqa: F811
    adapted = changed(replace(path, LoRA))
    out, grad_x, *_ = step(adapted, X)
    merged = make_block(drop_path=0.3)
    merged.get_submodule(path).weight.data = adapted.get_submodule(path).merged().detach()
    expected, expected_grad, *_ = step(merged, X)
    assert recomputed.count('attention') + recomputed.count('ffn') == 3
    assert torch.allclose(out, expected)
    assert torch.allclose(grad_x, expected_grad)


def tripled(value):
    return (3 * value[0],) if isinstance(value, tuple) else 3 * value


HOOKS = {
    'forward': lambda layer: layer.register_forward_hook(lambda m, i, out: tripled(out)),
    'forward_pre': lambda layer: layer.register_forward_pre_hook(lambda m, i: (3 * i[0], *i[1:])),
    'backward': lambda layer: layer.register_full_backward_hook(
        lambda m, grads, _: (3 * grads[0], *grads[1:])
    ),
    'backward_pre': lambda layer: layer.register_full_backward_pre_hook(
        lambda m, grads: tripled(grads)
    ),
}


@pytest.mark.parametrize('kind', HOOKS)
@pytest.mark.parametrize('path', LAYERS)
def test_hooks_act_in_training(path, kind, recomputed):  # noqa: F811
    def hooked() -> HRFormerBlock:
        block = make_block(drop_path=0.3)
        HOOKS[kind](block.get_submodule(path))
        return block

    ours, stock = step(hooked(), X), step(make_block(drop_path=0.3), X)
    branch = 'ffn' if path.startswith(('ffn', 'norm2')) else 'attention'
    hooked_branches = BOTH if path == 'drop_path' else [branch]
    assert recomputed == [name for name in BOTH if name not in hooked_branches] + BOTH
    compare(ours, step(without_recompute(hooked()), X))
    if path not in ('ffn.fc1', 'ffn.dw3x3', 'ffn.fc2'):  # BatchNorm undoes a scale before it
        assert not torch.allclose(ours[1], stock[1]), 'the hook has an effect'


@pytest.mark.parametrize(
    'register',
    [
        lambda f: nn.modules.module.register_module_forward_hook(lambda m, i, out: f(m)),
        lambda f: nn.modules.module.register_module_forward_pre_hook(lambda m, i: f(m)),
        lambda f: nn.modules.module.register_module_full_backward_hook(lambda m, i, o: f(m)),
        lambda f: nn.modules.module.register_module_full_backward_pre_hook(lambda m, o: f(m)),
    ],
    ids=HOOKS,
)
def test_global_hooks_see_every_layer(register, recomputed):  # noqa: F811
    block, seen = make_block(), []
    handle = register(seen.append)
    try:
        ours = step(block, X)
    finally:
        handle.remove()
    assert {*block.modules()} == {*seen}
    assert not recomputed
    compare(ours, step(make_block(), X))


SMALL = dict(
    num_modules=(1, 1, 1, 1), num_blocks=(1, 1, 1, 1), channels=(8, 16, 24, 32),
    num_heads=(1, 2, 3, 4),
)  # fmt: skip


@pytest.mark.parametrize('with_cp', [False, True])
def test_in_training_every_layer_with_weights_calls_its_hook(with_cp):
    network = HRFormer(arch=SMALL, with_cp=with_cp, multiscale_output=True).train()
    names = [n for n, m in network.named_modules() if [*m.parameters(recurse=False)]]
    seen = set()
    for name in names:
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.add(name))
    sum(x.mean() for x in network(torch.rand(2, 3, 64, 32))).backward()
    assert len(names) > 150
    assert {*names} == seen


def test_patched_classes(monkeypatch, recomputed):  # noqa: F811
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, 'forward', lambda self, x: 2 * forward(self, x))
    ours = step(make_block(), X)
    assert recomputed == ['ffn']
    compare(ours, step(without_recompute(make_block()), X))


def test_a_hook_that_is_removed_leaves_the_fast_path(recomputed):  # noqa: F811
    block = make_block()
    block.attn.attn.qkv.register_forward_hook(lambda *_: None).remove()
    step(block, X)
    assert recomputed == BOTH


@pytest.mark.slow
def test_peft_trains_as_on_mmposes_class():
    peft = pytest.importorskip('peft')
    pytest.importorskip('mmpose')
    from mmpose.models.backbones import HRFormer as MMPoseHRFormer

    from tests.backbones.test_parity_mmpose import mmpose_extra

    config = peft.LoraConfig(r=2, target_modules=['qkv', 'proj', 'fc1', 'fc2'], lora_alpha=8)
    results = []
    networks = [HRFormer(extra=mmpose_extra('tiny')), MMPoseHRFormer(extra=mmpose_extra('tiny'))]
    networks[1].load_state_dict(networks[0].state_dict())
    state = None
    for network in networks:
        network.double().train()
        model = peft.get_peft_model(network, config)
        if state is None:
            state = {
                k: torch.randn_like(v) / 9 for k, v in model.state_dict().items() if 'lora' in k
            }
        model.load_state_dict(state, strict=False)
        torch.manual_seed(0)
        out = model(torch.rand(2, 3, 64, 32, dtype=torch.float64))[0]
        out.square().sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((out.detach(), grads))
    (ours, our_grads), (theirs, their_grads) = results
    assert our_grads.keys() == their_grads.keys()
    assert len(our_grads) > 100
    assert relative_error(ours, theirs) < 1e-9
    scale = max(g.norm() for g in their_grads.values())
    for name, value in their_grads.items():
        assert (our_grads[name] - value).norm() < 1e-8 * value.norm() + 1e-11 * scale, name


def loss_of(parameters, buffers, block, x):
    out = functional_call(block, (parameters, buffers), (x,))
    return (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum()


def test_functional_call_and_grad(recomputed):  # noqa: F811
    expected = step(make_block(), X)
    block = make_block()
    parameters = {name: p.detach() for name, p in block.named_parameters()}
    buffers = {name: b.clone() for name, b in block.named_buffers()}
    recomputed.clear()
    gradients = grad(loss_of)(parameters, buffers, block, X)
    assert not recomputed
    leaves = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    loss_of(leaves, buffers, block, X).backward()
    for name, value in expected[2].items():
        assert torch.allclose(gradients[name], value, atol=1e-10), name
        assert torch.allclose(leaves[name].grad, value, atol=1e-10), name


@pytest.mark.parametrize('with_rpe', [True, False])
def test_vmap_and_forward_mode(with_rpe, recomputed):  # noqa: F811
    block = make_block(with_rpe=with_rpe).eval()
    gradient = step(block, X)[1]
    weight = torch.linspace(-1, 1, X.numel(), dtype=X.dtype).view_as(X)
    tangent = torch.randn_like(X)
    expected = (gradient * tangent).sum()
    images = torch.stack((X, 2 * X))
    recomputed.clear()
    # PyTorch's fused kernel of attention on CPUs has neither and says so.
    with sdpa_kernel(SDPBackend.MATH):
        outs = vmap(block)(images)
        by_func = jvp(block, (X,), (tangent,))[1]
        with forward_ad.dual_level():
            by_dual = forward_ad.unpack_dual(block(forward_ad.make_dual(X, tangent))).tangent
    assert not recomputed
    assert torch.allclose(outs, torch.stack([block(x) for x in images]))
    assert torch.allclose((by_func * weight).sum(), expected)
    assert torch.allclose((by_dual * weight).sum(), expected)


def test_gradients_of_gradients():
    """Differentiate twice although the output's gradient requires none (see `_first_order`)."""
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match='with_recompute = False'):
        torch.autograd.grad(make_block()(x).sum(), x, create_graph=True)
    block = without_recompute(make_block().eval())
    (first,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * X).sum(), x)
    step_size, ends = 1e-6, []
    for sign in (1, -1):
        end = (X + sign * step_size * X).requires_grad_()
        ends.append(torch.autograd.grad(block(end).square().sum(), end)[0])
    assert relative_error((ends[0] - ends[1]) / (2 * step_size), second) < 1e-6


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('fast', [False, True])
@pytest.mark.parametrize('passes', [1, 2, 3])
def test_several_backward_passes(with_cp, fast, passes):
    block = make_block(drop_path=0.5, with_cp=with_cp)
    block.with_recompute = fast
    plain = without_recompute(make_block(drop_path=0.5))
    compare(step(block, X, passes), step(plain, X, passes))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_a_converted_block_trains(dtype):
    """`model.bfloat16()` also converts the running statistics."""
    ours, plain = (make_block().to(dtype) for _ in range(2))
    results = step(ours, X.to(dtype)), step(without_recompute(plain), X.to(dtype))
    compare(*results, rtol=0, atol=0)
    exact = step(make_block(), X)
    assert relative_error(results[0][0].double(), exact[0]) < 0.05
    assert ours.ffn.norm1.running_mean.dtype is dtype
    assert (
        relative_error(ours.ffn.norm1.running_mean.double(), exact[3]['ffn.norm1.running_mean'])
        < 0.05
    )


def test_statistics_of_another_type(recomputed):  # noqa: F811
    def mixed() -> HRFormerBlock:
        block = make_block().float()
        block.ffn.norm1.running_mean = block.ffn.norm1.running_mean.double()
        return block

    with pytest.raises(RuntimeError):  # PyTorch's own
        step(without_recompute(mixed()), X.float())
    with pytest.raises(RuntimeError):
        step(mixed(), X.float())
    assert recomputed == ['attention']


def test_one_value_per_channel_is_pytorchs_error():
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        make_block()(X[:1, :, :1, :1])


def test_with_autocast_or_without_gradients_the_plain_path(recomputed):  # noqa: F811
    block = make_block().float()
    with torch.no_grad():
        block(X.float())
    with torch.autocast('cpu', torch.bfloat16):
        block(X.float())
    assert not recomputed
    block(X.float())
    assert recomputed == BOTH


def test_copies_take_the_fast_path(recomputed):  # noqa: F811
    step(copy.deepcopy(make_block()), X)
    assert recomputed == BOTH


def test_compiled_layers_are_called(recomputed, monkeypatch):  # noqa: F811
    """`--compile` replaces the call of a layer, not its forward."""
    monkeypatch.setattr(torch, 'compile', lambda function, **_: function)
    block = make_block()
    block.ffn.compile()
    step(block, X)
    assert recomputed == ['attention']


@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), dict(type='BN', track_running_stats=False)])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_a_converted_network_trains(norm_cfg, dtype):
    image = torch.rand(2, 3, 64, 48)
    results = []
    for fast in (True, False):
        torch.manual_seed(5)
        network = HRFormer(arch=SMALL, norm_cfg=norm_cfg, with_cp=True).to(dtype).train()
        results.append(step_of(network if fast else without_recompute(network), image.to(dtype)))
    exact = dtype is torch.float64
    compare(*results, rtol=1e-6 if exact else 0, atol=1e-9 if exact else 0)
    assert torch.isfinite(results[0][0]).all()


def step_of(network, image):
    return step(nn.Sequential(network, First()), image)


class First(nn.Module):
    def forward(self, maps):
        return maps[0]
