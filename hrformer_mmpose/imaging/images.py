"""Reading images as (H, W, 3) BGR uint8, and writing them.

Files are read as by OpenCV and MMPose's data loading: grey and 16-bit images are converted to 8-bit
BGR, an alpha channel is dropped, the EXIF orientation is applied (also of WebP files, for which
older versions of OpenCV ignore it). Arrays are expected in OpenCV's channel order, blue first.
"""

import os
import stat
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError
from ..io import replacing
from . import headers, unsupported

SUFFIXES = {'.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'}  # of images in folders
MAX_SIDE = 32766  # pixels; limit of cv2.warpAffine
# A small file may declare any size. More pixels than any camera has, 0.8 GB as BGR.
MAX_PIXELS = 2**28
MAX_FILE_BYTES = 2**30
ADVICE = 'give 8-bit (uint8, 0 to 255) or 16-bit ones'


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as (H, W, 3) BGR uint8.

    Raises:
        DataError: the file is missing, truncated or not an image.
    """
    try:
        problem = _problem(os.stat(path))
        data = b'' if problem else Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"image '{path}' does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, 'strerror', None) or error
        raise DataError(f"image '{path}' cannot be read: {why}") from error
    if problem:
        raise DataError(f"image '{path}' {problem}")
    return decode(data, str(path))


def _problem(status: os.stat_result) -> str | None:
    """Return why a file must not be read (reading might never end), or None."""
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return 'is a pipe, a socket or a device, not a file'
    if status.st_size > MAX_FILE_BYTES:
        return f'has {status.st_size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read'
    return None


def decode(data: bytes, name: str) -> np.ndarray:
    """Decode the content of an image file as (H, W, 3) BGR uint8.

    Args:
        data: content of the file.
        name: for error messages.

    Raises:
        DataError: see `read_image`.
    """
    if headers.is_truncated(data):
        # OpenCV would fill the missing part with grey.
        raise DataError(f"image '{name}' is cut short: its end is missing ({len(data)} bytes)")
    if not data:
        raise DataError(f"image '{name}' is empty (0 bytes)")
    name = f"image '{name}'"
    if problem := unsupported.animation(data):
        raise DataError(f'{name} {problem}')
    _check_size(headers.jpeg_shape(data) or headers.shape(data) or (0, 0), name)
    if headers.is_floating_tiff(data):
        raise DataError(f'{name} holds floating-point values; {ADVICE}')
    is_webp = headers.is_webp(data)
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if is_webp else 0)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        if problem := unsupported.unread(data):
            raise DataError(f'{name} {problem}')
        raise DataError(
            f'{name} is not an image that can be decoded: broken, or of a format that OpenCV does '
            f'not read ({len(data)} bytes)'
        )
    _check_size(image.shape, name)
    return _upright(image, headers.webp_orientation(data)) if is_webp else image


def as_bgr(image: np.ndarray, name: str) -> np.ndarray:
    """Convert an array to (H, W, 3) BGR uint8, as `read_image` converts files.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8 or uint16.
        name: for error messages.

    Returns:
        The array itself if no conversion is needed.

    Raises:
        DataError: another shape or data type. Floating-point images are refused: their range may
            be 0 to 1 or 0 to 255.
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
        raise DataError(f'{name} holds {image.dtype} values; {ADVICE}')
    _check_size(shape, name)
    if image.ndim == 2 or shape[2] == 1:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3])


def _check_size(shape: tuple[int, ...], name: str) -> None:
    """Raise a `DataError` if an image of shape (H, W, ...) is too large."""
    H, W = shape[:2]
    if max(H, W) > MAX_SIDE:
        limit = f'{MAX_SIDE} a side that OpenCV cuts crops from'
    elif H * W > MAX_PIXELS:
        limit = f'{MAX_PIXELS:,} that are read'
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
    """Write an image atomically, in the format of the path's extension.

    Args:
        path: file in an existing folder.
        image: (H, W, 3) BGR or (H, W) uint8.

    Raises:
        DataError: unknown extension, or the file cannot be written.
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
    try:
        with replacing(path, sync=False) as partial, open(partial, 'wb') as file:
            file.write(data)
    except OSError as error:
        raise DataError(f'{path}: cannot be written: {error.strerror or error}') from error
