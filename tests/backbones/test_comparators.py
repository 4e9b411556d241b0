"""Swin without shifted windows, the plain Vision Transformer, HRNet and PVT of MMPose."""

import copy

import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.models.backbones import SwinTransformer as MMPoseSwin
from mmpose.registry import MODELS

from hrformer_mmpose import zoo
from hrformer_mmpose.backbones.swin import SwinTransformer
from hrformer_mmpose.backbones.vit import VisionTransformer
from hrformer_mmpose.checkpoint import load_weights, match
from hrformer_mmpose.errors import ConfigError, WeightsError
from tests.backbones.weights import randomise

SMALL = dict(
    embed_dims=8, depths=[2, 1], num_heads=[1, 2], strides=(4, 2), window_size=4, out_indices=(0,)
)


def pair(**settings):
    torch.manual_seed(0)
    ours, theirs = SwinTransformer(**SMALL, **settings), MMPoseSwin(**SMALL)
    ours.eval(), theirs.eval()
    return ours, theirs


@torch.no_grad()
def test_with_the_shift_it_is_mmposes():
    ours, theirs = pair()
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(1, 3, 48, 32)
    assert torch.equal(ours(image)[0], theirs(image)[0])


def test_without_a_file_layers_begin_as_in_mmpose():
    """MMPose's default is a list of initialisations, not a file."""
    for settings in (dict(), dict(shift=False), dict(with_dwconv=True)):
        network = SwinTransformer(**SMALL, **settings)
        network.init_weights()
        assert network.stages[0].blocks[0].attn.w_msa.qkv.weight.abs().max() < 0.1  # std 0.02


def receptive_field(network: torch.nn.Module) -> torch.Tensor:
    """Tokens of an 8x8 map (two windows a side) that the output at (3, 1) depends on."""
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    out = network(image)[0][0, :, 3, 1]
    (
        out * torch.arange(len(out))
    ).sum().backward()  # an unweighted sum over LayerNorm has no gradient
    return image.grad[0].abs().sum(0).unflatten(0, (8, 4)).unflatten(2, (8, 4)).sum((1, 3)) > 0


def test_without_the_shift_windows_stay_apart_unless_a_convolution_joins_them():
    shifted, alone, joined = (
        receptive_field(pair(**settings)[0])
        for settings in (dict(), dict(shift=False), dict(shift=False, with_dwconv=True))
    )
    window = torch.zeros(8, 8, dtype=torch.bool)
    window[:4, :4] = True
    assert torch.equal(alone, window)
    assert shifted[4, 1]
    assert joined[4, 1]


def test_the_vision_transformer_is_pytorchs_encoder_layer():
    torch.manual_seed(0)
    ours = VisionTransformer((32, 48), channels=12, depth=1, num_heads=3).eval()
    block = ours.blocks[0]
    layer = torch.nn.TransformerEncoderLayer(
        12, 3, 48, 0.0, 'gelu', 1e-6, batch_first=True, norm_first=True
    ).eval()
    names = {
        'self_attn.in_proj_': block.attn.qkv,
        'self_attn.out_proj.': block.attn.proj,
        'linear1.': block.mlp.fc1,
        'linear2.': block.mlp.fc2,
        'norm1.': block.norm1,
        'norm2.': block.norm2,
    }
    layer.load_state_dict(
        {f'{k}{part}': getattr(m, part) for k, m in names.items() for part in ('weight', 'bias')}
    )
    image = torch.rand(2, 3, 32, 48)
    tokens = ours.patch_embed(image).flatten(2).transpose(1, 2) + ours.pos_embed
    expected = ours.norm(layer(tokens)).transpose(1, 2).unflatten(2, (2, 3))
    assert torch.allclose(ours(image)[0], expected, atol=1e-5)


def test_position_embeddings_of_square_files_are_resized():
    ours = VisionTransformer((32, 48), channels=12, depth=1, num_heads=3)
    state = {**ours.state_dict(), 'cls_token': torch.zeros(1, 1, 12), 'head.weight': torch.ones(3)}
    state['pos_embed'] = torch.cat([torch.full((1, 1, 12), 9.0), torch.ones(1, 16, 12)], 1)
    ours.load_state_dict(state)
    assert torch.allclose(ours.pos_embed, torch.ones(1, 6, 12), atol=1e-5)


def test_position_embeddings_of_other_files_are_refused():
    ours = VisionTransformer((32, 48), channels=12, depth=1, num_heads=3)
    state = ours.state_dict() | {'pos_embed': torch.ones(1, 12, 12)}  # of 4x3 patches
    with pytest.raises(WeightsError, match='of 12 tokens does not fit image_size: it is of no sq'):
        ours.load_state_dict(state)


def initialised(kind, path, **settings) -> torch.nn.Module:
    """Build a network and load a checkpoint by `init_weights`."""
    network = kind(**settings, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    network.init_weights()
    return network


def test_published_files_of_vision_transformers_start_one(tmp_path):
    """DeiT's files wrap the weights in `model` and have additional tokens and heads."""
    settings = dict(image_size=(32, 48), channels=12, depth=1, num_heads=3)
    state = VisionTransformer(**settings).state_dict()
    others = dict(cls_token=torch.zeros(1, 1, 12), head_dist=torch.ones(2))
    torch.save({'model': {**state, **others}}, tmp_path / 'deit.pth')
    loaded = initialised(VisionTransformer, tmp_path / 'deit.pth', **settings).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    with pytest.raises(WeightsError, match='and 11 other entries of 29'):
        initialised(VisionTransformer, tmp_path / 'deit.pth', **{**settings, 'depth': 2})
    with pytest.raises(WeightsError, match='does not fit VisionTransformer: size mismatch for'):
        initialised(VisionTransformer, tmp_path / 'deit.pth', **{**settings, 'channels': 24})


@pytest.mark.parametrize('official', [False, True])
@pytest.mark.parametrize('with_dwconv', [False, True])
def test_published_files_of_swin_start_one(tmp_path, official, with_dwconv):
    settings = dict(SMALL, depths=[2], num_heads=[1], strides=(4,))
    state = MMPoseSwin(**settings).state_dict()
    written = {
        key.replace('stages.', 'layers.')
        .replace('w_msa.', '')
        .replace('projection', 'proj')
        .replace('ffn.layers.0.0', 'mlp.fc1')
        .replace('ffn.layers.1', 'mlp.fc2'): value
        for key, value in state.items()
        if not key.startswith('norm')
    }
    content = {'model': written} if official else {'state_dict': state}
    torch.save(content, tmp_path / 'swin.pth')
    settings['with_dwconv'] = with_dwconv
    loaded = initialised(SwinTransformer, tmp_path / 'swin.pth', **settings).state_dict()
    same = [key for key, value in state.items() if torch.equal(loaded[key], value)]
    assert {key for key in state if not key.startswith('norm')} <= set(same)
    torch.save({'model': {'x': torch.ones(1)}}, tmp_path / 'other.pth')
    with pytest.raises(WeightsError, match='is no file of this SwinTransformer'):
        initialised(SwinTransformer, tmp_path / 'other.pth', **settings)


@pytest.mark.parametrize('name', ['hrnet_tiny', 'pvt_small', 'pvtv2_b2'])
@torch.no_grad()
def test_hrnet_and_pvt_are_mmposes(name, tmp_path, no_init):
    """A checkpoint of MMPose's estimator loads, and heatmaps are equal."""
    cfg = zoo.read_config(f'{name}_coco_256x192')
    ours = MODELS.build({**copy.deepcopy(cfg.model), '_scope_': 'mmpose'}).eval()
    for part in (cfg.model.head, cfg.model.head.decoder, cfg.model.data_preprocessor):
        part.type = part.type.removeprefix('hrformer_mmpose.')
    if name.startswith('pvt'):  # as in MMPose's configs
        del cfg.model.backbone.out_indices
        cfg.model.neck = dict(type='FeatureMapProcessor', select_index=3)
    theirs = MODELS.build({**cfg.model, '_scope_': 'mmpose'}).eval()
    randomise(theirs)
    torch.save({'state_dict': theirs.state_dict()}, tmp_path / 'mmpose.pth')
    weights = load_weights(tmp_path / 'mmpose.pth')
    match(weights, ours, 'mmpose.pth', complete=True).load_into(ours)
    image = torch.rand(1, 3, 128, 96)
    expected = theirs(image, None, mode='tensor')
    assert expected.std() > 0
    assert torch.equal(ours(image, None, mode='tensor'), expected)


def test_sizes_must_be_multiples_of_the_patch():
    with pytest.raises(ConfigError, match='image_size'):
        VisionTransformer((250, 192))
