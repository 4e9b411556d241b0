"""Gradient checkpointing that leaves BatchNorm's running statistics alone in the recomputation."""

import contextlib
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(
    forward: Callable[[torch.Tensor], torch.Tensor], module: nn.Module, x: torch.Tensor
) -> torch.Tensor:
    """Compute forward(x), save only x for the backward pass and recompute the rest there.

    Args:
        forward: function to recompute.
        module: module whose BatchNorms `forward` calls.
        x: input; nothing is checkpointed if neither it nor `module` needs a gradient. Behind frozen
            stages the parameters need one and the input does not.
    """
    needs_grad = x.requires_grad or any(p.requires_grad for p in module.parameters())
    if not (needs_grad and torch.is_grad_enabled()):
        return forward(x)
    contexts = lambda: (contextlib.nullcontext(), _FrozenStatistics(module))  # noqa: E731
    return checkpoint(forward, x, use_reentrant=False, context_fn=contexts)


class _FrozenStatistics:
    """Freeze BatchNorm's running statistics while a checkpointed module is recomputed.

    Outputs do not change, since training uses the batch's statistics. Without it a step would
    update running statistics twice. Each backward pass through a graph enters the context again.
    """

    def __init__(self, module: nn.Module):
        self.module = module

    def __enter__(self) -> None:
        norms = [m for m in self.module.modules() if isinstance(m, _BatchNorm) and m.training]
        counts = [norm.num_batches_tracked for norm in norms]
        self.saved = [
            (norm, norm.momentum, count, None if count is None else count.clone())
            for norm, count in zip(norms, counts, strict=True)
        ]
        for norm in norms:
            norm.momentum = 0.0

    def __exit__(self, *error) -> None:
        for norm, momentum, count, value in self.saved:
            norm.momentum = momentum
            if count is not None:
                count.copy_(value)
