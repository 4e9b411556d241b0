"""The backbone: sizes, options, training mode, initialisation."""

import doctest

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm

import hrformer_mmpose.backbones.hrformer as module
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.layers.fusion import UPSAMPLE
from tests.conftest import without_recompute

SMALL = dict(
    channels=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), num_modules=1, num_blocks=1, window_sizes=3
)


def saved_bytes(model: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes that autograd saves for the backward pass, each storage counted once."""
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = model(x)  # keeps the graph, and so the addresses, alive while counting
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert outputs
    return sum(size for pointer, size in storages.items() if pointer not in parameters)


@pytest.mark.parametrize(
    ('arch', 'millions'), [('tiny', 2.524), ('small', 7.746), ('base', 43.210)]
)
def test_parameter_counts_are_the_published_ones(arch, millions):
    count = sum(p.numel() for p in HRFormer(arch=arch).parameters())
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize('size', [(64, 48), (97, 65), (33, 40), (160, 224), (20, 20)], ids=str)
@torch.no_grad()
def test_any_input_size(size):
    model = HRFormer(arch=SMALL, multiscale_output=True).eval()
    maps = model(torch.rand(2, 3, *size))
    halved = [-(-n // 4) for n in size]
    for x, channels in zip(maps, SMALL['channels'], strict=True):
        assert x.shape == (2, channels, *halved)
        assert x.isfinite().all()
        halved = [-(-n // 2) for n in halved]
    single = HRFormer(arch=SMALL).eval()(torch.rand(2, 3, *size))
    assert len(single) == 1
    assert single[0].shape == maps[0].shape


def test_the_docstrings_example_runs():
    results = doctest.testmod(module, extraglobs=dict(torch=torch))
    assert results.attempted == 2
    assert results.failed == 0


def test_train_and_eval_return_the_model():
    model = HRFormer(arch=SMALL)
    assert model.eval() is model
    assert model.train() is model


def test_in_channels():
    assert HRFormer(arch=SMALL, in_channels=1)(torch.rand(2, 1, 32, 32))[0].shape == (2, 8, 8, 8)


@pytest.mark.parametrize('drop_path_rate', [0.0, 0.3])
def test_checkpointing_changes_memory_and_nothing_else(drop_path_rate):
    plain = HRFormer(arch=SMALL, drop_path_rate=drop_path_rate)
    saving = HRFormer(arch=SMALL, drop_path_rate=drop_path_rate, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(3, 3, 64, 48)
    outputs = []
    for model in (plain, saving):
        torch.manual_seed(1)  # the same samples are dropped
        output = model(x)[0]
        output.square().mean().backward()
        outputs.append(output)
    assert torch.equal(*outputs)
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.allclose(q.grad, p.grad, rtol=1e-5, atol=1e-9), name
    # Running statistics included: the recomputation must not update them again.
    for (name, a), b in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize('arch', ['small', pytest.param('base', marks=pytest.mark.slow)])
def test_bytes_kept_for_the_backward_pass(arch):
    """By default, with gradient checkpointing, and without `execution.recompute`."""
    x = torch.rand(1, 3, 256, 192)
    usual = saved_bytes(HRFormer(arch=arch), x)
    saving = saved_bytes(HRFormer(arch=arch, with_cp=True), x)
    plain = saved_bytes(without_recompute(HRFormer(arch=arch)), x)
    assert usual < 0.5 * plain
    # The stem, stage 1 and the fusions remain.
    assert saving < 0.2 * plain


@pytest.mark.parametrize('stages', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages(stages):
    model = HRFormer(arch=SMALL, frozen_stages=stages).train()
    parts = ['conv1|bn1|conv2|bn2', 'layer1|transition1', 'stage2|transition2']
    parts += ['stage3|transition3', 'stage4']
    for name, parameter in model.named_parameters():
        part = next(i for i, names in enumerate(parts) if name.split('.')[0] in names.split('|'))
        assert parameter.requires_grad == (part > stages), name
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            part = next(
                i for i, names in enumerate(parts) if name.split('.')[0] in names.split('|')
            )
            assert layer.training == (part > stages), name


def test_norm_eval_keeps_running_statistics():
    model = HRFormer(arch=SMALL, norm_eval=True).train()
    before = model.bn1.running_mean.clone()
    model(torch.rand(2, 3, 32, 32))
    assert torch.equal(model.bn1.running_mean, before)
    assert model.stage2.training


def test_initialisation_reaches_every_layer():
    model = HRFormer(arch='tiny')
    for name, parameter in model.named_parameters():
        if name.endswith('relative_position_bias_table'):
            assert 0.01 < parameter.std() < 0.03, name
        elif parameter.ndim > 1:
            assert parameter.std() > 1e-3, name
        else:
            expected = 0.0 if name.endswith('bias') else 1.0
            assert (parameter == expected).all(), name


def test_signal_and_gradient_keep_their_size_at_the_start():
    model = HRFormer(arch='tiny')
    output = model(torch.randn(4, 3, 64, 48))[0]
    assert 0.1 < output.std() < 10
    output.mean().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert not missing


def test_drop_path_grows_with_depth():
    model = HRFormer(arch='tiny', drop_path_rate=0.2)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in first_branch_blocks(model)]
    expected = torch.linspace(0, 0.2, 12).tolist()
    assert rates == pytest.approx(expected)


def first_branch_blocks(model: HRFormer):
    """Transformer blocks of the highest-resolution branch, in order."""
    for stage in (model.stage2, model.stage3, model.stage4):
        for part in stage:
            yield from part.branches[0]


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    from hrformer_mmpose.layers import DropPath

    layer = DropPath(0.25)
    x = torch.ones(4000, 2, 2)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert ((y == 0).all(dim=(1, 2)) == (y == 0).any(dim=(1, 2))).all()
    assert y.mean() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(x), x)


def test_a_pretrained_file_that_cannot_be_had_says_how_to_go_on(tmp_path):
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'missing.pth'))
    with pytest.raises(WeightsError, match=r'missing.pth.*model.backbone.init_cfg=None'):
        HRFormer(arch=SMALL, init_cfg=cfg).init_weights()


@pytest.mark.parametrize('settings', [dict(), dict(with_pad_mask=True)], ids=str)
@torch.no_grad()
def test_an_empty_batch(settings):
    model = HRFormer(arch=SMALL, **settings).eval()
    for network in (model, model.fuse_for_inference()):
        assert network(torch.zeros(0, 3, 64, 48))[0].shape == (0, 8, 16, 12)


def test_built_without_memory():
    with torch.device('meta'):
        model = HRFormer(arch=SMALL, drop_path_rate=0.1)
    assert {parameter.device.type for parameter in model.parameters()} == {'meta'}


@pytest.mark.parametrize('size', [5, 9, 10, 11, 12])
def test_nearest_upsampling_of_any_size_is_that_of_the_published_code(size):
    """Maps of three branches further on, whose size was rounded up three times."""
    x = torch.rand(1, 2, -(-size // 8), -(-size // 8))
    expected = F.interpolate(x, scale_factor=8, mode='nearest')
    expected = F.interpolate(expected, (size, size), mode='bilinear', align_corners=True)
    torch.testing.assert_close(UPSAMPLE['nearest'](x, torch.Size((size, size))), expected)
