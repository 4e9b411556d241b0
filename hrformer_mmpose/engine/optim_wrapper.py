"""Mixed precision where the hardware supports it, float32 elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import nn

from ..errors import ConfigError
from ..registry import OPTIM_WRAPPERS

DTYPES = ('auto', 'float16', 'bfloat16')


def autocast_dtype(wanted: str = 'auto') -> torch.dtype | None:
    """Return the autocast dtype for this machine; log a line if it differs from the request.

    Args:
        wanted: 'float16', 'bfloat16', or 'auto': bfloat16 where a CUDA device computes with it
            (compute capability 8.0 and up), float16 on older ones (V100), none on CPUs, where it
            mostly takes longer.

    Returns:
        None stands for float32.

    Raises:
        ConfigError: `wanted` is none of the above.
    """
    if wanted not in DTYPES:
        raise ConfigError(f'mixed precision: {wanted!r} is not one of {", ".join(DTYPES)}')
    if not torch.cuda.is_available():
        if wanted == 'bfloat16':
            return torch.bfloat16
        print_log(
            'no CUDA device: computing in float32 (--amp-dtype bfloat16 asks for mixed precision)',
            logger='current',
        )
        return None
    has_bfloat16 = torch.cuda.get_device_capability() >= (8, 0)
    if wanted == 'bfloat16' and not has_bfloat16:
        print_log('this GPU does not compute in bfloat16: float16 instead', logger='current')
    return torch.bfloat16 if has_bfloat16 and wanted != 'float16' else torch.float16


@OPTIM_WRAPPERS.register_module()
def AutoAmpOptimWrapper(
    loss_scale: str | float | dict = 'dynamic', dtype: str = 'float16', **kwargs
) -> OptimWrapper:
    """MMEngine's `AmpOptimWrapper` on CUDA, on CPUs its `OptimWrapper`.

    The published networks were trained in float16 with a dynamic loss scale; the same config must
    run on a laptop, where MMEngine's class refuses to be built.

    Args:
        loss_scale: see MMEngine's `AmpOptimWrapper`.
        dtype: see `autocast_dtype`.
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
