"""Names of the devices of exported networks: 'cpu', 'cuda:1', 'gpu', ..."""

import re
from collections.abc import Iterable

from ..errors import ConfigError

DEVICES = {'onnxruntime': ('cpu', 'cuda', 'tensorrt'), 'openvino': ('cpu', 'gpu', 'auto')}
NUMBERED = ('cuda', 'tensorrt', 'gpu')


def split_device(device: str, kinds: Iterable[str]) -> tuple[str, int]:
    """Split a device's name into its kind and its number.

    Args:
        device: name, e.g. 'cuda' or 'cuda:1'.
        kinds: kinds to choose from.

    Returns:
        Kind and number; 0 if the name has none.

    Raises:
        ConfigError: not one of `kinds`, or another number than a GPU can have.
    """
    match = re.fullmatch(r'([a-z]+)(?::(\d{1,3}))?', device)
    kind = match[1] if match else device
    if match is None or kind not in kinds or (match[2] and kind not in NUMBERED):
        names = [f'{name}[:NUMBER]' if name in NUMBERED else name for name in kinds]
        raise ConfigError(f'device={device!r} is not one of {", ".join(names)}')
    return kind, int(match[2] or 0)


def backends_with(device: str) -> list[str]:
    """Return the backends that have a device.

    Raises:
        ConfigError: none has.
    """
    kind, _ = split_device(device, dict.fromkeys(name for row in DEVICES.values() for name in row))
    return [backend for backend, kinds in DEVICES.items() if kind in kinds]
