"""TokenPose's transformer (Li et al., ICCV 2021): keypoint tokens attend to patches of a map.

As in the authors' released code, the position embedding is added to the patches before every block
except the first one of each later stage ('sine-full'), and the logits of TokenPose-S are scaled by
the width of all heads instead of one.

Shapes: B batch, H and W of the map, K keypoints, P patches, N = K + P tokens, C channels of a
token, h heads, d = C / h channels a head.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError
from .sine_embedding import sine_embedding

HIDDEN_SHARE = 8  # of the heatmap's pixels: channels of a head with two linear layers


class TokenAttention(nn.Module):
    """Multi-head self-attention without a bias of query, key and value.

    Args:
        channels: C, a multiple of `num_heads`.
        num_heads: h.
        scale: factor of the logits; d^-0.5 by default.
    """

    def __init__(self, channels: int, num_heads: int, scale: float | None = None):
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, N, C)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)  # B, h, N, d
        return self.proj(x.transpose(1, 2).flatten(2))


class TokenBlock(nn.Module):
    """Attention and MLP, each after a LayerNorm and with a residual."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: int, scale: float | None = None):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = TokenAttention(channels, num_heads, scale)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential()
        self.mlp.add_module('fc1', nn.Linear(channels, mlp_ratio * channels))
        self.mlp.add_module('act', nn.GELU())
        self.mlp.add_module('fc2', nn.Linear(mlp_ratio * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, N, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class KeypointTokens(nn.Module):
    """Map -> one heatmap a keypoint, from keypoint tokens that attend to patches of the map.

    Args:
        in_channels: channels of the map.
        num_keypoints: K.
        map_size: (H, W), multiples of `patch_size`.
        patch_size: (height, width) of a patch.
        heatmap_size: (height, width) of the heatmaps.
        channels: C, a multiple of `num_heads` and of 4.
        depths: blocks of each stage. The keypoint tokens after all stages are concatenated
            (TokenPose-L: three stages).
        num_heads: h.
        mlp_ratio: width of the hidden layer of a block's MLP, in multiples of C.
        scale_by_head: scale the logits by d^-0.5; False: by C^-0.5 (TokenPose-S).

    Raises:
        ConfigError: a patch does not divide the map, `channels` is no such multiple, or a
            stage without blocks.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        map_size: Sequence[int],
        patch_size: Sequence[int],
        heatmap_size: Sequence[int],
        channels: int,
        depths: Sequence[int],
        num_heads: int,
        mlp_ratio: int,
        scale_by_head: bool,
    ):
        super().__init__()
        _check(map_size, patch_size, channels, depths, num_heads)
        self.num_keypoints = num_keypoints
        self.map_size, self.patch_size = tuple(map_size), tuple(patch_size)
        self.heatmap_size = tuple(heatmap_size)
        grid = [n // size for n, size in zip(map_size, patch_size, strict=True)]
        embedding = sine_embedding(*grid, channels)[None]  # 1, P, C
        self.pos_embedding = nn.Parameter(embedding, requires_grad=False)
        self.keypoint_token = nn.Parameter(torch.empty(1, num_keypoints, channels))
        self.patch_embed = nn.Linear(in_channels * patch_size[0] * patch_size[1], channels)
        scale = None if scale_by_head else channels**-0.5
        self.stages = nn.ModuleList(
            nn.ModuleList(TokenBlock(channels, num_heads, mlp_ratio, scale) for _ in range(depth))
            for depth in depths
        )
        self.mlp_head = _head(len(depths) * channels, heatmap_size[0] * heatmap_size[1])
        self._init_weights()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) -> heatmaps (B, K, height, width).

        Raises:
            ConfigError: a map of another size than `map_size`.
        """
        if tuple(x.shape[2:]) != self.map_size:
            raise ConfigError(
                f'model.head.map_size={self.map_size}, but the backbone gives a map of '
                f'{tuple(x.shape[2:])}: the position embedding is made for one input size'
            )
        x = self.patch_embed(self._patches(x))
        x = torch.cat([self.keypoint_token.expand(x.shape[0], -1, -1), x], dim=1)  # B, N, C
        position = F.pad(self.pos_embedding, (0, 0, self.num_keypoints, 0))  # zero for keypoints
        keypoints = []
        for number, stage in enumerate(self.stages):
            for i, block in enumerate(stage):
                x = block(x if number and not i else x + position)
            keypoints.append(x[:, : self.num_keypoints])
        return self.mlp_head(torch.cat(keypoints, dim=2)).unflatten(2, self.heatmap_size)

    def _patches(self, x: torch.Tensor) -> torch.Tensor:
        """Cut a map into flat patches, (B, in_channels, H, W) -> (B, P, pixels * in_channels)."""
        (H, W), (height, width) = self.map_size, self.patch_size
        # Sizes are constants except for the batch, so that an exported graph takes any batch.
        x = x.reshape(-1, x.shape[1], H // height, height, W // width, width)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def _init_weights(self) -> None:
        nn.init.trunc_normal_(self.keypoint_token, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def _check(
    map_size: Sequence[int],
    patch_size: Sequence[int],
    channels: int,
    depths: Sequence[int],
    num_heads: int,
) -> None:
    if any(n % size for n, size in zip(map_size, patch_size, strict=True)):
        raise ConfigError(
            f'head: patch_size={tuple(patch_size)} does not divide map_size={tuple(map_size)}'
        )
    if not depths or min(depths) < 1:
        raise ConfigError(f'head: depths={tuple(depths)} is not at least one block a stage')
    if channels % num_heads or channels % 4:
        raise ConfigError(
            f'head: channels={channels} is not a multiple of num_heads={num_heads} and of 4'
        )


def _head(channels: int, pixels: int) -> nn.Sequential:
    """Linear layers from tokens to heatmaps: two where the tokens are narrow, otherwise one."""
    hidden = pixels // HIDDEN_SHARE
    if channels > hidden / 2:
        return nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, pixels))
    return nn.Sequential(
        nn.LayerNorm(channels),
        nn.Linear(channels, hidden),
        nn.LayerNorm(hidden),
        nn.Linear(hidden, pixels),
    )
