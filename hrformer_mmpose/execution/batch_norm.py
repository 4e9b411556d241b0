"""BatchNorm of a training step as x scale + offset, for the autograd functions of `recompute.py`.

Shapes: T tokens (written `...` before C), C channels.
"""

from typing import NamedTuple

import torch
from torch import distributed, nn

from ..layers.sync_batch_norm import all_reduce_sum, merge_moments, sync_group
from . import fused_ops


class Statistics(NamedTuple):
    """Statistics of a BatchNorm in one step."""

    running_mean: torch.Tensor | None
    running_var: torch.Tensor | None
    is_batch: bool  # normalise by the batch's statistics, not by the running ones
    momentum: float
    eps: float
    group: distributed.ProcessGroup | None  # processes that share the batch's statistics

    @classmethod
    def step(cls, norm: nn.Module) -> 'Statistics':
        """Count a step of a BatchNorm, as its `forward` does."""
        momentum, is_batch = norm.momentum, norm.training or norm.running_mean is None
        mean, var = norm.running_mean, norm.running_var
        if norm.training and not norm.track_running_stats:
            mean = var = None
        elif norm.training and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(norm.num_batches_tracked)
        group = sync_group(norm) if norm.training else None
        return cls(mean, var, is_batch, momentum or 0.0, norm.eps, group)


class BatchNorm(NamedTuple):
    """BatchNorm as x scale + offset, (C) each."""

    scale: torch.Tensor
    offset: torch.Tensor
    mean_and_rstd: torch.Tensor  # (2, C)
    count: float | torch.Tensor  # tokens in the batch's statistics; 0 for running statistics
    group: distributed.ProcessGroup | None

    @classmethod
    def update(
        cls,
        statistics: Statistics,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        x: torch.Tensor,
        moments: torch.Tensor | None = None,
    ) -> 'BatchNorm':
        """Compute the BatchNorm of x and update the running statistics.

        Args:
            statistics: see `Statistics`.
            gamma: (C), learned scale.
            beta: (C), learned offset.
            x: (..., C).
            moments: (2, C), `fused_ops.moments` of x if they are available.
        """
        running_mean, running_var, is_batch, momentum, eps, group = statistics
        count = x.numel() // x.shape[-1] if is_batch else 0
        if is_batch:
            mean, var = fused_ops.moments(x) if moments is None else moments
            if group is not None:
                mean, var, count = merge_moments(mean, var, count, group)
            if running_mean is not None:
                unbiased = count / (count - 1) if group is not None or count > 1 else 1
                running_mean.lerp_(mean, momentum)
                running_var.lerp_((var * unbiased).to(var.dtype), momentum)
        else:
            mean, var = running_mean, running_var
        rstd = (var + eps).rsqrt()
        scale = gamma * rstd
        offset = torch.addcmul(beta, mean, scale, value=-1)
        return cls(scale, offset, torch.stack((mean, rstd)), count, group)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Tensors to save for the backward pass."""
        return self[:3]

    @property
    def settings(self) -> tuple:
        """The other fields."""
        return self[3:]

    @property
    def scale_and_offset(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(C) each."""
        return self[:2]

    def backward(self, sums: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the gradients of parameters.

        Args:
            sums: (2, C) in float64, sums over tokens of the output's gradient, and of that times x.

        Returns:
            bn_grad_coeffs: (3, C), see `fused_ops.bn_backward_`.
            grad_bias: (C), gradient of a bias added to x before the norm.
            grad_gamma: (C).
            grad_beta: (C).
        """
        dtype = self.scale.dtype
        scale, (mean, rstd) = self.scale.double(), self.mean_and_rstd.double()
        grad_beta, grad_gamma = sums[0], (sums[1] - mean * sums[0]) * rstd
        if self.group is not None or self.count:
            total_beta, total_gamma = grad_beta, grad_gamma
            if self.group is not None:
                total_beta, total_gamma = all_reduce_sum(
                    torch.stack((grad_beta, grad_gamma)), self.group
                )
            b = scale * rstd * total_gamma / -self.count
            coeffs = torch.stack((scale, b, scale * total_beta / -self.count - b * mean))
            grad_bias = torch.zeros_like(scale)  # the norm subtracts the mean
        else:
            coeffs = torch.stack((scale, *torch.zeros_like(self.mean_and_rstd)))
            grad_bias = scale * grad_beta
        return (*(x.to(dtype) for x in (coeffs, grad_bias, grad_gamma, grad_beta)),)
