"""Kinds of input."""

import importlib
from typing import Any

# Kind -> inputs of 10,000.
SHARES = {
    'checkpoints': 3000,
    'images': 1700,
    'annotations': 1400,
    'detections': 1200,
    'journals': 800,
    'arguments': 900,
    'exported': 500,
    'configs': 500,
}
# Runs that are disturbed at each of their file operations.
DISTURBED = ('training-kill', 'training-full', 'prediction-kill', 'prediction-full')
NEED_EXPORTED = {'journals', 'arguments', 'exported', 'prediction-kill', 'prediction-full'}


def load(name: str, materials: Any) -> Any:
    """The kind of that name."""
    if name in DISTURBED:
        return importlib.import_module(f'{__name__}.disturbed').kinds(materials)[name]()
    module = importlib.import_module(f'{__name__}.{name}')
    return getattr(module, name.capitalize())(materials)


def numbers(kind: Any, inputs: int, chosen: list[str]) -> list[int]:
    """Numbers of the kind's inputs: its operations, or its share of all inputs of chosen kinds."""
    if kind.name in DISTURBED:
        return kind.numbers
    names = [name for name in chosen if name in SHARES]
    total = sum(SHARES[name] for name in names)
    before = sum(SHARES[name] for name in names[: names.index(kind.name)])
    first, last = (inputs * share // total for share in (before, before + SHARES[kind.name]))
    return [*range(last - first)]
