"""Image files that are refused although their format is known, and what to do with them."""

import struct

from . import headers

# Brands of ISO/IEC 23008-12 (HEIF) in the `ftyp` box: HEVC and others, and AV1.
HEIC = {b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1', b'mif2'}
AVIF = {b'avif', b'avis'}
CONVERT = 'convert it to JPEG or PNG, e.g. by: magick IN.{} OUT.jpg'
# By extension, for files that are refused before they are read.
BY_SUFFIX = {
    suffix: f'is {name}, which is not read: {CONVERT.format(suffix[1:])}'
    for suffix, name in {'.heic': 'HEIC', '.heif': 'HEIC', '.avif': 'AVIF'}.items()
}


def animation(data: bytes) -> str | None:
    """Return why an animated image is refused, and what to do; None for other data.

    A decoder of images would give its first frame only.
    """
    if data.startswith(b'GIF8'):
        return 'is GIF: give it the extension .gif, by which it is read as a video'
    if data.startswith(headers.PNG_START) and _png_frames(data) > 1:
        return 'is animated: give it the extension .apng, by which it is read as a video'
    if headers.is_webp(data) and data[12:16] == b'VP8X' and data[20:21] and data[20] & 2:
        return 'is animated: convert it to a video, e.g. by: magick IN.webp OUT.gif'
    return None


def unread(data: bytes) -> str | None:
    """Return what to do with an image that OpenCV cannot decode; None if its format is unknown."""
    if data[4:8] == b'ftyp':
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, _size(data), 4))}
        for known, suffix in ((AVIF, '.avif'), (HEIC, '.heic')):
            if brands & known:
                return BY_SUFFIX[suffix]
    return None


def _size(data: bytes) -> int:
    """Return the size of the first box, 64 at most: its list of brands is short."""
    return min(int.from_bytes(data[:4], 'big'), 64)


def _png_frames(data: bytes) -> int:
    """Return the number of frames that a PNG states, 1 without an animation."""
    position = 8
    for _ in range(headers.MAX_ENTRIES):
        try:
            size, kind = struct.unpack_from('>I4s', data, position)
            if kind == b'acTL':
                return struct.unpack_from('>I', data, position + 8)[0]
        except struct.error:
            return 1
        if kind == b'IDAT':
            return 1
        position += 12 + size
    return 1
