"""Checksum of an exported network, stored in the file's metadata.

BLAKE2b of the whole file, with the stored checksum replaced by zeros, and of the weights beside an
OpenVINO `.xml`. On a CPU without SHA instructions BLAKE2b takes 0.3 s for the 172 MB of
HRFormer-B, SHA-256 twice that.
"""

import hashlib
import re
from pathlib import Path

from ..errors import WeightsError

ENTRY = 'hrformer_mmpose_blake2b'  # metadata key
PLACEHOLDER = '0' * 64
# Key and value in protobuf (ONNX) and in OpenVINO's XML.
STORED = re.compile(ENTRY.encode() + rb'(?:\x12@| value=")([0-9a-f]{64})')


def seal(path: Path) -> None:
    """Replace the `PLACEHOLDER` under `ENTRY` by the checksum of the file."""
    position, _, computed = _digests(path)
    with open(path, 'r+b') as file:
        file.seek(position)
        file.write(computed.encode())


def check(path: Path) -> None:
    """Verify the checksum of an exported file; a file without one passes.

    Raises:
        WeightsError: the file was changed, or OpenVINO's weights beside it cannot be read.
    """
    digests = _digests(path)
    if digests is not None and digests[1] != digests[2]:
        raise WeightsError(
            f"'{path}' is damaged or was changed after its export (its checksum does not match): "
            'copy it again, or export the network again'
        )


def add_file(digest, path: Path) -> None:
    """Update a `hashlib` object with the content of a file, block by block."""
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    add_file(digest, Path(path))
    return digest.hexdigest()


def _digests(path: Path) -> tuple[int, str, str] | None:
    """Return position of the checksum, stored and computed checksum; None if none is stored."""
    data = path.read_bytes()
    start = data.rfind(ENTRY.encode())
    if start < 0:
        return None
    entry = STORED.match(data, start)
    if entry is None:
        return start, 'damaged', ''
    position, end = entry.span(1)
    digest = hashlib.blake2b(memoryview(data)[:position], digest_size=32)
    digest.update(PLACEHOLDER.encode())
    digest.update(memoryview(data)[end:])
    if path.suffix.lower() == '.xml':
        weights = path.with_suffix('.bin')
        try:
            add_file(digest, weights)
        except OSError as error:
            raise WeightsError(
                f"'{weights}', the weights of '{path}', cannot be read: {error.strerror}"
            ) from error
    return position, entry[1].decode(), digest.hexdigest()
