"""Pre-trained weights of other networks, stored under their own names."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..errors import WeightsError
from .files import check_types, load_weights

State = Mapping[str, torch.Tensor]


def load_pretrained(
    model: nn.Module,
    optional: Callable[[str], bool] = lambda key: False,
    convert: Callable[[State], State] = lambda state: state,
    prefix: str = 'backbone.',
) -> bool:
    """Load the file of `model.init_cfg`; return False if it names no file.

    The file may be wrapped (see `load_weights`) and may hold the network alone or under `prefix`.

    Args:
        model: the network.
        optional: returns whether the file may lack an entry.
        convert: converts the names of the file to the network's.
        prefix: of the network's entries in a file that holds more.

    Raises:
        WeightsError: the file cannot be read, lacks an entry, or has one of another shape.
    """
    cfg = model.init_cfg  # not a checkpoint: None or a list of initializers
    if not isinstance(cfg, Mapping) or cfg['type'] != 'Pretrained':
        return False
    source = cfg['checkpoint']
    weights = load_weights(source)
    if any(key.startswith(prefix) for key in weights):
        weights = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    try:
        weights = convert(weights)
        check_types(weights, model.state_dict(), source)
        found = model.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError, LookupError) as error:  # of sizes that do not fit
        what = str(error).splitlines()[-1].strip()
        raise WeightsError(f"'{source}' does not fit {type(model).__name__}: {what}") from error
    if missing := [key for key in found.missing_keys if not optional(key)]:
        raise WeightsError(
            f"'{source}' is no file of this {type(model).__name__}: it lacks {missing[0]} and "
            f'{len(missing) - 1} other entries of {len(model.state_dict())}'
        )
    model._is_init = True
    return True
