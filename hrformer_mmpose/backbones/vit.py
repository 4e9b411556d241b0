"""Plain Vision Transformer (Dosovitskiy et al., ICLR 2021) for comparison (paper, table 10).

Parameter names equal those of DeiT and timm, whose checkpoints load: class tokens and classifiers
are skipped, and the position embedding of a square grid is interpolated to the size of the map.

Shapes: B batch, H and W of the image, C channels, N tokens.
"""

from math import isqrt, prod

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import nn

from ..checkpoint.pretrained import load_pretrained
from ..errors import ConfigError, WeightsError
from ..layers import DropPath, WindowMSA
from ..registry import MODELS

_MOST_CLASS_TOKENS = 2  # class and distillation token


class _Block(nn.Module):
    def __init__(self, channels: int, num_heads: int, grid: tuple[int, int], drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = WindowMSA(channels, num_heads, grid, with_rpe=False)  # one window
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module('fc1', nn.Linear(channels, 4 * channels))
        self.mlp.add_module('act', nn.GELU())
        self.mlp.add_module('fc2', nn.Linear(4 * channels, channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class VisionTransformer(BaseModule):
    """Tokens of 16x16 pixels, global attention, one map at 1/16 of the resolution.

    Args:
        image_size: (height, width), multiples of `patch`.
        channels: C.
        depth: number of blocks.
        num_heads: number of attention heads.
        patch: side of a token, in pixels.
        drop_path_rate: stochastic depth, increasing linearly from 0 to this rate.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: `patch` does not divide `image_size`.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 192),
        channels: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        patch: int = 16,
        drop_path_rate: float = 0.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if any(n % patch for n in image_size):
            raise ConfigError(f'image_size={tuple(image_size)}: not multiples of patch={patch}')
        self.grid = (image_size[0] // patch, image_size[1] // patch)
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module('proj', nn.Conv2d(3, channels, patch, patch))
        self.pos_embed = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], channels))
        rates = torch.linspace(0, drop_path_rate, depth, device='cpu').tolist()
        blocks = (_Block(channels, num_heads, self.grid, rate) for rate in rates)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        """(B, 3, H, W) -> ((B, C, H / patch, W / patch),), where (H, W) is `image_size`."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed  # B, N, C
        x = self.norm(self.blocks(x))
        return (x.transpose(1, 2).unflatten(2, self.grid),)

    def init_weights(self) -> None:
        """Load the checkpoint of `init_cfg`, including those of DeiT and timm.

        Raises:
            WeightsError: the file cannot be read or does not fit.
        """
        if not load_pretrained(self):
            super().init_weights()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        for name in ('cls_token', 'dist_token', 'head.weight', 'head.bias'):
            state_dict.pop(prefix + name, None)
        embedding = state_dict.get(prefix + 'pos_embed')
        if embedding is not None and embedding.shape[1] != self.pos_embed.shape[1]:
            state_dict[prefix + 'pos_embed'] = _resized(embedding, self.grid)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _resized(embedding: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Interpolate a position embedding, (1, n, C) -> (1, N, C).

    Args:
        embedding: of a square grid, after at most two further tokens (DeiT's).
        grid: rows and columns of the result.

    Raises:
        WeightsError: of another grid, whose sides the file does not state.
    """
    n = embedding.shape[1]
    side = isqrt(n)
    if n - side * side > _MOST_CLASS_TOKENS:
        raise WeightsError(
            f'a position embedding of {n} tokens does not fit image_size: it is of no square grid, '
            f'and the network takes {prod(grid)}'
        )
    embedding = embedding[:, n - side * side :].transpose(1, 2).unflatten(2, (side, side))
    embedding = F.interpolate(embedding, grid, mode='bicubic', align_corners=False)
    return embedding.flatten(2).transpose(1, 2)
