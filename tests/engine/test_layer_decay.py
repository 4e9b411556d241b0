"""Layer-wise learning rates: each parameter's, worked out by hand."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip('mmpose')
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope, init_default_scope
from mmpose.registry import MODELS

from hrformer_mmpose import zoo
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.cli.config_checks import check
from hrformer_mmpose.engine.layer_decay import LayerDecayOptimWrapperConstructor
from hrformer_mmpose.errors import ConfigError
from tests.checkpoint.weights import ARCH

TABLES = {'relative_position_bias_table': dict(decay_mult=0.0)}
# Two blocks a module, two modules in stage 3. Layers below the head, from the end of the network.
BELOW_HEAD = {
    'head': 0,
    'backbone.stage4.0.fuse_layers': 1,
    'backbone.stage4.0.branches.0.1': 1, 'backbone.stage4.0.branches.1.1': 1,
    'backbone.stage4.0.branches.2.1': 1, 'backbone.stage4.0.branches.3.1': 1,
    'backbone.stage4.0.branches.0.0': 2, 'backbone.stage4.0.branches.1.0': 2,
    'backbone.stage4.0.branches.2.0': 2, 'backbone.stage4.0.branches.3.0': 2,
    'backbone.transition3': 3, 'backbone.stage3.1.fuse_layers': 3,
    'backbone.stage3.1.branches.0.1': 3, 'backbone.stage3.1.branches.1.1': 3,
    'backbone.stage3.1.branches.2.1': 3,
    'backbone.stage3.1.branches.0.0': 4, 'backbone.stage3.1.branches.1.0': 4,
    'backbone.stage3.1.branches.2.0': 4,
    'backbone.stage3.0.fuse_layers': 5,
    'backbone.stage3.0.branches.0.1': 5, 'backbone.stage3.0.branches.1.1': 5,
    'backbone.stage3.0.branches.2.1': 5,
    'backbone.stage3.0.branches.0.0': 6, 'backbone.stage3.0.branches.1.0': 6,
    'backbone.stage3.0.branches.2.0': 6,
    'backbone.transition2': 7, 'backbone.stage2.0.fuse_layers': 7,
    'backbone.stage2.0.branches.0.1': 7, 'backbone.stage2.0.branches.1.1': 7,
    'backbone.stage2.0.branches.0.0': 8, 'backbone.stage2.0.branches.1.0': 8,
    'backbone.transition1': 9, 'backbone.layer1.1': 9,
    'backbone.layer1.0': 10,
    'backbone.conv1': 11, 'backbone.bn1': 11, 'backbone.conv2': 11, 'backbone.bn2': 11,
}  # fmt: skip


class Model(nn.Module):
    def __init__(self, backbone=None, **options):
        super().__init__()
        arch = dict(ARCH, num_modules=(1, 1, 2, 1), num_blocks=2)
        self.backbone = backbone or HRFormer(arch=arch, **options)
        self.head = nn.Conv2d(4, 17, 1)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpose')
    yield
    DefaultScope._instance_dict.clear()


def build(model: nn.Module, lr=1.0, weight_decay=0.01, **paramwise):
    kind = 'hrformer_mmpose.LayerDecayOptimWrapperConstructor'
    optimizer = dict(type='AdamW', lr=lr, weight_decay=weight_decay)
    cfg = dict(optimizer=optimizer, constructor=kind, paramwise_cfg=paramwise)
    return build_optim_wrapper(model, cfg)


def settings(model, wrapper) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }
    assert sum(len(group['params']) for group in wrapper.optimizer.param_groups) == len(found)
    return found


def steps(name: str) -> int:
    (steps,) = (n for part, n in BELOW_HEAD.items() if name.startswith(f'{part}.'))
    return steps


@pytest.mark.parametrize('num_layers', [{}, {'num_layers': 10}])
def test_each_parameters_rate(num_layers):
    model = Model()
    wrapper = build(model, lr=2.0, layer_decay_rate=0.5, custom_keys=TABLES, **num_layers)
    found = settings(model, wrapper)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, (lr, weight_decay) in found.items():
        assert lr == 2.0 * 0.5 ** steps(name), name
        assert weight_decay == (0.0 if name.endswith('bias_table') else 0.01), name
    # One group a layer, and one for the tables of each of its transformer layers.
    assert len(wrapper.optimizer.param_groups) == 12 + 8


def test_mmengines_rules_hold_within_a_layer():
    model = Model()
    rules = dict(norm_decay_mult=0.0, bias_lr_mult=3.0, bias_decay_mult=0.5)
    keys = dict(head=dict(lr_mult=10.0), **TABLES)
    found = settings(model, build(model, layer_decay_rate=0.5, custom_keys=keys, **rules))
    assert found['head.weight'] == found['head.bias'] == (10.0, 0.01)
    block = 'backbone.stage3.1.branches.2.0'
    assert found[f'{block}.norm1.weight'] == found[f'{block}.norm1.bias'] == (0.5**4, 0.0)
    assert found[f'{block}.ffn.fc1.bias'] == (3 * 0.5**4, 0.005)
    assert found[f'{block}.attn.attn.relative_position_bias_table'] == (0.5**4, 0.0)
    assert found['backbone.conv1.weight'] == (0.5**11, 0.01)


def test_a_rate_of_one_is_the_usual_training():
    model = Model()
    found = settings(model, build(model, layer_decay_rate=1, custom_keys=TABLES))
    cfg = dict(optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.01))
    usual = build_optim_wrapper(model, dict(cfg, paramwise_cfg=dict(custom_keys=TABLES)))
    assert found == settings(model, usual)


def test_frozen_stages_have_no_group():
    model = Model(frozen_stages=2)
    found = settings(model, build(model, layer_decay_rate=0.5))
    assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    assert min(lr for lr, _ in found.values()) == 0.5**6


def test_a_wrapped_model():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = Model()

    wrapped = Wrapped()
    assert len(settings(wrapped.module, build(wrapped, layer_decay_rate=0.5))) > 400


@pytest.mark.parametrize('rate', [0, 0.0, -1, 1.5, 'a', None, True, float('nan')])
def test_rates_that_cannot_be(rate):
    with pytest.raises(ConfigError, match=r'paramwise_cfg.layer_decay_rate=.* is not in \(0, 1\]'):
        build(Model(), layer_decay_rate=rate)


@pytest.mark.parametrize('number', [0, 9, 12, '10', None, 10.5])
def test_numbers_of_layers_that_are_not_the_networks(number):
    with pytest.raises(ConfigError, match=r'num_layers=.*, but the network has 10 layers'):
        build(Model(), layer_decay_rate=0.5, num_layers=number)


def test_no_rate_and_no_hrformer():
    with pytest.raises(ConfigError, match='layer_decay_rate=None'):
        build(Model())
    with pytest.raises(ConfigError, match='for HRFormer, the backbone is a Linear'):
        build(Model(nn.Linear(2, 2)), layer_decay_rate=0.5)
    with pytest.raises(ConfigError, match='has no lr'):
        LayerDecayOptimWrapperConstructor(
            dict(optimizer=dict(type='AdamW')), dict(layer_decay_rate=0.5)
        )


def test_the_config(no_init):
    """HRFormer-S: 2 bottlenecks, 2, 8 and 4 blocks."""
    cfg = zoo.read_config('hrformer_small_coco_256x192_layerdecay')
    check(cfg, ['train'])
    settings_cfg = copy.deepcopy(cfg.model.backbone)
    settings_cfg.update(init_cfg=None)
    model = MODELS.build(dict(cfg.model, backbone=settings_cfg))
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.pop('loss_scale')
    found = settings(model, build_optim_wrapper(model, cfg.optim_wrapper))
    assert found['head.final_layer.weight'] == (5e-4, 0.01)
    assert found['backbone.conv1.weight'][0] == pytest.approx(5e-4 * 0.8**17)
    table = 'backbone.stage3.3.branches.2.1.attn.attn.relative_position_bias_table'
    assert found[table] == (pytest.approx(5e-4 * 0.8**5), 0.0)
    cfg.optim_wrapper.optimizer.type = None
    with pytest.raises(ConfigError, match='no `type`'):
        check(cfg, ['train'])


def test_the_optimizer_follows():
    """Two steps of SGD move layers in proportion to their rates."""
    model = Model().eval()
    before = {name: value.clone() for name, value in model.named_parameters()}
    cfg = dict(optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=dict(layer_decay_rate=0.5))
    kind = 'hrformer_mmpose.LayerDecayOptimWrapperConstructor'
    wrapper = build_optim_wrapper(model, dict(cfg, constructor=kind))
    model.head(model.backbone(torch.rand(1, 3, 32, 32))[0]).square().mean().backward()
    wrapper.step()
    for name, parameter in model.named_parameters():
        moved = before[name] - 0.1 * 0.5 ** steps(name) * parameter.grad
        assert torch.allclose(parameter, moved, atol=1e-7), name


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_rates(train, tmp_path):
    """Frozen stem, layer-wise rates: two epochs, or one and one, end with the same weights."""
    options = {
        'model.backbone.frozen_stages': 0,
        'optim_wrapper.constructor': 'hrformer_mmpose.LayerDecayOptimWrapperConstructor',
        'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.5, num_layers=4),
    }
    train(tmp_path / 'straight', **options)
    train(tmp_path / 'parts', **options, **{'train_cfg.max_epochs': 1})
    train(tmp_path / 'parts', **options, resume=True)
    states = [torch.load(tmp_path / f'{name}/epoch_2.pth') for name in ('straight', 'parts')]
    first = torch.load(tmp_path / 'straight/epoch_1.pth')['state_dict']
    for name, value in states[0]['state_dict'].items():
        assert torch.equal(value, states[1]['state_dict'][name]), name
        stem = name.startswith(('backbone.conv', 'backbone.bn'))
        if stem or name.endswith('weight'):
            assert torch.equal(value, first[name]) == stem, name
    rates = {group['initial_lr'] for group in states[0]['optimizer']['param_groups']}
    assert max(rates) == 2**4 * min(rates)
