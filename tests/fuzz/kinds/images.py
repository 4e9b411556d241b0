"""Images: damaged files of each format, headers that claim other sizes, and what is no file."""

import os
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrformer_mmpose.imaging.images import MAX_SIDE, read_image
from hrformer_mmpose.inference.estimator import Estimator
from tests.fuzz.materials import Materials, picture
from tests.fuzz.mutate import mutate_bytes
from tests.inference.helpers import Brightest

SIZES = (0, 1, 2, 40, 200, 4000, 32766, 32767, 32768, 40000, 65535, 100000, 2**31 - 1, 2**32 - 1)


class Images:
    """Files read by `read_image`, and from there to poses."""

    name = 'images'
    isolate = executes = False

    def __init__(self, materials: Materials):
        rng = random.Random(0)
        colour = picture(rng)
        grey, alpha = colour[..., 0], np.dstack([colour, colour[..., :1]])
        deep, real = colour.astype(np.uint16) * 257, colour.astype(np.float32) / 255
        flags = dict(progressive=[cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
        self.files = {
            f'{name}{suffix}': cv2.imencode(suffix, image, flags.get(name, []))[1].tobytes()
            for name, suffix, image in (
                ('colour', '.jpg', colour), ('progressive', '.jpg', colour), ('grey', '.jpg', grey),
                ('colour', '.png', colour), ('grey', '.png', grey), ('alpha', '.png', alpha),
                ('deep', '.png', deep), ('colour', '.bmp', colour), ('colour', '.tif', colour),
                ('deep', '.tif', deep), ('real', '.tif', real), ('colour', '.webp', colour),
            )
        }  # fmt: skip
        for orientation in range(10):
            data = self.files['colour.jpg']
            self.files[f'turned{orientation}.jpg'] = data[:2] + _exif(orientation) + data[2:]
        self.estimator = Estimator(Brightest(), on_error='skip')

    def make(self, rng: random.Random, folder: Path) -> tuple[str, Any]:
        """A file."""
        way = rng.choices(
            (self._bytes, self._size, self._chunk, self._exif, self._special), (55, 20, 12, 8, 5)
        )[0]
        name, suffix, data = way(rng, folder)
        path = folder / f'image{suffix}'
        if data is not None:
            path.write_bytes(data)
        return f'{way.__name__[1:]}: {name}', path

    def judge(self, given: Path) -> None:
        """The image is (H, W, 3) uint8 of a size that crops are cut from; poses are finite."""
        found = next(self.estimator.stream([str(given)], 'whole-image'))
        for line in found.problems:
            assert len(line.splitlines()) == 1, line
        for pose in found.poses:
            assert np.isfinite(pose.keypoints).all()
            assert np.isfinite(pose.scores).all()
        image = read_image(given)
        assert found.poses, 'an image without a pose'
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert min(image.shape) > 0
        assert max(image.shape) <= MAX_SIDE

    def _bytes(self, rng: random.Random, folder: Path) -> tuple[str, str, bytes]:
        file = rng.choice([*self.files])
        name, data = mutate_bytes(rng, self.files[file], [*self.files.values()])
        suffix = os.path.splitext(file if rng.random() < 0.9 else rng.choice([*self.files]))[1]
        return f'{file} {name}', suffix, data

    def _size(self, rng: random.Random, folder: Path) -> tuple[str, str, bytes]:
        """The header claims another width or height."""
        width, height = rng.choice(SIZES), rng.choice((48, rng.choice(SIZES)))
        kind = rng.choice(('png', 'jpg', 'bmp', 'tif', 'webp', 'pnm', 'bare'))
        data = bytearray(self.files.get(f'colour.{kind}', b''))
        suffix = f'.{kind}'
        if kind == 'png':
            _png_header(data, width, height)
        elif kind == 'jpg':
            place = data.index(b'\xff\xc0') + 5
            data[place : place + 4] = struct.pack('>HH', height % 65536, width % 65536)
        elif kind == 'bmp':
            data[18:26] = struct.pack('<II', width, rng.choice((height, 2**32 - height)) % 2**32)
        elif kind == 'tif':
            for tag, value in ((256, width), (257, height)):
                _tiff_value(data, tag, value)
        elif kind == 'webp':
            place = data.index(b'VP8 ') + 14 if b'VP8 ' in data else 20
            data[place : place + 4] = struct.pack('<HH', width % 16384, height % 16384)
        elif kind == 'pnm':
            suffix, data = '.jpg', bytearray(f'P{rng.choice("56")} {width} {height} 255\n'.encode())
            data += bytes(100)
        else:  # the header alone
            suffix, data = '.png', bytearray(self.files['colour.png'][:33])
            _png_header(data, width, height)
            data += _png_chunk(b'IDAT', zlib.compress(bytes(99))) + _png_chunk(b'IEND', b'')
        return f'{kind} {width}x{height}', suffix, bytes(data)

    def _chunk(self, rng: random.Random, folder: Path) -> tuple[str, str, bytes]:
        """Chunks of a PNG, doubled, exchanged, missing, new, or with a wrong sum."""
        data = self.files[rng.choice(('colour.png', 'alpha.png', 'grey.png', 'deep.png'))]
        chunks = _png_chunks(data)
        place, other = rng.randrange(len(chunks)), rng.randrange(len(chunks))
        action = rng.choice(('double', 'swap', 'drop', 'new', 'depth', 'bomb'))
        if action == 'double':
            chunks.insert(place, chunks[other])
        elif action == 'swap':
            chunks[place], chunks[other] = chunks[other], chunks[place]
        elif action == 'drop':
            del chunks[place]
        elif action == 'new':
            kind = rng.choice(
                (b'PLTE', b'tRNS', b'eXIf', b'iCCP', b'acTL', b'fcTL', b'gAMA', b'zTXt')
            )
            chunks.insert(place, _png_chunk(kind, rng.randbytes(rng.choice((0, 1, 8, 26, 300)))))
        elif action == 'depth':
            header = bytearray(chunks[0][8:21])
            header[rng.randint(8, 12)] = rng.choice((0, 1, 2, 3, 4, 6, 7, 8, 16, 255))
            chunks[0] = _png_chunk(b'IHDR', bytes(header))
        else:  # a text or profile that unpacks to much
            packed = zlib.compress(bytes(2**28), 9)
            chunks.insert(1, _png_chunk(rng.choice((b'zTXt', b'iCCP')), b'x\0\0' + packed))
        return action, '.png', data[:8] + b''.join(chunks)

    def _exif(self, rng: random.Random, folder: Path) -> tuple[str, str, bytes]:
        """Orientation data that is damaged, doubled or in another place."""
        data = self.files['colour.jpg']
        segment = bytearray(_exif(rng.choice((1, 3, 6, 8, 0, 9, 65535))))
        name, changed = mutate_bytes(rng, bytes(segment[4:]))
        body = rng.choice((changed, changed * 3, changed + bytes(60000)))[:65533]
        segment = b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body
        segments = segment * rng.choice((1, 1, 2, 500))
        place = rng.choice((2, data.index(b'\xff\xda')))
        return name, '.jpg', data[:place] + segments + data[place:]

    def _special(self, rng: random.Random, folder: Path) -> tuple[str, str, bytes | None]:
        """Names that lead to no regular file."""
        path = folder / 'image.jpg'
        kind = rng.choice(
            ('fifo', 'folder', 'dangling', 'zero', 'loop', 'null', 'unreadable', 'empty')
        )
        if kind == 'fifo':
            os.mkfifo(path)
        elif kind == 'folder':
            path.mkdir()
        elif kind == 'unreadable':
            path.write_bytes(self.files['colour.jpg'])
            path.chmod(0)
        elif kind == 'empty':
            path.write_bytes(b'')
        else:
            target = dict(dangling='nowhere', zero='/dev/zero', loop='image.jpg', null='/dev/null')
            path.symlink_to(target[kind])
        return kind, '.jpg', None


def _exif(orientation: int) -> bytes:
    """A segment with an orientation tag alone."""
    body = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01'
    body += struct.pack('>HHI', orientation, 0, 0)
    return b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def _png_chunks(data: bytes) -> list[bytes]:
    found, place = [], 8
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], 'big')
        found.append(data[place:end])
        place = end
    return found


def _png_header(data: bytearray, width: int, height: int) -> None:
    body = struct.pack('>II', width, height) + bytes(data[24:29])
    data[8:33] = _png_chunk(b'IHDR', body)


def _tiff_value(data: bytearray, tag: int, value: int) -> None:
    """Set a tag of the first directory of a little-endian TIFF."""
    place = int.from_bytes(data[4:8], 'little')
    for entry in range(int.from_bytes(data[place : place + 2], 'little')):
        start = place + 2 + 12 * entry
        if int.from_bytes(data[start : start + 2], 'little') == tag:
            data[start + 2 : start + 12] = struct.pack('<HII', 4, 1, value)
