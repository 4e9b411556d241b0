"""BatchNorm of a training step as x scale + offset, for the autograd functions of `recompute.py`.

Shapes: C channels, after the axes of tokens (`...`).
"""

from typing import NamedTuple

import torch
from torch import distributed, nn

from ..layers.sync_batch_norm import all_reduce_sum, merge_moments, sync_group
from . import fused_ops


class BatchNormState(NamedTuple):
    """Running statistics and settings of a BatchNorm in one training step."""

    running_mean: torch.Tensor | None
    running_var: torch.Tensor | None
    num_batches: torch.Tensor | None  # int64 counter of training steps
    is_batch: bool  # normalise by the batch's statistics, not by the running ones
    momentum: float
    eps: float
    group: distributed.ProcessGroup | None  # processes that share the batch's statistics

    @classmethod
    def of(cls, norm: nn.Module | None) -> 'BatchNormState | None':
        """Return the state of a BatchNorm for the next step, as its `forward` takes it."""
        if norm is None:
            return None
        momentum, is_batch = norm.momentum, norm.training or norm.running_mean is None
        mean, var, num_batches = norm.running_mean, norm.running_var, None
        if norm.training and not norm.track_running_stats:
            mean = var = None
        elif norm.training:
            num_batches = norm.num_batches_tracked
        if momentum is None and num_batches is not None:
            momentum = 1.0 / (float(num_batches) + 1)
        group = sync_group(norm) if norm.training else None
        return cls(mean, var, num_batches, is_batch, momentum or 0.0, norm.eps, group)

    def arguments(self, gamma: torch.Tensor, beta: torch.Tensor) -> tuple:
        """Return the arguments after x of `fused_ops.bn_statistics`, for the process's own batch.

        Only if this is the whole batch the running statistics are updated.
        """
        running = self[:3] if self.is_batch and self.group is None else (None,) * 3
        return gamma, beta, *running, self.momentum, self.eps


class FoldedBatchNorm(NamedTuple):
    """BatchNorm as x scale + offset, (C) each."""

    table: torch.Tensor  # (5, C), see `fused_ops.bn_statistics`
    of_batch: bool  # statistics of the batch, not running ones
    total_count: torch.Tensor | None  # (1), tokens of all processes of the group
    group: distributed.ProcessGroup | None

    @classmethod
    def from_input(
        cls,
        state: BatchNormState,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        x: torch.Tensor,
        table: torch.Tensor | None = None,
    ) -> 'FoldedBatchNorm':
        """Fold the BatchNorm of x and update the running statistics.

        Args:
            state: see `BatchNormState`.
            gamma: (C), learned scale.
            beta: (C), learned offset.
            x: (..., C).
            table: (5, C), `fused_ops.bn_statistics` of x if they are available.
        """
        if not state.is_batch:
            moments = torch.stack((state.running_mean, state.running_var))
            table = fused_ops.bn_from_moments(moments, None, *state.arguments(gamma, beta))
            return cls(table, False, None, None)
        if table is None:
            table = fused_ops.bn_statistics(x, *state.arguments(gamma, beta))
        if state.group is None:
            return cls(table, True, None, None)
        count = x.numel() // x.shape[-1]
        mean, var, total_count = merge_moments(table[2], table[3], count, state.group)
        alone = state._replace(group=None)
        table = fused_ops.bn_from_moments(
            torch.stack((mean, var)), total_count, *alone.arguments(gamma, beta)
        )
        return cls(table, True, total_count, state.group)

    @property
    def scale_and_offset(self) -> torch.Tensor:
        """(2, C)."""
        return self.table[:2]

    def backward(self, sums: torch.Tensor, bn_grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the gradients of parameters and the coefficients of the input's gradient.

        Args:
            sums: (2, C) in float64, sums over the process's tokens of the output's gradient, and of
                that times x.
            bn_grads: (6, C), those of the process's own batch, see `fused_ops.bn_gelu_backward`.

        Returns:
            bn_grad_coeffs: (3, C), see `fused_ops.bn_backward_`.
            grad_bias: (C), gradient of a bias added to x before the norm.
            grad_gamma: (C).
            grad_beta: (C).
        """
        if self.group is not None:
            total_sums = all_reduce_sum(sums, self.group)
            bn_grads = fused_ops.bn_total_grads(sums, self.table, total_sums, self.total_count)
        return bn_grads[:3], *bn_grads[3:]
