"""Zip archives with changed entries and directories."""

import io
import random
import warnings
import zipfile


def entries_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive_of(
    entries: dict[str, bytes], deflate: bool = False, double: tuple[str, bytes] | None = None
) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, 'w', kind, compresslevel=1) as archive, warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a name twice is the point
        for name, content in [*entries.items(), *([double] if double else [])]:
            archive.writestr(name, content)
    return buffer.getvalue()


def change_directory(rng: random.Random, data: bytes) -> bytes:
    """A number of a record of the central directory, or of its end, replaced."""
    changed = bytearray(data)
    starts = [i for i in range(len(data) - 4) if data[i : i + 4] in (b'PK\1\2', b'PK\5\6')]
    start = rng.choice(starts)
    place = start + rng.choice((8, 10, 12, 16, 20, 24, 28, 30, 34, 42))
    value = rng.choice((0, 1, 8, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, rng.getrandbits(32)))
    changed[place : place + 4] = value.to_bytes(4, 'little')[: len(changed) - place]
    return bytes(changed)
