"""DETR's transformer (Carion et al., ECCV 2020), as PRTR uses it (Li et al., CVPR 2021).

Every attention adds positions to its queries and keys, not to its values, and the output of every
decoder layer is normalised and returned. Parameter names equal those of both authors.

Shapes: B batch, H and W of the map, N = H * W tokens, Q queries, C channels, L decoder layers.
"""

import torch
from torch import Tensor, nn


def _attend(attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention(query, key, value, need_weights=False)[0]


def _feed_forward(layer: nn.Module, x: Tensor) -> Tensor:
    return layer.linear2(layer.dropout(layer.activation(layer.linear1(x))))


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's layer with positions added to queries and keys."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, N, C) and positions (N, C) -> (B, N, C)."""
        query = x + positions
        x = self.norm1(x + self.dropout1(_attend(self.self_attn, query, query, x)))
        return self.norm2(x + self.dropout2(_feed_forward(self, x)))


class DecoderLayer(nn.TransformerDecoderLayer):
    """PyTorch's layer with positions added to queries and keys."""

    def forward(self, x: Tensor, positions: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Update the queries' states.

        Args:
            x: states, (B, Q, C).
            positions: of the queries, (Q, C).
            keys: encoded tokens with their positions, (B, N, C).
            values: encoded tokens, (B, N, C).

        Returns:
            (B, Q, C).
        """
        query = x + positions
        x = self.norm1(x + self.dropout1(_attend(self.self_attn, query, query, x)))
        attended = _attend(self.multihead_attn, x + positions, keys, values)
        x = self.norm2(x + self.dropout2(attended))
        return self.norm3(x + self.dropout3(_feed_forward(self, x)))


class Transformer(nn.Module):
    """Encoder of a map's tokens and decoder of queries.

    Args:
        channels: C.
        num_heads: number of attention heads.
        ffn_channels: inner channels of the FFNs.
        num_layers: layers of the encoder, and of the decoder.
        dropout: rate in attention and FFNs.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        ffn_channels: int,
        num_layers: tuple[int, int],
        dropout: float,
    ):
        super().__init__()
        settings = channels, num_heads, ffn_channels, dropout
        encoder_layer = EncoderLayer(*settings, batch_first=True)
        decoder_layer = DecoderLayer(*settings, batch_first=True)
        # PyTorch's containers for their names; `forward` calls the layers.
        self.encoder = nn.TransformerEncoder(
            encoder_layer, num_layers[0], enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(decoder_layer, num_layers[1], nn.LayerNorm(channels))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, positions: Tensor, queries: Tensor) -> Tensor:
        """Tokens (B, N, C), their positions (N, C), queries (Q, C) -> states (L, B, Q, C)."""
        for layer in self.encoder.layers:
            x = layer(x, positions)
        keys = x + positions
        state = torch.zeros_like(queries).expand(x.shape[0], -1, -1)
        states = []
        for layer in self.decoder.layers:
            state = layer(state, queries, keys, x)
            states.append(self.decoder.norm(state))
        return torch.stack(states)
