"""Weights of networks to compare with: their files carry the network's own names."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import WeightsError
from .files import load_weights

State = Mapping[str, torch.Tensor]


def load_plain(
    model: nn.Module,
    source: str | Path,
    optional: Callable[[str], bool] = lambda key: False,
    convert: Callable[[State], State] = lambda state: state,
) -> None:
    """Load a file, wrapped or not (`load_weights`), of the network alone or as a model's backbone.

    Args:
        model: the network. source: path or address. optional: whether the file may lack an entry.
        convert: brings the file's names to the network's.

    Raises:
        WeightsError: the file cannot be read, lacks an entry, or has one of another shape.
    """
    weights = load_weights(source)
    start = 'backbone.'
    if any(key.startswith(start) for key in weights):
        weights = {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}
    try:
        found = model.load_state_dict(convert(weights), strict=False)
    except RuntimeError as error:
        what = str(error).splitlines()[-1].strip()
        raise WeightsError(f"'{source}' does not fit {type(model).__name__}: {what}") from error
    if missing := [key for key in found.missing_keys if not optional(key)]:
        raise WeightsError(
            f"'{source}' is no file of this {type(model).__name__}: it lacks {missing[0]} and "
            f'{len(missing) - 1} other entries of {len(model.state_dict())}'
        )
