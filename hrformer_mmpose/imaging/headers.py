"""Size, orientation and format in the headers of image files, read without decoding the image.

Damaged headers give None or a default value: the decoder reports them.
"""

import struct
from collections.abc import Iterator

JPEG_START, JPEG_SCAN, JPEG_END = b'\xff\xd8', 0xDA, b'\xff\xd9'
APP1 = 0xE1  # marker of a JPEG's EXIF data
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG's frame header
PNG_START = b'\x89PNG'
UPRIGHT = 1
# Tags of TIFF, also used by EXIF.
WIDTH, HEIGHT, COLORS, ORIENTATION, SAMPLE_FORMAT = 0x0100, 0x0101, 0x0106, 0x0112, 0x0153
FLOATING_POINT = 3  # of SAMPLE_FORMAT
LOGARITHMIC = 32844, 32845  # of COLORS: packed floating-point colours, as OpenCV writes them
MAX_ENTRIES = 1000  # read of a directory; real ones have about twenty
INTEGERS = {3: 'H', 4: 'I', 8: 'h', 9: 'i', 16: 'Q', 17: 'q'}  # data types of a tag's value


def shape(data: bytes) -> tuple[int, int] | None:
    """Return (H, W) of PNG, BMP, WebP or TIFF, before any rotation; None for other formats."""
    try:
        if data.startswith(PNG_START):
            width, height = struct.unpack_from('>II', data, 16)
        elif data.startswith(b'BM'):
            is_os2 = struct.unpack_from('<I', data, 14) == (12,)  # length of its header
            width, height = struct.unpack_from('<HH' if is_os2 else '<ii', data, 18)
        elif is_webp(data):
            width, height = _webp_size(data)
        else:
            tags = tiff_tags(data)
            width, height = tags[WIDTH], tags[HEIGHT]
    except (struct.error, KeyError):
        return None
    return abs(height), width  # a negative height of a BMP: stored from the top


def is_webp(data: bytes) -> bool:
    """Return whether `data` is a WebP file."""
    return data.startswith(b'RIFF') and data[8:12] == b'WEBP'


def may_end_with_exif(data: bytes) -> bool:
    """Return whether the orientation may stand behind the pixels."""
    return is_webp(data) or data.startswith(PNG_START)


def webp_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a WebP file, 1 (upright) to 8."""
    for kind, chunk in _webp_chunks(data):
        if kind == b'EXIF':
            orientation = tiff_tags(chunk.removeprefix(b'Exif\0\0')).get(ORIENTATION, UPRIGHT)
            return orientation if 1 <= orientation <= 8 else UPRIGHT
    return UPRIGHT


def is_floating_tiff(data: bytes) -> bool:
    """Return whether `data` is a TIFF file with floating-point pixels."""
    tags = tiff_tags(data)
    return tags.get(SAMPLE_FORMAT) == FLOATING_POINT or tags.get(COLORS) in LOGARITHMIC


def tiff_tags(data: bytes) -> dict[int, int]:
    """Read the first value of each integer tag in the first directory of TIFF data."""
    order = {b'II': '<', b'MM': '>'}.get(data[:2])
    tags: dict[int, int] = {}
    if order is None or data[2:4] not in (b'*\0', b'\0*', b'+\0', b'\0+'):
        return tags
    # BigTIFF: offsets and counts have 8 bytes, and the first offset stands 4 bytes later.
    offset, count, first = ('Q', 'Q', 8) if b'+' in data[2:4] else ('I', 'H', 4)
    width = struct.calcsize(offset)
    try:
        (start,) = struct.unpack_from(order + offset, data, first)
        (entries,) = struct.unpack_from(order + count, data, start)
        start += struct.calcsize(count)
        for number in range(min(entries, MAX_ENTRIES)):
            position = start + number * (4 + 2 * width)
            tag, kind, length = struct.unpack_from(f'{order}HH{offset}', data, position)
            value = position + 4 + width
            if kind not in INTEGERS:
                continue
            if length * struct.calcsize(INTEGERS[kind]) > width:  # stored elsewhere
                (value,) = struct.unpack_from(order + offset, data, value)
            (number_of_tag,) = struct.unpack_from(order + INTEGERS[kind], data, value)
            tags.setdefault(
                tag, number_of_tag
            )  # of a tag that occurs twice, decoders take the first
    except (struct.error, OverflowError):  # damaged
        pass
    return tags


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    for _ in range(MAX_ENTRIES):
        if position + 8 > len(data):
            return
        kind, size = struct.unpack_from('<4sI', data, position)
        yield kind, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height from the first chunk that contains them."""
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


def is_truncated(data: bytes) -> bool:
    """Return whether `data` is a JPEG without an end-of-image marker after its first scan."""
    end = 0
    for marker, position in _segments(data):
        if marker == JPEG_SCAN:
            return data.find(JPEG_END, position) < 0
        end = position + 2 + _length(data, position)
    # No scan: the headers are truncated, or contain stray bytes, which decoders skip.
    return data.startswith(JPEG_START) and data.find(JPEG_END, end) < 0


def jpeg_shape(data: bytes) -> tuple[int, int] | None:
    """Return (H, W) of a JPEG's frame header, before its orientation; None for other data."""
    for marker, position in _segments(data):
        if marker in FRAMES:
            size = data[position + 5 : position + 9]
            return int.from_bytes(size[:2], 'big'), int.from_bytes(size[2:], 'big')
    return None


def conversion_note(data: bytes) -> str | None:
    """Describe the conversion of an image that is not 8-bit color; None if it needs none."""
    if data.startswith(PNG_START) and len(data) > 26:
        if data[24] == 16:
            return 'has 16 bits a channel: the upper 8 are read'
        if data[25] in (4, 6):
            return 'has an alpha channel: it is dropped'
        if data[25] == 0:
            return 'is grey: it is read as three equal channels'
    for marker, position in _segments(data):
        if marker in FRAMES and data[position + 9 : position + 10] == b'\x01':
            return 'is grey: it is read as three equal channels'
        if marker in FRAMES and data[position + 9 : position + 10] == b'\x04':
            return 'is in CMYK colours: they are converted'
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and position of each segment of a JPEG up to its first scan.

    Segments are skipped by their length: an embedded preview contains markers, too.
    """
    position = 2 if data.startswith(JPEG_START) else len(data)
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xFF:  # fill bytes before a marker
            position += 1
            continue
        yield data[position + 1], position
        if data[position + 1] == JPEG_SCAN:
            return
        position += 2 + _length(data, position)


def _length(data: bytes, position: int) -> int:
    """Return the length in bytes of the segment at `position`, without its marker."""
    return int.from_bytes(data[position + 2 : position + 4], 'big')


def upright_shape(data: bytes) -> tuple[int, int] | None:
    """Return (H, W) of an image as it is decoded, its orientation applied; None if unknown."""
    size = jpeg_shape(data) or shape(data)
    if size is None:
        return None
    if is_webp(data):
        orientation = webp_orientation(data)
    elif data.startswith(PNG_START):
        orientation = _png_orientation(data)
    elif data[:2] in (b'II', b'MM'):
        orientation = tiff_tags(data).get(ORIENTATION, UPRIGHT)
    else:
        orientation = _jpeg_orientation(data)
    return size[::-1] if 5 <= orientation <= 8 else size


def _jpeg_orientation(data: bytes) -> int:
    for marker, position in _segments(data):
        if marker == APP1 and data[position + 4 : position + 10] == b'Exif\0\0':
            end = position + 2 + _length(data, position)
            return tiff_tags(data[position + 10 : end]).get(ORIENTATION, UPRIGHT)
    return UPRIGHT


def _png_orientation(data: bytes) -> int:
    position = 8
    while position + 8 <= len(data):
        size, kind = struct.unpack_from('>I4s', data, position)
        if kind == b'eXIf':
            return tiff_tags(data[position + 8 : position + 8 + size]).get(ORIENTATION, UPRIGHT)
        position += 12 + size
    return UPRIGHT
