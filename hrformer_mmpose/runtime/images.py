"""Images of any source as (H, W, 3) BGR uint8, and a clear word where one cannot be used.

Files are read as OpenCV, and so MMPose's data loading, reads them: grey and 16-bit images become
8-bit BGR, an alpha channel is dropped, the orientation in the EXIF data is applied. Arrays are the
caller's: OpenCV's order of channels, blue first, is taken for granted.
"""

import os
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError

JPEG_START, JPEG_SCAN, JPEG_END = b'\xff\xd8', 0xDA, b'\xff\xd9'
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG's frame header
PNG_START = b'\x89PNG'
LONGEST = 32766  # pixels, of the sides of an image that OpenCV cuts crops from


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) BGR uint8.

    Raises:
        DataError: the file is missing, cut short, or no image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"image '{path}' does not exist") from error
    except (OSError, ValueError) as error:  # the latter of a name that cannot be one
        why = getattr(error, 'strerror', None) or error
        raise DataError(f"image '{path}' cannot be read: {why}") from error
    return decode(data, str(path))


def decode(data: bytes, name: str) -> np.ndarray:
    """What `read_image` makes of a file's content; `name` is for messages.

    Raises:
        DataError: see `read_image`.
    """
    if is_cut_short(data):
        # OpenCV would fill what is missing with grey.
        raise DataError(f"image '{name}' is cut short: its end is missing ({len(data)} bytes)")
    if not data:
        raise DataError(f"image '{name}' is empty (0 bytes)")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV reads, for one
        image = None
    if image is None:
        raise DataError(
            f"image '{name}' is not an image that can be decoded: broken, or of a format that "
            f'OpenCV does not read ({len(data)} bytes)'
        )
    return _small_enough(image, f"image '{name}'")


def as_bgr(image: np.ndarray, name: str) -> np.ndarray:
    """An array as (H, W, 3) BGR uint8: grey, BGRA and 16-bit ones as `read_image` reads such files.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8 or uint16.
        name: for messages.

    Returns:
        The array itself where there is nothing to convert.

    Raises:
        DataError: another shape or type. Floating-point images are refused, since nothing tells
            whether they reach to 1 or to 255.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f'{name} is a {type(image).__name__}, not a path or a NumPy array')
    shape = image.shape
    if image.ndim not in (2, 3) or 0 in shape or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise DataError(
            f'{name} has the shape {shape}, not (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)'
        )
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise DataError(
            f'{name} holds {image.dtype} values; give 8-bit (uint8, 0 to 255) or 16-bit ones'
        )
    _small_enough(image, name)
    if image.ndim == 2 or shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def _small_enough(image: np.ndarray, name: str) -> np.ndarray:
    if max(image.shape[:2]) > LONGEST:
        H, W = image.shape[:2]
        raise DataError(
            f'{name} has {W}x{H} pixels, more than the {LONGEST} a side that OpenCV cuts crops '
            'from: make it smaller, or cut it into parts'
        )
    return image


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write `image` in the format of the path's extension; all of it, or nothing.

    Args:
        path: in a folder that exists. image: (H, W, 3) BGR or (H, W) uint8.

    Raises:
        DataError: the extension is of no image format, or the file cannot be written.
    """
    path = os.fspath(path)
    extension = os.path.splitext(path)[1]
    if not extension or not cv2.haveImageWriter(f'image{extension}'):
        raise DataError(
            f'{path}: no image can be written as {extension or "a file without extension"}; '
            'use .jpg or .png'
        )
    try:
        done, data = cv2.imencode(extension, image)
    except cv2.error as error:
        done, data = False, error
    if not done:
        shape = getattr(image, 'shape', type(image).__name__)
        raise DataError(f'{path}: OpenCV cannot write an image of {shape} as {extension}')
    partial = f'{path}.part'
    try:
        with open(partial, 'wb') as file:
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        if os.path.isfile(partial):
            os.remove(partial)
        raise DataError(f'{path}: cannot be written: {error.strerror or error}') from error


def is_cut_short(data: bytes) -> bool:
    """Whether `data` is a JPEG whose end-of-image marker is missing after its first scan."""
    end = 0
    for marker, position in _segments(data):
        if marker == JPEG_SCAN:
            return data.find(JPEG_END, position) < 0
        end = position + 2 + _length(data, position)
    # No scan was found: the headers are cut, or hold stray bytes, which decoders skip.
    return data.startswith(JPEG_START) and data.find(JPEG_END, end) < 0


def jpeg_shape(data: bytes) -> tuple[int, int] | None:
    """(H, W) in the frame header of a JPEG, before its orientation; None for other data."""
    for marker, position in _segments(data):
        if marker in FRAMES:
            size = data[position + 5 : position + 9]
            return int.from_bytes(size[:2], 'big'), int.from_bytes(size[2:], 'big')
    return None


def unusual_form(data: bytes) -> str | None:
    """What becomes of an image that is not plainly 8-bit colour when it is read; None if it is."""
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


def _segments(data: bytes):
    """Marker and position of each segment of a JPEG up to its first scan.

    They are skipped by their lengths, since an embedded preview has markers of its own.
    """
    position = 2 if data.startswith(JPEG_START) else len(data)
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == 0xFF:  # any number of these may fill the space before a marker
            position += 1
            continue
        yield data[position + 1], position
        if data[position + 1] == JPEG_SCAN:
            return
        position += 2 + _length(data, position)


def _length(data: bytes, position: int) -> int:
    """Bytes of the segment at `position`, without its marker."""
    return int.from_bytes(data[position + 2 : position + 4], 'big')
