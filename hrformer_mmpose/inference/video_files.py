"""Containers that state no number of frames: whether a file has its end."""

import os

_LAST_BYTES = {'.gif': b';', '.apng': b'IEND\xaeB`\x82'}
_EBML, _SEGMENT = b'\x1aE\xdf\xa3', b'\x18S\x80g'  # elements of Matroska (RFC 9559) and WebM


def lacks_end(path: str) -> bool:
    """Return whether an animated GIF or PNG, a Matroska or a WebM file is cut short."""
    if not os.path.isfile(path):
        return False
    size = os.path.getsize(path)
    with open(path, 'rb') as file:
        if end := _LAST_BYTES.get(os.path.splitext(path)[1].lower()):
            file.seek(max(size - 16, 0))
            return not file.read().rstrip(b'\0').endswith(end)
        return size < _matroska_size(file.read(4096))


def _matroska_size(data: bytes) -> int:
    """Return the size of a file that its segment states; 0 if it states none.

    Args:
        data: the first bytes of the file.
    """
    start = data.find(_SEGMENT) + len(_SEGMENT)
    if not data.startswith(_EBML) or start < len(_SEGMENT) or not any(data[start : start + 1]):
        return 0
    length = 9 - data[start].bit_length()  # leading zeros count the bytes (RFC 8794, section 4)
    value = int.from_bytes(data[start : start + length], 'big') - (1 << 7 * length)
    is_unknown = value == (1 << 7 * length) - 1  # of a live stream
    return 0 if is_unknown else start + length + value
