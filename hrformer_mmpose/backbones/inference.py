"""HRFormer for inference: the same outputs in fewer and larger steps.

`HRFormer.fuse_for_inference()` converts a network. BatchNorm is folded into the convolutions,
activations and residual sums are fused into the preceding kernels where PyTorch has such kernels,
and the position bias is gathered once instead of at each call. On CPUs large batches are computed
in parts.
"""

import logging

import torch
from torch import nn

from ..execution import memory, policy
from ..execution.inference import InferenceBlock, eval_copy, fuse, fuse_sequence
from .hrformer_module import HRFormerModule, apply_transition


def fuse_network(network: nn.Module, block: type[nn.Module] = InferenceBlock) -> nn.Module:
    """Convert a network for inference; see `HRFormer.fuse_for_inference`.

    Args:
        network: an `HRFormer`; not modified.
        block: inference class of `HRFormerBlock`.
    """
    reasons = policy.obstacles_to_fusing(network)
    if reasons:
        name, reason = next(iter(reasons.items()))
        more = f' (and {len(reasons) - 1} others)' if len(reasons) > 1 else ''
        logging.getLogger(__name__).warning(
            'not converted for inference: %s: %s%s', name or 'the network', reason, more
        )
    if policy.obstacle(network) is not None:
        return eval_copy(network)
    return InferenceHRFormer(network, block)


class InferenceHRFormer(nn.Module):
    """`HRFormer` in permanent evaluation mode.

    Args:
        network: an `HRFormer` that `policy.obstacle` accepts; not modified.
        block: inference class of `HRFormerBlock`.
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
            stage = _fuse_stage(getattr(network, f'stage{number}'), block)
            self.add_module(f'stage{number}', stage)
        # Hooks and adapters, which are not converted, get whole batches.
        self._bytes_per_position = 4 * _widest_map(network) if policy.may_fuse(network) else None
        self.eval()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, in_channels, H, W) -> the maps of `HRFormer.forward`."""
        if self._bytes_per_position is None or not policy.use_cpu_kernels(x):
            return self._forward(x)
        memory.keep_for_inference()
        H, W = x.shape[2:]
        bytes_per_image = self._bytes_per_position * -(-H // 4) * -(-W // 4)
        parts = [self._forward(part) for part in memory.split(x, bytes_per_image)]
        return parts[0] if len(parts) == 1 else tuple(map(torch.cat, zip(*parts, strict=True)))

    def _forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = [self.stem(x.contiguous(memory_format=torch.channels_last))]
        maps = self.stage2(apply_transition(self.transition1, maps))
        maps = self.stage3(apply_transition(self.transition2, maps))
        maps = self.stage4(apply_transition(self.transition3, maps))
        return tuple(maps)

    def train(self, mode: bool = True) -> 'InferenceHRFormer':
        """Stay in evaluation mode: folded statistics cannot be trained."""
        return super().train(False)


class InferenceModule(nn.Module):
    """`HRFormerModule` for inference.

    Args:
        module: module to convert; not modified.
        block: inference class of `HRFormerBlock`.
    """

    def __init__(self, module: nn.Module, block: type[nn.Module]):
        super().__init__()
        self.branches = nn.ModuleList(fuse(branch, block) for branch in module.branches)
        self.fusion = fuse(module.fuse_layers)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_j, H_j, W_j) -> list of maps."""
        return self.fusion([branch(x) for branch, x in zip(self.branches, maps, strict=True)])


def _widest_map(network: nn.Module) -> int:
    """Return how many numbers an image's largest map has for each position at 1/4 resolution."""
    parts = [(-1, network.conv1), (0, network.layer1)]  # at 1/2 and 1/4
    for module in network.modules():
        if isinstance(module, HRFormerModule):
            parts += enumerate(module.branches)
    widths = [
        (layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features) * 4.0**-level
        for level, part in parts
        for layer in part.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    return int(max(widths))


def _fuse_stage(stage: nn.Sequential, block: type[nn.Module]) -> nn.Module:
    if policy.obstacle(stage) is not None:
        return eval_copy(stage)
    modules = (
        InferenceModule(module, block)
        if type(module) is HRFormerModule and policy.obstacle(module) is None
        else eval_copy(module)
        for module in stage
    )
    return nn.Sequential(*modules)
