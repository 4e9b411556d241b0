"""Relative position bias tables of another window size."""

from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F

from .state_dict_adapter import TABLE, State


def resize_tables(state: State, target: Mapping[str, torch.Tensor]) -> State:
    """Resize the tables of a file to a network's windows, bilinearly.

    So the authors' segmentation code (`seg/lib/models/tools/module_helper.py`) starts networks with
    windows of 15x15 from ImageNet weights with windows of 7x7.

    Args:
        state: entries under the network's names. Not modified.
        target: state dict of the network; a table of a square window of w tokens a side is
            ((2w - 1)^2, heads).

    Returns:
        The tables that differ from the network's in length only, resized.
    """
    resized = {}
    for key, table in state.items():
        wanted = target[key].shape if key.endswith(TABLE) and key in target else table.shape
        if table.ndim != 2 or table.shape == wanted or table.shape[1:] != wanted[1:]:
            continue
        side, new_side = isqrt(len(table)), isqrt(wanted[0])
        if (side**2, new_side**2) != (len(table), wanted[0]):
            continue
        square = table.T.reshape(1, -1, side, side).float()
        square = F.interpolate(square, (new_side, new_side), mode='bilinear')
        resized[key] = square.flatten(2)[0].T.to(table.dtype).contiguous()
    return resized
