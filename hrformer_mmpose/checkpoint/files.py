"""Safe reading of checkpoint files.

Every reason for which a file cannot be used is a one-line `WeightsError` that names the file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from . import archives, hub, published
from .arrays import UnsupportedError
from .download import fetch
from .safe_pickle import UnsafeError
from .weights_file import safetensors_package, save_weights

__all__ = ['check', 'load_weights', 'read', 'save_weights', 'weights_in']

WRAPPERS = ('state_dict', 'model', 'module')
ORIGINS = (
    'mmpose',
    'official-pose',
    'official-classification',
    'official-segmentation',
    'official-tokenpose',
    'official-transpose',
    'official-prtr',
    'unknown',
)
WEIGHT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LONGEST_NAME = 500  # of an entry; names come into messages


def load_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Load the weights of a file, under the names in the file.

    Args:
        path: a `.pth` file (weights alone or wrapped by a training run or by the authors' code), a
            `.safetensors` file, an http(s) address, `mmpose://NAME` of a published file
            (`published.FILES`) or `hf://OWNER/REPO[/FILE][@REVISION]`.

    Returns:
        Name -> tensor on the CPU; `to_mmpose` converts the names. Networks accept float16,
        bfloat16, float32 and float64 (`check_types`).

    Raises:
        WeightsError: the file is missing, damaged, no checkpoint, or would run code.
    """
    return weights_in(read(path), path)


def read(source: str | Path, skip_tensors: bool = False) -> Any:
    """Read the whole content of a file safely.

    Args:
        source: see `load_weights`.
        skip_tensors: read tensors without their data (device meta), to inspect the rest quickly.

    Returns:
        The saved object; for safetensors `{'state_dict': ..., 'meta': ...}`.

    Raises:
        WeightsError: see `load_weights`.
    """
    path = local_path(str(source))
    if _is_safetensors(_head(path)):
        return _read_safetensors(path)
    try:
        return archives.load(path, skip_tensors)
    except UnsafeError as error:
        more = f' and {len(error.names) - 3} more' if error.names[3:] else ''
        names = _printable(', '.join(error.names[:3]))
        raise WeightsError(
            f"refused '{path}': reading it would run code ({names}{more}). If you "
            'trust who made it, load it with torch.load yourself and save its weights alone'
        ) from error
    except UnsupportedError as error:
        raise WeightsError(
            f"'{path}' holds {error}: weights are dense tensors with data, as torch.save writes "
            'them; convert it with the tool that made it'
        ) from error
    except Exception as error:  # a damaged file makes zipfile, zlib and struct raise their own
        raise _damaged(path, error) from error


def check(path: str | Path) -> None:
    """Compare every byte of a zip archive (the format of `torch.save`) with its checksums.

    Raises:
        WeightsError: the archive is damaged or truncated.
    """
    try:
        archives.check(str(path))
    except Exception as error:
        raise _damaged(path, error) from error


def weights_in(content: Any, source: str | Path) -> dict[str, torch.Tensor]:
    """Unwrap the tensors of a file's content and remove DataParallel's prefix.

    Raises:
        WeightsError: there are no tensors, or a name is not printable or too long.
    """
    state = content
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    state = state if isinstance(state, Mapping) else {}
    tensors = {
        key: value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        held = f'a {type(content).__name__}'
        if isinstance(content, Mapping):
            held = ', '.join(map(str, [*content][:5])) or 'nothing'
        raise WeightsError(f"'{source}' holds no weights, only {_printable(held)}")
    for key in tensors:
        if len(key) > _LONGEST_NAME or not key.isprintable():
            raise WeightsError(f"'{source}' holds an entry of the name {key[:40]!a}: no network's")
    if all(key.startswith('module.') for key in tensors):
        tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return {key: value.detach() for key, value in tensors.items()}


def recorded_origin(content: Any) -> str | None:
    """Return the origin that `save_weights` stored; converted names may no longer show it."""
    meta = content.get('meta') if isinstance(content, Mapping) else None
    stored = meta.get('origin') if isinstance(meta, Mapping) else None
    return stored if stored in ORIGINS else None


def check_types(
    weights: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor], source: str | Path
) -> None:
    """Compare the dtypes of weights with those of a network.

    PyTorch silently copies integers, booleans and complex numbers into floats.

    Raises:
        WeightsError: a floating-point entry of the network has another dtype in the file than
            float16, bfloat16, float32 or float64; or an entry is complex.
    """
    for key, value in weights.items():
        is_float = key in target and target[key].is_floating_point()
        if value.is_complex() or (is_float and value.dtype not in WEIGHT_TYPES):
            raise WeightsError(
                f"'{source}' holds {key} as {str(value.dtype).removeprefix('torch.')}: weights "
                'are float16, bfloat16, float32 or float64'
            )


def local_path(source: str) -> str:
    """Return the local file of a path, an address or a name, downloading it once.

    Only an address or a name with its scheme is downloaded.

    Raises:
        WeightsError: there is no such file, or it cannot be fetched.
    """
    if source.startswith(published.SCHEME):
        source = published.address(source)
    if source.startswith(('http://', 'https://')):
        return fetch(source)
    if source.startswith(hub.SCHEME):
        return hub.fetch(source)
    if '://' in source:
        raise WeightsError(
            f"'{source}': give a local path, an http(s) address, mmpose://NAME or hf://OWNER/REPO"
        )
    path = os.path.expanduser(source)
    if os.path.isdir(path):
        raise WeightsError(f"checkpoint '{source}' is a folder: name a file in it")
    if not os.path.exists(path):
        hint = f', {published.SCHEME}{source} is a published file' * (source in published.FILES)
        raise WeightsError(f"checkpoint '{source}' does not exist{hint}")
    if not os.path.isfile(path):
        raise WeightsError(f"checkpoint '{source}' is no regular file")
    return path


def _head(path: str | Path) -> bytes:
    """Read the first bytes and refuse files that are obviously no checkpoint.

    Raises:
        WeightsError: the file cannot be read, is empty, a web page, or points to another file.
    """
    try:
        with open(path, 'rb') as file:
            head = file.read(1024)
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error.strerror}") from error
    if not head.strip(b'\0'):
        what = 'holds only zeros' if head else 'is empty (0 bytes)'
        raise WeightsError(f"'{path}' {what}: copy or download it again")
    if head.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        raise WeightsError(f"'{path}' is a web page, not a checkpoint: download the file itself")
    if head.startswith(b'version https://git-lfs'):
        raise WeightsError(f"'{path}' is a Git LFS pointer: fetch the file with 'git lfs pull'")
    if head.startswith(b'\x1f\x8b') or head[257:262] == b'ustar':
        raise WeightsError(f"'{path}' is a tar or gzip archive: unpack it and name a file of it")
    return head


def _is_safetensors(head: bytes) -> bool:
    """Return whether the file starts with a length of 8 bytes and JSON."""
    return head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2**30


def _read_safetensors(path: str) -> dict:
    safe_open = safetensors_package().safe_open
    try:
        with safe_open(path, 'pt') as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            meta = file.metadata() or {}
    except Exception as error:  # SafetensorError, and Rust's panics
        raise _damaged(path, error) from error
    return {'state_dict': tensors, 'meta': meta}


def _damaged(path: str | Path, error: Exception) -> WeightsError:
    if isinstance(error, MemoryError):
        return WeightsError(f"'{path}' needs more memory than there is")
    if os.path.splitext(path)[1].lower() == '.onnx':
        return WeightsError(
            f"'{path}' is an exported network: give the checkpoint that it was exported from"
        )
    if _is_text(path):
        return WeightsError(f"'{path}' is a text file, no checkpoint")
    return WeightsError(
        f"'{path}' ({os.path.getsize(path):,} bytes) is damaged or no checkpoint "
        f'({_printable(str(error)) or type(error).__name__}): copy or download it again'
    )


def _is_text(path: str | Path) -> bool:
    """Return whether the first bytes of a file are no control characters."""
    with open(path, 'rb') as file:
        return all(byte >= 32 or byte in b'\t\n\r' for byte in file.read(1024))


def _printable(text: str) -> str:
    """Return the first line without terminal control characters."""
    line = (text.strip().splitlines() or [''])[0][:120]
    return ''.join(character if character.isprintable() else '?' for character in line)
