"""BatchNorm over the batches of all processes, on any device.

PyTorch's `nn.SyncBatchNorm` requires an accelerator. This one synchronises over gloo too, so that
several CPU processes train as one process with the whole batch.
"""

import torch
from torch import distributed, nn


def sync_group(norm: nn.Module) -> distributed.ProcessGroup | None:
    """Return the processes that a BatchNorm shares its statistics with in a training step.

    Args:
        norm: `SyncBatchNorm` or `nn.SyncBatchNorm`; others share with nobody.

    Returns:
        The process group; None if there is no other process.
    """
    if not isinstance(norm, (SyncBatchNorm, nn.SyncBatchNorm)):
        return None
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    group = norm.process_group or distributed.group.WORLD
    return group if distributed.get_world_size(group) > 1 else None


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm that normalises by the statistics of all processes' batches in training.

    A step makes one `all_reduce` in the forward pass and one in the backward pass. Batches may
    differ in size. Gradients of weight and bias are those of the process's own batch, which
    `DistributedDataParallel` averages, as with `nn.SyncBatchNorm`.

    Args:
        args: see `nn.BatchNorm2d`.
        process_group: processes that share statistics; None for all.
        kwargs: see `nn.BatchNorm2d`.
    """

    def __init__(
        self, *args, process_group: distributed.ProcessGroup | None = None, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self.process_group = process_group

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        group = sync_group(self) if self.training else None
        if group is None:
            return super().forward(x)
        self._check_input_dim(x)
        wide_x = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide_x, (0, 2, 3), correction=0)
        mean, variance, count = merge_moments(mean, variance, x.numel() / x.shape[1], group)
        if self.track_running_stats:
            self._update_running_statistics(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        offset = -mean * scale
        if self.affine:
            scale, offset = scale * self.weight, offset * self.weight + self.bias
        out = torch.addcmul(offset[:, None, None], x, scale[:, None, None])
        return out.to(x.dtype)

    def _update_running_statistics(
        self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor
    ) -> None:
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def merge_moments(
    mean: torch.Tensor, variance: torch.Tensor, count: float, group: distributed.ProcessGroup
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Merge the moments of all processes' batches.

    Args:
        mean: (C), mean of this process's batch.
        variance: (C), its biased variance.
        count: values per channel in this process's batch.
        group: the processes.

    Returns:
        mean: (C), of all batches.
        variance: (C), biased, of all batches.
        count: (1), float64, values per channel in all batches.
    """
    dtype, mean, variance = mean.dtype, mean.double(), variance.double()
    sums = torch.stack((mean, variance + mean.square(), torch.ones_like(mean))) * count
    mean, square, count = all_reduce_sum(sums, group)
    count = count[:1].detach()
    mean, square = mean / count, square / count
    return mean.to(dtype), (square - mean.square()).clamp(min=0).to(dtype), count


def all_reduce_sum(x: torch.Tensor, group: distributed.ProcessGroup) -> torch.Tensor:
    """Sum a tensor over processes; the gradient is summed over them likewise."""
    return _AllReduceSum.apply(x, group)


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, group: distributed.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        x = x.clone()
        distributed.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return all_reduce_sum(grad, ctx.group), None
