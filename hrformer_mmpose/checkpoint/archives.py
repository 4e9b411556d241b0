"""The two formats of `torch.save`: zip archives, and the one before PyTorch 1.6.

What a file says of its sizes is compared with its length before anything is read, so that reading
needs no more memory than a small multiple of that.
"""

import io
import os
import pickle
import sys
import zipfile
from typing import Any, BinaryIO

import torch

from .arrays import Storage, StorageType
from .safe_pickle import Unpickler

ZIP = b'PK\x03\x04'
_LEGACY = 0x1950A86A20F9469CFC6C  # begins a file of the older format, as a pickle


class ArchiveError(pickle.UnpicklingError):
    """The file does not have the format of `torch.save`."""


def load(path: str, skip_tensors: bool = False) -> Any:
    """Load the content of a file, tensors on the CPU.

    Args:
        path: a file of `torch.save`.
        skip_tensors: tensors get no data (device meta).

    Raises:
        safe_pickle.UnsafeError: see `Unpickler`.
        arrays.UnsupportedError: see `Unpickler`.
        Exception: of many kinds, when the file is damaged.
    """
    with open(path, 'rb') as file:
        if file.read(len(ZIP)) == ZIP:
            return _Zip(file).load(skip_tensors)
        return _load_legacy(file.raw, skip_tensors)


def check(path: str) -> None:
    """Compare every byte of a zip archive with its checksums; the older format has none.

    Raises:
        Exception: of many kinds, when the archive is damaged or cut short.
    """
    with open(path, 'rb') as file:
        if file.read(len(ZIP)) != ZIP:
            return
        broken = _Zip(file).archive.testzip()
        if broken is not None:
            raise ArchiveError(f'the checksum of {broken!r} does not match')


class _Zip:
    def __init__(self, file: BinaryIO):
        self.size = os.fstat(file.fileno()).st_size
        try:
            self.archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise ArchiveError('the end is missing') from error
        entries = self.archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ArchiveError(f'{entry.filename!r} is compressed, torch.save stores without')
        if sum(entry.file_size for entry in entries) > self.size:
            raise ArchiveError('its entries are larger than the file')
        self._storages: dict[str, torch.UntypedStorage] = {}

    def load(self, skip_tensors: bool) -> Any:
        names = [n for n in self.archive.namelist() if n.split('/', 1)[1:] == ['data.pkl']]
        if len(names) != 1:
            raise ArchiveError('a zip archive without data.pkl')
        folder = names[0].removesuffix('data.pkl')
        if f'{folder}byteorder' in self.archive.namelist():
            _check_byteorder(self.archive.read(f'{folder}byteorder').decode())

        def load_storage(pid: Any) -> Storage:
            kind, key, size = _parse(pid)
            if key not in self._storages:
                self._storages[key] = self._read(f'{folder}data/{key}', size, skip_tensors)
            return _storage(self._storages[key], kind, size)

        stream = io.BytesIO(self.archive.read(names[0]))
        return Unpickler(stream, self.size, load_storage).load()

    def _read(self, name: str, size: int, skip: bool) -> torch.UntypedStorage:
        if self.archive.getinfo(name).file_size != size:
            raise ArchiveError(f'{name!r} is of another size than the file says')
        if skip:
            return torch.UntypedStorage(size, device='meta')
        storage = torch.UntypedStorage(size)
        with self.archive.open(name) as file:
            _fill(storage, file)
        return storage


class _Bounded(io.BufferedReader):
    """File that refuses reads beyond its size, for which Python would reserve memory."""

    size = 0

    def read(self, size: int = -1) -> bytes:
        if size > self.size:
            raise ArchiveError('the end is missing')
        return super().read(size)


def _load_legacy(raw: io.FileIO, skip_tensors: bool) -> Any:
    """Read a file of the older format: pickles, then the bytes of the tensors."""
    raw.seek(0)
    file = _Bounded(raw)
    file.size = size = os.fstat(raw.fileno()).st_size
    if Unpickler(file, size, _parse).load() != _LEGACY:
        raise ArchiveError('a pickle, but not of torch.save')
    Unpickler(file, size, _parse).load()  # the version, always 1001
    system = Unpickler(file, size, _parse).load()
    _check_byteorder('little' if system['little_endian'] else 'big')
    storages: dict[str, Storage] = {}
    left = size

    def load_storage(pid: Any) -> Storage:
        nonlocal left
        kind, key, length = _parse(pid)
        if key not in storages:
            left -= length
            if left < 0:
                raise ArchiveError('its tensors are larger than the file')
            device = 'meta' if skip_tensors else 'cpu'
            storages[key] = Storage(torch.UntypedStorage(length, device=device), kind.dtype)
        return _storage(storages[key].data, kind, length)

    content = Unpickler(file, size, load_storage).load()
    if not skip_tensors:
        for key in Unpickler(file, size, _parse).load():
            storage = storages.pop(key)
            count = int.from_bytes(file.read(8), 'little')
            if count * storage.dtype.itemsize != storage.data.nbytes():
                raise ArchiveError(f'tensor {key!r} is of another size than the file says')
            _fill(storage.data, file)
        if storages:
            raise ArchiveError('tensors are missing')
    return content


def _parse(pid: Any) -> tuple[StorageType, str, int]:
    """Return type, key and bytes of the storage of a persistent id."""
    _, kind, key, _, count, *view = pid
    if not isinstance(kind, StorageType) or type(key) is not str or any(view):
        raise ArchiveError('a reference to no tensor')
    if type(count) is not int or not 0 <= count < 2**48:
        raise ArchiveError('the size of a tensor')
    return kind, key, count * kind.dtype.itemsize


def _storage(storage: torch.UntypedStorage, kind: StorageType, size: int) -> Storage:
    if storage.nbytes() != size:
        raise ArchiveError('two tensors in one place')
    return Storage(storage, kind.dtype)


def _fill(storage: torch.UntypedStorage, file: BinaryIO) -> None:
    """Read the bytes of a storage; zipfile compares the checksum at the end of an entry."""
    data = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
    if file.readinto(data) != len(data):
        raise ArchiveError('the end is missing')


def _check_byteorder(order: str) -> None:
    if order != sys.byteorder:
        raise ArchiveError(f'written on a {order}-endian machine')
