"""Downloads: cached under their whole address and verified."""

import hashlib
import http.client
import os
import re
import sys
import urllib.request
from contextlib import suppress
from typing import BinaryIO
from urllib.parse import urlparse

import torch
import torch.distributed as dist

from ..errors import WeightsError
from ..io import replacing

TIMEOUT = 30  # seconds without an answer, or without a further byte
_CHUNK = 2**20
_DATE = re.compile(r'20\d\d[01]\d[0-3]\d')  # published names have one beside the hash


def fetch(url: str) -> str:
    """Return the local file of an http(s) address; download it if it is not cached.

    In a distributed run the first process of each node downloads and the others wait.

    Raises:
        WeightsError: the address does not answer, or gives another file than it promises.
    """
    try:
        name = os.path.basename(urlparse(url).path)
    except ValueError as error:
        raise WeightsError(f"'{url}' is no address: {error}") from error
    if not name:
        raise WeightsError(f"'{url}' names no file: give the address of one")
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    # Addresses may share their last part, so the file name contains a hash of the address.
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    path = os.path.join(folder, f'{key}-' + re.sub(r'[^\w.-]', '_', name)[-100:])
    is_distributed = dist.is_available() and dist.is_initialized()
    failure = None
    if not os.path.exists(path) and not (is_distributed and int(os.environ.get('LOCAL_RANK', 0))):
        try:
            os.makedirs(folder, exist_ok=True)
            if not _adopt(os.path.join(folder, name), path):
                _download(url, path, name_hash(name))
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = error
    if is_distributed:
        dist.barrier()
    if not os.path.exists(path):
        raise WeightsError(f"cannot fetch '{url}': {failure or 'see the first process'}")
    return path


def name_hash(name: str) -> str | None:
    """Return the start of the SHA-256 that published names contain: -09516375_20220226.pth."""
    digits = re.findall(r'(?<=[-_])[0-9a-f]{8,64}(?=[-_.])', name)
    return next((text for text in digits if not _DATE.fullmatch(text)), None)


def _adopt(old: str, path: str) -> bool:
    """Adopt an earlier download if the hash in its name matches."""
    expected = name_hash(os.path.basename(old))
    if expected is not None and os.path.isfile(old):
        with suppress(OSError), open(old, 'rb') as file:
            _store(file, path, None, expected)
            return True
    return False


def _download(url: str, path: str, expected: str | None) -> None:
    request = urllib.request.Request(url, headers={'User-Agent': 'hrformer-mmpose'})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        print(f'downloading {url} to {path}', file=sys.stderr)
        promised = answer.headers['Content-Length']
        _store(answer, path, None if promised is None else int(promised), expected)


def _store(source: BinaryIO, path: str, promised: int | None, expected: str | None) -> None:
    """Write `source` to `path` if it has the length and the hash.

    Raises:
        OSError: it has not, or cannot be read or written. Then `path` is as it was.
    """
    digest, size = hashlib.sha256(), 0
    with replacing(path) as partial:
        with open(partial, 'wb') as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        if promised not in (None, size):
            raise OSError(f'{size:,} of {promised:,} bytes came')
        actual = digest.hexdigest()
        if expected is not None and not actual.startswith(expected):
            raise OSError(f'its SHA-256 is {actual[:8]}..., its name says {expected}')
