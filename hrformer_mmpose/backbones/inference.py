"""HRFormer for inference: the same outputs in fewer and larger steps.

`HRFormer.fuse_for_inference()` makes it from a network's weights: BatchNorm is folded into
the convolutions, activations and residual sums go into the kernels before them where there are such
(`execution/linear.py`), and the position bias is gathered once, not at every call.
"""

import logging

import torch
from torch import nn

from ..execution import policy
from ..execution.inference import InferenceBlock, eval_copy, fuse, fuse_sequence
from .hrformer_module import HRFormerModule, apply_transition


def fuse_network(network: nn.Module, block: type[nn.Module] = InferenceBlock) -> nn.Module:
    """Convert a network for inference; see `HRFormer.fuse_for_inference`.

    Args:
        network: stays as it is. block: class that converts an `HRFormerBlock`.
    """
    reasons = policy.obstacles_to_fusing(network)
    if reasons:
        name, reason = next(iter(reasons.items()))
        more = f' (and {len(reasons) - 1} others)' if len(reasons) > 1 else ''
        logging.getLogger(__name__).warning(
            'not converted for inference: %s: %s%s', name or 'the network', reason, more
        )
    return FusedHRFormer(network, block) if policy.obstacle(network) is None else eval_copy(network)


class FusedHRFormer(nn.Module):
    """`HRFormer` in evaluation mode, for good.

    Args:
        network: an `HRFormer` without obstacles of its own (`policy.obstacle`); it is not changed.
        block: class that converts its transformer blocks.
    """

    def __init__(self, network: nn.Module, block: type[nn.Module] = InferenceBlock):
        super().__init__()
        relu = network.relu
        first = (network.conv1, network.bn1, relu, network.conv2, network.bn2, relu)
        self.stem = nn.Sequential(*fuse_sequence(first), fuse(network.layer1))
        for number in (2, 3, 4):
            transition = getattr(network, f'transition{number - 1}')
            layers = (None if layer is None else fuse(layer) for layer in transition)
            self.add_module(f'transition{number - 1}', nn.ModuleList(layers))
            self.add_module(
                f'stage{number}', _fuse_stage(getattr(network, f'stage{number}'), block)
            )
        self.eval()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, in_channels, H, W) -> the maps that the network gives."""
        maps = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        for number in (2, 3, 4):
            transition = getattr(self, f'transition{number - 1}')
            maps = getattr(self, f'stage{number}')(apply_transition(transition, maps))
        return tuple(maps)

    def train(self, mode: bool = True) -> 'FusedHRFormer':
        """Stays in evaluation mode: folded statistics cannot be trained."""
        return super().train(False)


class FusedModule(nn.Module):
    """`HRFormerModule` for inference.

    Args:
        module: whose outputs this one gives. block: see `FusedHRFormer`.
    """

    def __init__(self, module: nn.Module, block: type[nn.Module]):
        super().__init__()
        self.branches = nn.ModuleList(fuse(branch, block) for branch in module.branches)
        self.fusion = fuse(module.fuse_layers)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of maps."""
        return self.fusion([branch(x) for branch, x in zip(self.branches, maps, strict=True)])


def _fuse_stage(stage: nn.Sequential, block: type[nn.Module]) -> nn.Module:
    if policy.obstacle(stage) is not None:
        return eval_copy(stage)
    modules = (
        FusedModule(module, block)
        if type(module) is HRFormerModule and policy.obstacle(module) is None
        else eval_copy(module)
        for module in stage
    )
    return nn.Sequential(*modules)
