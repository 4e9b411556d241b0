"""Data types of mixed precision that the hardware computes fast."""

import torch

from ..errors import ConfigError
from . import processor

AUTOCAST_DTYPES = ('auto', 'float16', 'bfloat16')


def autocast_dtype(name: str = 'auto') -> torch.dtype | None:
    """Select the data type for `torch.autocast` on this machine; log a line if it differs.

    Args:
        name: 'float16', 'bfloat16' or 'auto'. 'auto' selects bfloat16 on CUDA devices of compute
            capability 8.0 and up, float16 on older ones (V100); on CPUs bfloat16 if the processor
            has instructions for it, else float32. Training in float16 needs a GPU.

    Returns:
        The data type; None for float32.

    Raises:
        ConfigError: unknown `name`.
    """
    if name not in AUTOCAST_DTYPES:
        raise ConfigError(f'mixed precision: {name!r} is not one of {", ".join(AUTOCAST_DTYPES)}')
    if not torch.cuda.is_available():
        return _float32() if name == 'float16' else cpu_dtype(name)
    has_bfloat16 = torch.cuda.get_device_capability() >= (8, 0)
    if name == 'bfloat16' and not has_bfloat16:
        _log('this GPU does not compute in bfloat16: float16 instead')
    return torch.bfloat16 if has_bfloat16 and name != 'float16' else torch.float16


def cpu_dtype(name: str) -> torch.dtype | None:
    """Select the data type of inference on this machine's CPU; log a line if it differs or is slow.

    Args:
        name: 'float16', 'bfloat16' or 'auto'. Float16 and 'auto' need instructions of the processor
            for float16 and bfloat16, else they select float32.

    Returns:
        The data type; None for float32.
    """
    fast = processor.half_types()
    dtype = torch.float16 if name == 'float16' else torch.bfloat16
    if dtype in fast:
        return dtype
    if name == 'bfloat16':
        _log('this processor has no instructions for bfloat16: float32 would be faster')
        return dtype
    return _float32()


def _float32() -> None:
    _log('the CPU computes in float32 here (bfloat16 can be asked for by its name)')


def _log(line: str) -> None:
    from mmengine.logging import print_log  # here: importing execution/ needs PyTorch only

    print_log(line, logger='current')
