"""TransPose's encoder (Yang et al., ICCV 2021): a transformer encoder on the pixels of a map.

Shapes: B batch, H and W of the map, N = H * W pixels, C channels of a token.
"""

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import ConfigError
from .sine_embedding import sine_embedding


class EncoderLayer(nn.TransformerEncoderLayer):
    """PyTorch's layer with a position embedding that is added to query and key, as in DETR."""

    def forward(self, x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Attend to all pixels.

        Args:
            x: (N, B, C).
            position: (N, 1, C).

        Returns:
            (N, B, C).
        """
        query = x + position
        attended, _ = self.self_attn(query, query, x, need_weights=False)
        x = self.norm1(x + self.dropout1(attended))
        return self.norm2(x + self._ff_block(x))


class PositionEncoder(nn.Module):
    """Reduce the channels of a map by a 1x1 convolution and let its pixels attend to each other.

    Args:
        in_channels: channels of the map.
        map_size: (H, W).
        channels: C, a multiple of `num_heads` and of 4.
        depth: number of layers.
        num_heads: number of attention heads.
        feedforward_channels: width of the hidden layer of each layer's MLP.

    Raises:
        ConfigError: `channels` is not a multiple of `num_heads` and of 4.
    """

    def __init__(
        self,
        in_channels: int,
        map_size: Sequence[int],
        channels: int,
        depth: int,
        num_heads: int,
        feedforward_channels: int,
    ):
        super().__init__()
        if channels % num_heads or channels % 4:
            raise ConfigError(
                f'head: channels={channels} is not a multiple of num_heads={num_heads} and of 4'
            )
        self.map_size = tuple(map_size)
        self.reduce = nn.Conv2d(in_channels, channels, 1, bias=False)
        embedding = sine_embedding(*map_size, channels)[:, None]  # N, 1, C
        self.pos_embedding = nn.Parameter(embedding, requires_grad=False)
        layers = (EncoderLayer(channels, num_heads, feedforward_channels) for _ in range(depth))
        self.layers = nn.ModuleList(layers)
        for weight in self.layers.parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> (B, C, H, W).

        Raises:
            ConfigError: a map of another size than `map_size`.
        """
        if tuple(x.shape[2:]) != self.map_size:
            raise ConfigError(
                f'model.head.map_size={self.map_size}, but the backbone gives a map of '
                f'{tuple(x.shape[2:])}: the position embedding is made for one input size'
            )
        x = self.reduce(x).flatten(2).permute(2, 0, 1)  # N, B, C
        for layer in self.layers:
            x = layer(x, self.pos_embedding)
        return x.permute(1, 2, 0).unflatten(2, self.map_size)
