"""Inference networks of networks with hooks, adapters and replaced layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.backbones.inference import InferenceHRFormer, InferenceModule, fuse_network
from hrformer_mmpose.execution.block import HRFormerBlock
from hrformer_mmpose.execution.exportable import ExportBlock
from hrformer_mmpose.execution.inference import InferenceBlock, InferenceFusion
from tests.backbones.weights import randomise
from tests.conftest import relative_error

SMALL = dict(
    num_modules=(1, 1, 1, 1), num_blocks=(1, 2, 2, 2), channels=(8, 16, 24, 32),
    num_heads=(1, 2, 3, 4),
)  # fmt: skip
IMAGE = torch.rand(1, 3, 96, 64, generator=torch.Generator().manual_seed(2))
BLOCK = 'stage3.0.branches.1.0'


class SlowHRFormer(HRFormer):
    def forward(self, x):
        return tuple(2 * y for y in super().forward(x))


class ScaledConv(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def network(cls: type[HRFormer] = HRFormer, **settings) -> HRFormer:
    model = cls(arch=SMALL, multiscale_output=True, **settings).eval()
    randomise(model)
    return model


def hook(model: nn.Module, path: str) -> list[int]:
    """Register a hook that triples the output; return the list of its calls."""
    calls = []

    def triple(module, inputs, out):
        calls.append(1)
        return 3 * out if isinstance(out, torch.Tensor) else type(out)(3 * y for y in out)

    model.get_submodule(path).register_forward_hook(triple)
    return calls


def check(model: HRFormer, caplog) -> nn.Module:
    """Convert, check equal outputs and a single log line, and return the inference network."""
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    caplog.clear()
    fused = model.fuse_for_inference()
    assert len(caplog.records) == 1
    with torch.no_grad():
        for ours, expected in zip(fused(IMAGE), model(IMAGE), strict=True):
            assert relative_error(ours, expected) < 1e-5
    assert flags == [m.training for m in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return fused


def count(model: nn.Module, cls: type[nn.Module]) -> int:
    return sum(isinstance(m, cls) for m in model.modules())


# Path of the hook, and how many blocks, modules and fusions are converted: of 18, 3 and 3.
HOOKED = {
    f'{BLOCK}.attn.attn.qkv': (17, 3, 3),
    f'{BLOCK}.ffn.act': (17, 3, 3),
    f'{BLOCK}.drop_path': (17, 3, 3),
    BLOCK: (17, 3, 3),
    'stage3.0.branches.1': (16, 3, 3),
    'stage3.0': (12, 2, 2),
    'stage3': (12, 2, 2),
    'stage3.0.fuse_layers': (18, 3, 2),
    'stage3.0.fuse_layers.2.0': (18, 3, 3),
    'stage3.0.fuse_layers.2.0.0.0': (18, 3, 3),
    'stage3.0.fuse_layers.2.0.0.1': (18, 3, 3),
    'stage3.0.fuse_layers.2.0.0.4': (18, 3, 3),
    'transition1.0': (18, 3, 3),
    'transition1.0.2': (18, 3, 3),
    'layer1.0.bn2': (18, 3, 3),
    'layer1': (18, 3, 3),
    'conv1': (18, 3, 3),
    'bn1': (18, 3, 3),
    'relu': (18, 3, 3),
    '': (0, 0, 0),
}


CALLS = {'relu': 2, f'{BLOCK}.ffn.act': 3, f'{BLOCK}.drop_path': 2}  # in a pass, if not 1


@pytest.mark.parametrize('path', HOOKED)
def test_hooks(path, caplog):
    model = network()
    calls = hook(model, path)
    fused = check(model, caplog)
    assert (path or 'the network') in caplog.text
    per_pass = CALLS.get(path, 1)
    assert len(calls) == 2 * per_pass, 'called by both networks'
    assert (
        count(fused, InferenceBlock),
        count(fused, InferenceModule),
        count(fused, InferenceFusion),
    ) == (HOOKED[path])
    model.get_submodule(path)._forward_hooks.clear()
    with torch.no_grad():
        fused(IMAGE)
    assert len(calls) == 2 * per_pass, 'a removed hook is removed in both'


def lora(model):
    linear = model.get_submodule(BLOCK).attn.attn
    down, up = nn.Linear(16, 2, bias=False), nn.Linear(2, 48, bias=False)

    class LoRA(nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.down, self.up = base, down, up

        def forward(self, x):
            return self.base(x) + self.up(self.down(x))

    linear.qkv = LoRA(linear.qkv)


def other_activation(model):
    model.get_submodule(BLOCK).ffn.act = nn.SiLU()


def subclassed_layer(model):
    model.layer1[0].conv2.__class__ = ScaledConv


def own_forward(model):
    layer = model.get_submodule(BLOCK).norm2
    forward = layer.forward
    layer.forward = lambda x: 2 * forward(x)


def own_forward_of_the_network(model):
    forward = model.forward
    model.forward = lambda x: tuple(2 * y for y in forward(x))


def parametrized(model):
    parametrizations.weight_norm(model.transition2[2][0][0])
    weight_norm(model.get_submodule(BLOCK).ffn.fc2)


def another_kernel(model):
    model.conv2 = nn.Conv2d(64, 64, 3, 2, 2, dilation=2, bias=False)
    model.get_submodule(BLOCK).ffn.dw3x3 = nn.Conv2d(64, 64, 5, padding=2, groups=64)


def without_statistics(model):
    model.bn2 = nn.BatchNorm2d(64, track_running_stats=False).eval()
    ffn = model.get_submodule(BLOCK).ffn
    ffn.norm2 = nn.BatchNorm2d(64, track_running_stats=False).eval()


CHANGES = [
    lora, other_activation, subclassed_layer, own_forward, own_forward_of_the_network, parametrized,
    another_kernel, without_statistics,
]  # fmt: skip


@pytest.mark.filterwarnings('ignore:.*weight_norm.*is deprecated')
@pytest.mark.parametrize('change', CHANGES, ids=lambda f: f.__name__)
def test_changed_layers(change, caplog):
    model = network()
    with torch.no_grad():
        stock = model(IMAGE)[0]
    change(model)
    check(model, caplog)
    with torch.no_grad():
        if change is not parametrized:
            assert relative_error(model(IMAGE)[0], stock) > 1e-3


def test_subclasses_of_the_network(caplog):
    check(network(SlowHRFormer), caplog)


def test_networks_without_statistics(caplog):
    fused = check(network(norm_cfg=dict(type='BN', track_running_stats=False)), caplog)
    assert not count(fused, InferenceBlock)


def test_blocks_with_a_plain_mlp_stay_as_they_are(caplog):
    model = network(with_dwconv=False, plain_mlp=True)
    fused = check(model, caplog)
    assert 'MLP is not a stock layer' in caplog.text
    assert (count(fused, InferenceBlock), count(fused, HRFormerBlock)) == (0, 18)
    assert (count(fused, InferenceModule), count(fused, InferenceFusion)) == (3, 3)
    with torch.no_grad():
        exported = fuse_network(model, ExportBlock)(IMAGE)
        assert relative_error(exported[0], model(IMAGE)[0]) < 1e-5


@torch.no_grad()
def test_a_stock_network_is_converted_whole_and_without_a_line(caplog):
    model = network(norm_cfg=dict(type='BN', momentum=None)).train()
    fused = model.fuse_for_inference()
    assert type(fused) is InferenceHRFormer
    assert not count(fused, HRFormerBlock)
    assert not caplog.records
    assert relative_error(fused(IMAGE)[0], model.eval()(IMAGE)[0]) < 1e-5


@torch.no_grad()
def test_a_network_in_training_mode_stays_in_it(caplog):
    model = network()
    expected = model(IMAGE)[0]
    other_activation(model)
    changed = model(IMAGE)[0]
    model.train()
    fused = model.fuse_for_inference()
    assert all(module.training for module in model.modules())
    assert relative_error(fused(IMAGE)[0], changed) < 1e-5
    assert relative_error(changed, expected) > 1e-3
    for parameter in model.parameters():
        parameter.zero_()
    assert relative_error(fused(IMAGE)[0], changed) < 1e-5, 'it has weights of its own'


@torch.no_grad()
def test_global_hooks(caplog):
    model, seen = network(), []
    handle = nn.modules.module.register_module_forward_hook(lambda m, *_: seen.append(m))
    try:
        fused = check(model, caplog)
    finally:
        handle.remove()
    assert count(fused, HRFormerBlock) == 18
    assert {type(m) for m in seen} >= {nn.Linear, nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d, nn.GELU}


@pytest.mark.parametrize(
    'settings',
    [
        dict(norm_cfg=dict(type='BN', track_running_stats=False)),
        dict(transformer_norm_cfg=dict(type='LN', elementwise_affine=False)),
        dict(transformer_norm_cfg=dict(type='LN', bias=False)),
    ],
    ids=str,
)
@torch.no_grad()
def test_export_of_other_norms(settings):
    model = network(**settings)
    exported = fuse_network(model, ExportBlock)
    assert relative_error(exported(IMAGE)[0], model(IMAGE)[0]) < 1e-5
