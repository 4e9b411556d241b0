"""Files of weights alone, as `.safetensors` or in PyTorch's format."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from ..io import replacing

KEYPOINTS = 'keypoints'  # in the file's meta: names of the keypoints, as JSON


def save_weights(
    state_dict: Mapping[str, torch.Tensor],
    path: str | Path,
    origin: str,
    wrapper: str = 'state_dict',
    keypoints: Sequence[str] = (),
) -> None:
    """Write weights alone, as `.safetensors` or in PyTorch's format.

    Args:
        state_dict: weights to write.
        path: the suffix `.safetensors` selects that format.
        origin: origin of the weights, stored in the file (`recorded_origin`).
        wrapper: name of the entry that holds the weights, in PyTorch's format.
        keypoints: names of the head's keypoints, stored in the file if there are any.

    Raises:
        OSError: the file cannot be written; an existing one is unchanged.
    """
    tensors = {key: value.contiguous() for key, value in state_dict.items()}
    meta = {'origin': origin} | ({KEYPOINTS: json.dumps([*keypoints])} if keypoints else {})
    if str(path).endswith('.safetensors'):
        data = safetensors_package().torch.save(tensors, metadata={'format': 'pt', **meta})
    else:
        buffer = io.BytesIO()
        torch.save({'meta': meta, wrapper: tensors}, buffer)
        data = buffer.getvalue()
    with replacing(path) as partial:
        Path(partial).write_bytes(data)


def safetensors_package() -> Any:
    """Import safetensors, which is required for its files only."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise WeightsError('safetensors files need a package: pip install safetensors') from error
    return safetensors
