"""Checkpoint files: read without running anything they bring, written so that a crash leaves the
old one or the new one, never half of one.

Every reason why a file is of no use is a `WeightsError` of one line that names the file.
"""

import io
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torch.distributed as dist

from ..errors import WeightsError
from . import pickles

PARTIAL = '.partial'  # suffix of a file that is being written
WRAPPERS = ('state_dict', 'model', 'module')


def load_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The weights of a file, under the names the file gives them.

    Args:
        path: a `.pth` file (weights alone, or with whatever a training run or the authors' code
            wrapped around them), a `.safetensors` file, or an http(s) address.

    Returns:
        Name -> tensor on the CPU; `to_mmpose` brings the names to this package's.

    Raises:
        WeightsError: the file is missing, damaged, no checkpoint, or wants to run code.
    """
    return weights_in(read(path), path)


def read(source: str | Path, mmap: bool = False) -> Any:
    """Everything a file holds, safely.

    Args:
        source: path or http(s) address.
        mmap: leave the tensors on disk (for a look at the rest). Skips the check of every byte.

    Returns:
        What was saved; for safetensors `{'state_dict': ..., 'meta': ...}`.

    Raises:
        WeightsError: see `load_weights`.
    """
    path = local_path(str(source))
    head = _head(path)
    if _is_safetensors(head):
        return _read_safetensors(path)
    is_zip = zipfile.is_zipfile(path)
    if not mmap:
        check(path)
    try:
        return pickles.load(path, mmap=mmap and is_zip)
    except Exception as error:  # whatever a damaged file makes PyTorch raise
        raise _unreadable(path, error) from error


def check(path: str | Path) -> None:
    """Compare every byte of a zip archive (the format of `torch.save`) with its checksums.

    Raises:
        WeightsError: the archive is damaged, or cut short.
    """
    if not zipfile.is_zipfile(path):
        if _head(path).startswith(b'PK'):
            raise _damaged(path, 'the end is missing')
        return  # the format before PyTorch 1.6 has no checksums
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except Exception as error:  # zipfile, zlib and struct each have their own
        raise _damaged(path, str(error)) from error
    if broken is not None:
        raise _damaged(path, f'the checksum of {broken} does not match')


def weights_in(content: Any, source: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file's content, out of their wrapping and without DataParallel's prefix.

    Raises:
        WeightsError: there are none.
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
        raise WeightsError(f"'{source}' holds no weights, only {held}")
    if all(key.startswith('module.') for key in tensors):
        tensors = {key.removeprefix('module.'): value for key, value in tensors.items()}
    return {key: value.detach() for key, value in tensors.items()}


def recorded_origin(content: Any) -> str | None:
    """Origin that `save_weights` noted in the file; the names alone may no longer tell it."""
    meta = content.get('meta') if isinstance(content, Mapping) else None
    found = meta.get('origin') if isinstance(meta, Mapping) else None
    return found if isinstance(found, str) else None


def save_weights(
    state_dict: Mapping[str, torch.Tensor],
    path: str | Path,
    origin: str,
    wrapper: str = 'state_dict',
) -> None:
    """Write weights alone, as `.safetensors` or in PyTorch's format.

    Args:
        state_dict: what to write. path: the ending `.safetensors` chooses the format.
        origin: where the weights come from, noted in the file (`recorded_origin`).
        wrapper: name of the entry that holds the weights, in PyTorch's format.

    Raises:
        OSError: the file cannot be written; what stood there before is as it was.
    """
    tensors = {key: value.contiguous() for key, value in state_dict.items()}
    if str(path).endswith('.safetensors'):
        data = _safetensors().torch.save(tensors, metadata={'format': 'pt', 'origin': origin})
    else:
        buffer = io.BytesIO()
        torch.save({'meta': {'origin': origin}, wrapper: tensors}, buffer)
        data = buffer.getvalue()
    with replacing(path) as partial:
        Path(partial).write_bytes(data)


@contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Write a file that appears only when it is complete and on the disk.

    Yields:
        Where to write: a file in the same folder, which then takes `path`'s place in one step. If
        that fails, `path` is as it was before and the rest is removed.
    """
    partial = f'{path}{PARTIAL}'
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


def local_path(source: str) -> str:
    """The file that `source` names; an http(s) address is fetched once, by one process of a node.

    Raises:
        WeightsError: there is no such file, or it cannot be fetched.
    """
    if source.startswith(('http://', 'https://')):
        return _fetch(source)
    if '://' in source:
        raise WeightsError(f"'{source}': give a local path or an http(s) address")
    path = os.path.expanduser(source)
    if os.path.isdir(path):
        raise WeightsError(f"checkpoint '{source}' is a folder: name a file in it")
    if not os.path.isfile(path):
        raise WeightsError(f"checkpoint '{source}' does not exist")
    return path


def _fetch(url: str) -> str:
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(urlparse(url).path))
    failure = None
    if int(os.environ.get('LOCAL_RANK', 0)) == 0 and not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        # Published names end in the first 8 digits of the file's SHA-256: -09516375_20220226.pth
        digest = re.search(r'-([0-9a-f]{8})[_.]', os.path.basename(path))
        try:
            torch.hub.download_url_to_file(url, path, hash_prefix=digest[1] if digest else None)
        except (OSError, RuntimeError) as error:  # URLError is an OSError, a wrong hash the other
            failure = error
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
    if not os.path.exists(path):
        raise WeightsError(f"cannot fetch '{url}': {failure or 'see the first process'}")
    return path


def _head(path: str | Path) -> bytes:
    """First bytes, when they may be a checkpoint's.

    Raises:
        WeightsError: the file is empty, a web page, or a pointer to a file elsewhere.
    """
    with open(path, 'rb') as file:
        head = file.read(1024)
    if not head.strip(b'\0'):
        what = 'holds only zeros' if head else 'is empty (0 bytes)'
        raise WeightsError(f"'{path}' {what}: copy or download it again")
    if head.lstrip().lower().startswith((b'<!doctype', b'<html', b'<?xml', b'<head')):
        raise WeightsError(f"'{path}' is a web page, not a checkpoint: download the file itself")
    if head.startswith(b'version https://git-lfs'):
        raise WeightsError(f"'{path}' is a Git LFS pointer: fetch the file with 'git lfs pull'")
    return head


def _is_safetensors(head: bytes) -> bool:
    """A length of 8 bytes, then JSON."""
    return head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < 2**30


def _read_safetensors(path: str) -> dict:
    safe_open = _safetensors().safe_open
    try:
        with safe_open(path, 'pt') as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            meta = file.metadata() or {}
    except Exception as error:  # SafetensorError, and Rust's panics
        raise _damaged(path, str(error)) from error
    return {'state_dict': tensors, 'meta': meta}


def _safetensors() -> Any:
    """The package, which is needed only for its files."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise WeightsError('safetensors files need a package: pip install safetensors') from error
    return safetensors


def _unreadable(path: str, error: Exception) -> WeightsError:
    unknown = pickles.unknown_names(path)
    if unknown:
        more = f' and {len(unknown) - 3} more' if unknown[3:] else ''
        return WeightsError(
            f"refused '{path}': reading it would run code ({', '.join(unknown[:3])}{more}). If you "
            'trust who made it, load it with torch.load yourself and save its weights alone'
        )
    return _damaged(path, str(error))


def _damaged(path: str | Path, what: str) -> WeightsError:
    # PyTorch explains its safe reader at length; what it found follows this mark.
    lines = what.split('WeightsUnpickler error:')[-1].strip().splitlines() or ['unreadable']
    return WeightsError(
        f"'{path}' ({os.path.getsize(path):,} bytes) is damaged or no checkpoint "
        f'({lines[0][:120]}): copy or download it again'
    )
