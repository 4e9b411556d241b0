"""Mixed precision where there is a CUDA device, plain float32 where there is none."""

import torch
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from ..registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
def AutoAmpOptimWrapper(loss_scale: str | float | dict = 'dynamic', **kwargs) -> OptimWrapper:
    """MMEngine's `AmpOptimWrapper` on CUDA, its `OptimWrapper` elsewhere.

    The published networks were trained in float16 with a dynamic loss scale; the same config must
    run on a laptop, where MMEngine's class refuses to be built.

    Args:
        loss_scale: see MMEngine's `AmpOptimWrapper`.
        kwargs: `optimizer`, `clip_grad`, `accumulative_counts`, ...
    """
    if torch.cuda.is_available():
        return AmpOptimWrapper(loss_scale=loss_scale, **kwargs)
    print_log('no CUDA device: training in float32', logger='current')
    return OptimWrapper(**kwargs)
