"""BatchNorm of a training step as x scale + offset, for the autograd functions of `recompute.py`.

Shapes: C channels, after the axes of tokens (`...`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import distributed, nn

from ..layers.sync_batch_norm import all_reduce_sum, merge_moments, sync_group
from . import fused_ops


class BatchNormState(NamedTuple):
    """Running statistics and settings of a BatchNorm in one training step."""

    running_mean: torch.Tensor | None
    running_var: torch.Tensor | None
    is_batch: bool  # normalise by the batch's statistics, not by the running ones
    momentum: float
    eps: float
    group: distributed.ProcessGroup | None  # processes that share the batch's statistics


def count_step(norms: Sequence[nn.Module | None]) -> list[BatchNormState | None]:
    """Count a training step of BatchNorms, as their `forward` does, and return their states."""
    counters = [
        norm.num_batches_tracked
        for norm in norms
        if norm is not None and norm.training and norm.track_running_stats
    ]
    counters = [counter for counter in counters if counter is not None]
    if counters:
        torch._foreach_add_(counters, 1)
    return [None if norm is None else _state(norm) for norm in norms]


def _state(norm: nn.Module) -> BatchNormState:
    momentum, is_batch = norm.momentum, norm.training or norm.running_mean is None
    mean, var = norm.running_mean, norm.running_var
    if norm.training and not norm.track_running_stats:
        mean = var = None
    elif norm.training and momentum is None and norm.num_batches_tracked is not None:
        momentum = 1.0 / float(norm.num_batches_tracked)
    group = sync_group(norm) if norm.training else None
    return BatchNormState(mean, var, is_batch, momentum or 0.0, norm.eps, group)


class FoldedBatchNorm(NamedTuple):
    """BatchNorm as x scale + offset, (C) each."""

    table: torch.Tensor  # (4, C), see `fused_ops.bn_statistics`
    count: int  # own tokens behind the statistics; 0 for running statistics
    total_count: torch.Tensor | None  # (1), tokens of all processes of the group
    group: distributed.ProcessGroup | None

    @classmethod
    def from_input(
        cls,
        state: BatchNormState,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        x: torch.Tensor,
        moments: torch.Tensor | None = None,
    ) -> 'FoldedBatchNorm':
        """Fold the BatchNorm of x and update the running statistics.

        Args:
            state: see `BatchNormState`.
            gamma: (C), learned scale.
            beta: (C), learned offset.
            x: (..., C).
            moments: (2, C), `fused_ops.moments` of x if they are available.
        """
        running_mean, running_var, is_batch, momentum, eps, group = state
        count, total_count = x.numel() // x.shape[-1] if is_batch else 0, None
        if not is_batch:
            moments = torch.stack((running_mean, running_var))
            running_mean = running_var = None
        elif group is not None:
            mean, var = fused_ops.moments(x) if moments is None else moments
            mean, var, total_count = merge_moments(mean, var, count, group)
            moments = torch.stack((mean, var))
        table = fused_ops.bn_statistics(
            x, moments, gamma, beta, running_mean, running_var, count, momentum, eps, total_count
        )
        return cls(table, count, total_count, group)

    @property
    def scale_and_offset(self) -> torch.Tensor:
        """(2, C)."""
        return self.table[:2]

    def backward(self, sums: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the gradients of parameters and the coefficients of the input's gradient.

        Args:
            sums: (2, C) in float64, sums over tokens of the output's gradient, and of that times x.

        Returns:
            bn_grad_coeffs: (3, C), see `fused_ops.bn_backward_`.
            grad_bias: (C), gradient of a bias added to x before the norm.
            grad_gamma: (C).
            grad_beta: (C).
        """
        total_sums = None if self.group is None else all_reduce_sum(sums, self.group)
        grads = fused_ops.bn_grad_coeffs(sums, self.table, self.count, total_sums, self.total_count)
        return grads[:3], *grads[3:]
