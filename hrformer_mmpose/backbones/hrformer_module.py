"""Stages of HRFormer (paper, section 3.2, figure 2): parallel branches, then the fusion."""

from collections.abc import Iterator

import torch
from torch import nn

from ..arch import Stage
from ..execution.block import HRFormerBlock
from ..execution.depthwise import DepthwiseConv2d
from ..execution.stock import stock
from ..layers import BasicBlock, MultiScaleFusion


@stock
class HRFormerModule(nn.Module):
    """Transformer blocks on each branch, then the exchange between branches.

    Args:
        stage: channels, heads, ... of each branch.
        drop_path_rates: stochastic depth of the first, second, ... block of each branch.
        num_outputs: number of output maps, highest resolution first.
        upsample: see `MultiScaleFusion`.
        norm_cfg: config of the BatchNorms.
        block: 'transformer' or 'conv', see `HRFormer`.
        shift_windows: shift the windows of every second block by half a window.
        block_cfg: other arguments of `HRFormerBlock`.
    """

    def __init__(
        self,
        stage: Stage,
        drop_path_rates: list[float],
        num_outputs: int,
        upsample: str,
        norm_cfg: dict,
        block: str = 'transformer',
        shift_windows: bool = False,
        **block_cfg,
    ):
        super().__init__()
        self.branches = nn.ModuleList()
        for branch, channels in enumerate(stage.channels):
            rates = drop_path_rates[: stage.num_blocks[branch]]
            if block == 'conv':
                blocks = [BasicBlock(channels, norm_cfg) for _ in rates]
            else:
                blocks = [
                    HRFormerBlock(
                        channels,
                        stage.num_heads[branch],
                        stage.window_sizes[branch],
                        stage.mlp_ratios[branch],
                        drop_path=rate,
                        shifted=shift_windows and index % 2 == 1,
                        norm_cfg=norm_cfg,
                        **block_cfg,
                    )
                    for index, rate in enumerate(rates)
                ]
            self.branches.append(nn.Sequential(*blocks))
        self.fuse_layers = MultiScaleFusion(
            stage.channels, num_outputs, norm_cfg, upsample, DepthwiseConv2d
        )

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of `num_outputs` maps."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return self.fuse_layers(maps)


def build_stage(
    stage: Stage, drop_path_rates: Iterator[float], num_outputs: int | None = None, **module_cfg
) -> nn.Sequential:
    """Build the modules of a stage.

    Args:
        stage: number of modules; channels, heads, ... of each branch.
        drop_path_rates: rates of all remaining blocks; this stage takes the first ones.
        num_outputs: number of maps after the last module; all by default.
        module_cfg: other arguments of `HRFormerModule`.
    """
    modules = nn.Sequential()
    for index in range(stage.num_modules):
        rates = [next(drop_path_rates) for _ in range(max(stage.num_blocks))]
        is_last = index == stage.num_modules - 1
        outputs = num_outputs if is_last and num_outputs else len(stage.channels)
        modules.append(HRFormerModule(stage, rates, outputs, **module_cfg))
    return modules


def apply_transition(transition: nn.ModuleList, maps: list[torch.Tensor]) -> list[torch.Tensor]:
    """Compute the next stage's inputs; a new branch starts from the lowest-resolution map."""
    inputs = [maps[min(i, len(maps) - 1)] for i in range(len(transition))]
    return [x if layer is None else layer(x) for layer, x in zip(transition, inputs, strict=True)]
