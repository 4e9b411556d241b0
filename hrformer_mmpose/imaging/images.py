"""Images of any source as (H, W, 3) BGR uint8, and a clear word where one cannot be used.

Files are read as OpenCV, and so MMPose's data loading, reads them: grey and 16-bit images become
8-bit BGR, an alpha channel is dropped, the orientation in the EXIF data is applied (of WebP files,
too, which older versions of OpenCV ignore). Arrays are the caller's: OpenCV's order of channels,
blue first, is taken for granted.
"""

import os
import stat
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from . import headers

JPEG_START, JPEG_SCAN, JPEG_END = b'\xff\xd8', 0xDA, b'\xff\xd9'
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG's frame header
PNG_START = b'\x89PNG'
LONGEST = 32766  # pixels, of the sides of an image that OpenCV cuts crops from
# A file of few bytes may declare any size; these are more than any camera's, 0.8 GB as BGR.
MOST_PIXELS = 2**28
MOST_BYTES = 2**30  # of a file
WANTED = 'give 8-bit (uint8, 0 to 255) or 16-bit ones'


def read_image(path: str | Path) -> np.ndarray:
    """(H, W, 3) BGR uint8.

    Raises:
        DataError: the file is missing, cut short, or no image.
    """
    try:
        problem = _problem(os.stat(path))
        data = b'' if problem else Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"image '{path}' does not exist") from error
    except (OSError, ValueError) as error:  # the latter of a name that cannot be one
        why = getattr(error, 'strerror', None) or error
        raise DataError(f"image '{path}' cannot be read: {why}") from error
    if problem:
        raise DataError(f"image '{path}' {problem}")
    return decode(data, str(path))


def _problem(status: os.stat_result) -> str | None:
    """Why a file must not be read: reading it may never end."""
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return 'is a pipe, a socket or a device, not a file'
    if status.st_size > MOST_BYTES:
        return f'has {status.st_size:,} bytes, more than the {MOST_BYTES:,} that are read'
    return None


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
    name = f"image '{name}'"
    _check_size(jpeg_shape(data) or headers.shape(data) or (0, 0), name)
    if headers.is_floating_tiff(data):
        raise DataError(f'{name} holds floating-point values; {WANTED}')
    is_webp = headers.is_webp(data)
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if is_webp else 0)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(
            f'{name} is not an image that can be decoded: broken, or of a format that OpenCV does '
            f'not read ({len(data)} bytes)'
        )
    _check_size(image.shape, name)
    return _upright(image, headers.webp_orientation(data)) if is_webp else image


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
        raise DataError(f'{name} holds {image.dtype} values; {WANTED}')
    _check_size(shape, name)
    if image.ndim == 2 or shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def _check_size(shape: tuple[int, ...], name: str) -> None:
    """Raise a `DataError` for an image, (H, W, ...), that is too large."""
    H, W = shape[:2]
    if max(H, W) > LONGEST:
        limit = f'{LONGEST} a side that OpenCV cuts crops from'
    elif H * W > MOST_PIXELS:
        limit = f'{MOST_PIXELS:,} that are read'
    else:
        return
    raise DataError(
        f'{name} has {W}x{H} pixels, more than the {limit}: make it smaller, or cut it into parts'
    )


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


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
