"""Atomic writes: after a crash a file is the old one or the new one, never a part."""

import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from .errors import WeightsError

PARTIAL = '.partial'  # suffix of a file that is being written
KEYPOINTS = 'keypoints'  # in the meta of a file of weights alone: their names, as JSON


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


@contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Replace a file atomically.

    Yields:
        Path of an empty temporary file in the same folder. It is flushed to the disk and renamed
        to `path` on exit. After an error `path` is unchanged and the temporary file is removed.
    """
    partial = f'{path}.{secrets.token_hex(4)}{PARTIAL}'
    # O_EXCL: an existing link of this name would redirect the write.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        _sync(partial, os.O_RDWR)
        os.replace(partial, path)
        with suppress(OSError):  # some file systems know no sync of a folder
            _sync(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(partial)
        raise


def _sync(path: str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def safetensors_package() -> Any:
    """Import safetensors, which is required for its files only."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise WeightsError('safetensors files need a package: pip install safetensors') from error
    return safetensors
