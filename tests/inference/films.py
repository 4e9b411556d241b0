"""Small video files for tests."""

import struct
from pathlib import Path

import cv2
import numpy as np


def film(path: Path, count: int = 20, size: tuple[int, int] = (64, 48)) -> Path:
    """Frames with a white bar of 2 pixels more on each."""
    code = cv2.VideoWriter_fourcc(*('MJPG' if path.suffix == '.avi' else 'mp4v'))
    writer = cv2.VideoWriter(str(path), code, 10, size)
    assert writer.isOpened()
    for number in range(count):
        frame = np.zeros((*size[::-1], 3), np.uint8)
        frame[:, : 2 * number + 2] = 255
        writer.write(frame)
    writer.release()
    return path


def turned_film(path: Path, turn: int, count: int = 6) -> Path:
    """96 x 64 as stored: red and green above, blue and black below; noted to be turned clockwise.

    As phones do it, the matrix of the track's header (ISO/IEC 14496-12, 8.3.2) maps what is stored
    to what is to be shown: x' = a x + c y, y' = b x + d y.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), 10, (96, 64))
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48, 2] = frame[:32, 48:, 1] = frame[32:, :48, 0] = 255
    for _ in range(count):
        writer.write(frame)
    writer.release()
    data = bytearray(path.read_bytes())
    at = data.find(b'tkhd') + 4 + 40
    assert struct.unpack_from('>9i', data, at) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    struct.pack_into('>9i', data, at, *matrix)
    path.write_bytes(data)
    return path


CORNERS = {0: 'RGBk', 90: 'BRkG', 180: 'kBGR', 270: 'GkRB'}  # row by row


def corners(frame: np.ndarray) -> str:
    """Colours of the four quarters, row by row; k is black."""
    quarters = [
        quarter for half in np.array_split(frame, 2) for quarter in np.array_split(half, 2, 1)
    ]
    return ''.join('BGRk'[np.argmax([*np.median(q, (0, 1)), 60])] for q in quarters)
