"""Device and precision of a PyTorch network for inference."""

import torch

from ..errors import ConfigError, device_errors, first_line
from ..execution.precision import AUTOCAST_DTYPES, autocast_dtype, cpu_dtype

PRECISIONS = ('float32', *AUTOCAST_DTYPES)


def select_device(name: str | None) -> torch.device:
    """Return a device that can be used.

    Args:
        name: 'cpu', 'cuda', 'cuda:1', ...; None selects CUDA if available.

    Raises:
        ConfigError: unknown to PyTorch, or not in this machine.
        DeviceError: PyTorch has no kernels for the GPU, or its memory is full.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
    except RuntimeError as error:
        raise ConfigError(f'device={name!r} is not known to PyTorch') from error
    if device.type not in ('cpu', 'cuda'):
        _check_device(device)
    if device.type != 'cuda':
        return device
    if not torch.cuda.is_available():
        raise ConfigError(f'device={name!r}: PyTorch finds no CUDA device here')
    if (device.index or 0) >= (count := torch.cuda.device_count()):
        plural = '' if count == 1 else 's'
        raise ConfigError(f'device={name!r}: this machine has {count} CUDA device{plural}')
    with device_errors(lambda: f'other programs use all of {device}'):
        torch.zeros(1, device=device).add_(1)  # fails where PyTorch has no kernels for the GPU
    return device


def _check_device(device: torch.device) -> None:
    """Check a device that is neither a CPU nor CUDA: compute on it, and read the result."""
    try:
        torch.zeros(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device='{device}': PyTorch cannot compute on it here ({first_line(error)})"
        ) from error


def half_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the half-precision type for a device, None for float32.

    Args:
        precision: 'float32', 'float16', 'bfloat16' or 'auto', see `autocast_dtype` for CUDA devices
            and `cpu_dtype` for CPUs.
        device: device of the network.

    Raises:
        ConfigError: unknown `precision`.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f'precision={precision!r} is not one of {", ".join(PRECISIONS)}')
    if precision == 'float32':
        return None
    if device.type == 'cuda':
        with torch.cuda.device(device):  # GPUs of one machine may differ
            return autocast_dtype(precision)
    return cpu_dtype(precision)
