"""DETR's transformer against PyTorch's layers."""

import pytest
import torch
from torch import nn

from hrformer_mmpose.layers.detr import Transformer


@pytest.fixture
def transformer() -> Transformer:
    return Transformer(16, 2, 24, (2, 2), 0.0).eval()


@torch.no_grad()
def test_without_positions_it_is_pytorchs(transformer):
    """Queries then are all zeros, as the decoder's first input."""
    settings = dict(dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, **settings), 2).eval()
    layer = nn.TransformerDecoderLayer(16, 2, 24, **settings)
    decoder = nn.TransformerDecoder(layer, 2, nn.LayerNorm(16)).eval()
    encoder.load_state_dict(transformer.encoder.state_dict())
    decoder.load_state_dict(transformer.decoder.state_dict())
    x, zeros = torch.randn(3, 12, 16), torch.zeros(5, 16)
    expected = decoder(zeros.expand(3, -1, -1), encoder(x))
    states = transformer(x, torch.zeros(12, 16), zeros)
    assert states.shape == (2, 3, 5, 16)
    assert torch.allclose(states[-1], expected, atol=1e-5)


@torch.no_grad()
def test_positions_reach_queries_and_keys_but_no_values(transformer):
    x, queries = torch.randn(1, 12, 16), torch.randn(5, 16)
    states = [transformer(x, p, queries) for p in (torch.zeros(12, 16), torch.randn(12, 16))]
    assert (states[0] - states[1]).abs().max() > 1e-2
    # A single token gets all attention wherever it is, and so its value alone counts.
    states = [transformer(x[:, :1], p, queries) for p in (torch.zeros(1, 16), torch.randn(1, 16))]
    assert torch.allclose(*states, atol=1e-6)
