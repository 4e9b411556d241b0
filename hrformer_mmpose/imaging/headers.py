"""What the headers of PNG, BMP, WebP and TIFF files declare, read without decoding the image.

JPEG's are in `images`. Damaged headers give None, 1 or nothing: the decoder then tells what is
wrong.
"""

import struct
from collections.abc import Iterator

UPRIGHT = 1
# Tags of TIFF, and so of EXIF.
WIDTH, HEIGHT, COLORS, ORIENTATION, SAMPLE_FORMAT = 0x0100, 0x0101, 0x0106, 0x0112, 0x0153
FLOATING_POINT = 3  # of SAMPLE_FORMAT
LOGARITHMIC = 32844, 32845  # of COLORS: packed floating-point colours, as OpenCV writes them
MOST_ENTRIES = 1000  # read of a file; real ones have some twenty
INTEGERS = {3: 'H', 4: 'I', 16: 'Q'}  # types of a tag's value


def shape(data: bytes) -> tuple[int, int] | None:
    """(H, W) before any rotation; None for other formats."""
    try:
        if data.startswith(b'\x89PNG'):
            width, height = struct.unpack_from('>II', data, 16)
        elif data.startswith(b'BM'):
            width, height = struct.unpack_from('<ii', data, 18)
        elif is_webp(data):
            width, height = _webp_size(data)
        else:
            tags = tiff_tags(data)
            width, height = tags[WIDTH], tags[HEIGHT]
    except (struct.error, KeyError):
        return None
    return abs(height), width  # a BMP of negative height is stored from the top


def is_webp(data: bytes) -> bool:
    """Whether the data are a WebP file's."""
    return data.startswith(b'RIFF') and data[8:12] == b'WEBP'


def webp_orientation(data: bytes) -> int:
    """EXIF orientation of a WebP file, 1 to 8; 1 is upright."""
    for kind, chunk in _webp_chunks(data):
        if kind == b'EXIF':
            found = tiff_tags(chunk.removeprefix(b'Exif\0\0')).get(ORIENTATION, UPRIGHT)
            return found if 1 <= found <= 8 else UPRIGHT
    return UPRIGHT


def is_floating_tiff(data: bytes) -> bool:
    """Whether the data are a TIFF file's with floating-point pixels."""
    tags = tiff_tags(data)
    return tags.get(SAMPLE_FORMAT) == FLOATING_POINT or tags.get(COLORS) in LOGARITHMIC


def tiff_tags(data: bytes) -> dict[int, int]:
    """First value of each integer tag in the first directory of TIFF data."""
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    tags: dict[int, int] = {}
    if order is None or data[2:4] not in (b'*\0', b'\0*', b'+\0', b'\0+'):
        return tags
    # BigTIFF has offsets and counts of 8 bytes, and its first offset 4 bytes later.
    offset, count, first = ('Q', 'Q', 8) if b'+' in data[2:4] else ('I', 'H', 4)
    width = struct.calcsize(offset)
    try:
        (start,) = struct.unpack_from(order + offset, data, first)
        (entries,) = struct.unpack_from(order + count, data, start)
        start += struct.calcsize(count)
        for number in range(min(entries, MOST_ENTRIES)):
            position = start + number * (4 + 2 * width)
            tag, kind, length = struct.unpack_from(f'{order}HH{offset}', data, position)
            value = position + 4 + width
            if kind not in INTEGERS:
                continue
            if length * struct.calcsize(INTEGERS[kind]) > width:  # stored elsewhere
                (value,) = struct.unpack_from(order + offset, data, value)
            (tags[tag],) = struct.unpack_from(order + INTEGERS[kind], data, value)
    except (struct.error, OverflowError):  # damaged
        pass
    return tags


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    for _ in range(MOST_ENTRIES):
        if position + 8 > len(data):
            return
        kind, size = struct.unpack_from('<4sI', data, position)
        yield kind, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the first chunk that gives them."""
    for kind, chunk in _webp_chunks(data):
        if kind == b'VP8X':
            return tuple(1 + int.from_bytes(chunk[at : at + 3], 'little') for at in (4, 7))
        if kind == b'VP8 ':
            width, height = struct.unpack_from('<HH', chunk, 6)
            return width & 0x3FFF, height & 0x3FFF
        if kind == b'VP8L':
            (bits,) = struct.unpack_from('<I', chunk, 1)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise struct.error
