"""Data types of mixed precision that the hardware computes fast."""

import torch

from ..errors import ConfigError

AUTOCAST_DTYPES = ('auto', 'float16', 'bfloat16')


def autocast_dtype(name: str = 'auto') -> torch.dtype | None:
    """Select the data type for `torch.autocast` on this machine; log a line if it differs.

    Args:
        name: 'float16', 'bfloat16' or 'auto'. 'auto' selects bfloat16 on CUDA devices of compute
            capability 8.0 and up, float16 on older ones (V100), and float32 on CPUs, where mixed
            precision is mostly slower.

    Returns:
        The data type; None for float32.

    Raises:
        ConfigError: unknown `name`.
    """
    from mmengine.logging import print_log  # here: importing execution/ needs PyTorch only

    if name not in AUTOCAST_DTYPES:
        raise ConfigError(f'mixed precision: {name!r} is not one of {", ".join(AUTOCAST_DTYPES)}')
    if not torch.cuda.is_available():
        if name == 'bfloat16':
            return torch.bfloat16
        print_log(
            'no CUDA device: computing in float32 (--amp-dtype bfloat16 asks for mixed precision)',
            logger='current',
        )
        return None
    has_bfloat16 = torch.cuda.get_device_capability() >= (8, 0)
    if name == 'bfloat16' and not has_bfloat16:
        print_log('this GPU does not compute in bfloat16: float16 instead', logger='current')
    return torch.bfloat16 if has_bfloat16 and name != 'float16' else torch.float16
