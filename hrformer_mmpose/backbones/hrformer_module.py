"""One module of a stage of HRFormer (paper, section 3.2, figure 2): blocks, then the exchange."""

import torch
from torch import nn

from ..arch import Stage
from ..execution.block import HRFormerBlock
from ..execution.policy import stock
from ..layers import BasicBlock, MultiScaleFusion


@stock
class HRFormerModule(nn.Module):
    """Transformer blocks on every branch, then the exchange between branches.

    Args:
        stage: widths, heads, ... of the branches.
        drop_paths: rate of stochastic depth of the first, second, ... block of each branch.
        num_outputs: maps to make, highest resolution first.
        upsample: see `MultiScaleFusion`.
        norm_cfg: BatchNorm's configuration.
        block: 'transformer' or 'conv', see `HRFormer`.
        shift_windows: every second block of a branch cuts its windows half a window further.
        block_cfg: other arguments of `HRFormerBlock`.
    """

    def __init__(
        self,
        stage: Stage,
        drop_paths: list[float],
        num_outputs: int,
        upsample: str,
        norm_cfg: dict,
        block: str = 'transformer',
        shift_windows: bool = False,
        **block_cfg,
    ):
        super().__init__()
        branches = zip(
            stage.num_blocks,
            stage.channels,
            stage.num_heads,
            stage.window_sizes,
            stage.mlp_ratios,
            strict=True,
        )
        self.branches = nn.ModuleList()
        for num_blocks, channels, heads, window, ratio in branches:
            if block == 'conv':
                blocks = [BasicBlock(channels, norm_cfg) for _ in range(num_blocks)]
            else:
                blocks = [
                    HRFormerBlock(
                        channels,
                        heads,
                        window,
                        ratio,
                        rate,
                        shifted=shift_windows and index % 2 == 1,
                        norm_cfg=norm_cfg,
                        **block_cfg,
                    )
                    for index, rate in enumerate(drop_paths[:num_blocks])
                ]
            self.branches.append(nn.Sequential(*blocks))
        self.fuse_layers = MultiScaleFusion(stage.channels, num_outputs, norm_cfg, upsample)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of `num_outputs` maps."""
        return self.fuse_layers([branch(x) for branch, x in zip(self.branches, maps, strict=True)])


def apply_transition(transition: nn.ModuleList, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Make the maps of the next stage; a new branch starts from the lowest map."""
    inputs = [maps[min(i, len(maps) - 1)] for i in range(len(transition))]
    return [x if layer is None else layer(x) for layer, x in zip(transition, inputs, strict=True)]
