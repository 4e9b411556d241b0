"""Keypoint tokens and the position encoder; outputs are compared in tests/heads."""

import math

import pytest
import torch

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.layers.keypoint_tokens import KeypointTokens
from hrformer_mmpose.layers.position_encoder import EncoderLayer, PositionEncoder
from hrformer_mmpose.layers.sine_embedding import sine_embedding

TOKENS = dict(
    in_channels=3,
    num_keypoints=2,
    map_size=(8, 6),
    patch_size=(4, 3),
    heatmap_size=(16, 8),
    channels=8,
    depths=(1, 2),
    num_heads=2,
    mlp_ratio=3,
    scale_by_head=True,
)


def test_the_sine_embedding_by_hand():
    embedding = sine_embedding(2, 3, 8)
    y, x = 2 / 2 * 2 * math.pi, 1 / 3 * 2 * math.pi  # second row, first column
    slow = 10000 ** (-2 / 4)
    expected = [
        f(position * frequency)
        for position in (y, x)
        for frequency in (1, slow)
        for f in (math.sin, math.cos)
    ]
    torch.testing.assert_close(embedding[3], torch.tensor(expected), atol=1e-5, rtol=0)


@torch.no_grad()
def test_patches_are_cut_row_by_row():
    tokens = KeypointTokens(**TOKENS)
    x = torch.randn(2, 3, 8, 6)
    patches = tokens._patches(x)
    assert patches.shape == (2, 4, 36)
    expected = [x[1, c, 4 + i, 3 + j] for i in range(4) for j in range(3) for c in range(3)]
    assert torch.equal(patches[1, 3], torch.stack(expected))


@torch.no_grad()
def test_stages_and_positions():
    """The position is added before every block but the first of the second stage."""
    tokens = KeypointTokens(**TOKENS).eval()
    torch.nn.init.normal_(tokens.keypoint_token)
    inputs, outputs = [], []
    for block in (block for stage in tokens.stages for block in stage):
        block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        block.register_forward_hook(lambda _, args, out: outputs.append(out))
    x = torch.randn(1, 3, 8, 6)
    heatmaps = tokens(x)
    start = torch.cat([tokens.keypoint_token, tokens.patch_embed(tokens._patches(x))], 1)
    position = torch.cat([torch.zeros(1, 2, 8), sine_embedding(2, 2, 8)[None]], 1)
    expected = start + position, outputs[0], outputs[1] + position
    for given, wanted in zip(inputs, expected, strict=True):
        assert torch.equal(given, wanted)
    keypoints = torch.cat([outputs[0][:, :2], outputs[2][:, :2]], 2)
    assert torch.equal(heatmaps, tokens.mlp_head(keypoints).reshape(1, 2, 16, 8))


@pytest.mark.parametrize('scale_by_head', [True, False])
@torch.no_grad()
def test_the_scale_of_the_logits(scale_by_head):
    tokens = KeypointTokens(**{**TOKENS, 'scale_by_head': scale_by_head})
    attention = tokens.stages[0][0].attn
    x = torch.randn(1, 5, 8) * 20
    q, k, v = (part.reshape(5, 2, 4) for part in attention.qkv(x)[0].chunk(3, dim=1))
    logits = torch.einsum('ihd,jhd->hij', q, k) * (4 if scale_by_head else 8) ** -0.5
    mixed = torch.einsum('hij,jhd->ihd', logits.softmax(2), v).reshape(5, 8)
    torch.testing.assert_close(attention(x)[0], attention.proj(mixed))


@torch.no_grad()
def test_without_a_position_the_encoder_layer_is_pytorchs():
    layer = EncoderLayer(8, 2, 16).eval()
    x = torch.randn(5, 3, 8)
    expected = torch.nn.TransformerEncoderLayer.forward(layer, x)
    torch.testing.assert_close(layer(x, torch.zeros(5, 1, 8)), expected)
    position = torch.randn(5, 1, 8)
    query = x + position
    attended = layer.self_attn(query, query, x)[0]
    x = layer.norm1(x + attended)
    expected = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
    moved = layer(query - position, position)
    torch.testing.assert_close(moved, expected)


def test_layers_start_as_published():
    tokens = KeypointTokens(**{**TOKENS, 'channels': 64})
    state = tokens.state_dict()
    assert state['keypoint_token'].std().item() == pytest.approx(0.02, rel=0.3)
    for name in ('qkv', 'proj'):
        weight = state[f'stages.0.0.attn.{name}.weight']
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not state['patch_embed.bias'].any()
    encoder = PositionEncoder(4, (4, 3), 64, 1, 2, 128)
    bound = math.sqrt(6 / (4 * 64))
    weight = encoder.state_dict()['layers.0.self_attn.in_proj_weight']  # Xavier of three in one
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    for network in (tokens, encoder):
        assert not network.pos_embedding.requires_grad


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(patch_size=(3, 3)), r'patch_size=\(3, 3\) does not divide map_size=\(8, 6\)'),
        (dict(num_heads=3), 'channels=8 is not a multiple of num_heads=3 and of 4'),
        (dict(depths=()), r'depths=\(\) is not at least one block a stage'),
        (dict(depths=(1, 0)), r'depths=\(1, 0\) is not at least one block a stage'),
    ],
)
def test_sizes_that_do_not_fit(change, message):
    with pytest.raises(ConfigError, match=message):
        KeypointTokens(**{**TOKENS, **change})


def test_another_input_size():
    encoder = PositionEncoder(3, (8, 6), 8, 1, 2, 16)
    for network in (KeypointTokens(**TOKENS), encoder):
        with pytest.raises(ConfigError, match=r'map_size=\(8, 6\), but .* a map of \(8, 12\)'):
            network(torch.zeros(1, 3, 8, 12))
    with pytest.raises(ConfigError, match='channels=8 is not a multiple of num_heads=3'):
        PositionEncoder(3, (8, 6), 8, 1, 3, 16)
