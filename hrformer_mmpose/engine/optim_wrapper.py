"""Mixed precision where the hardware supports it, float32 elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from ..execution.precision import autocast_dtype
from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
def AutoAmpOptimWrapper(
    loss_scale: str | float | dict = 'dynamic', dtype: str = 'float16', **kwargs
) -> OptimWrapper:
    """MMEngine's `AmpOptimWrapper` on CUDA, on CPUs its `OptimWrapper`.

    The published networks were trained in float16 with a dynamic loss scale; the same config must
    run on a laptop, where MMEngine's class refuses to be built.

    Args:
        loss_scale: see MMEngine's `AmpOptimWrapper`.
        dtype: see `execution.precision.autocast_dtype`.
        kwargs: `optimizer`, `clip_grad`, `accumulative_counts`, ...
    """
    kind = autocast_dtype(dtype)
    if torch.cuda.is_available():
        return AmpOptimWrapper(loss_scale=loss_scale, dtype=kind, **kwargs)
    return OptimWrapper(**kwargs) if kind is None else _CPUAmpOptimWrapper(**kwargs)


class _CPUAmpOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16, whose range needs no loss scale."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
