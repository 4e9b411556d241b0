"""Parts of a config as data, and the classes that they name."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine import registry as mmengine_registry
from mmpose import registry as mmpose_registry

from .. import registry

_REGISTRIES = tuple(
    getattr(module, name)
    for module in (registry, mmpose_registry, mmengine_registry)
    for name in ('MODELS', 'KEYPOINT_CODECS')
    if hasattr(module, name)
)


def plain(value: Any) -> Any:
    """Convert to dicts and lists, without initializers."""
    if isinstance(value, Mapping):
        return {
            key: plain(entry) for key, entry in value.items() if key not in ('init_cfg', '_scope_')
        }
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, type):
        return f'{value.__module__}.{value.__name__}'
    return value.item() if hasattr(value, 'item') else value


def types(value: Any) -> Iterator[str]:
    """Yield the classes that a config names."""
    if isinstance(value, Mapping):
        if 'type' in value:
            yield value['type'] if isinstance(value['type'], str) else repr(value['type'])
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from types(entry)


def registered_class(name: str) -> Any:
    """Return the class that a registry holds, or None; others MMEngine would import by their path.

    Args:
        name: of the class, with or without the registry's scope.
    """
    scope, _, class_name = name.rpartition('.')
    if not re.fullmatch(r'\w+', class_name):
        return None
    for candidate in _REGISTRIES:
        if scope in ('', candidate.scope):
            candidate.import_from_location()
            if class_name in candidate.module_dict:
                return candidate.module_dict[class_name]
    return None
