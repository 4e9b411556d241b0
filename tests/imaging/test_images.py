"""Images are read as OpenCV and MMPose read them; what is none is told in one line."""

import os
import struct
import time
import zlib

import cv2
import mmcv
import numpy as np
import pytest

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.imaging import headers, images
from hrformer_mmpose.imaging.headers import is_truncated
from hrformer_mmpose.imaging.images import as_bgr, decode, read_image

SHAPES = (20, 30), (20, 30, 3), (20, 30, 4)


def picture(*shape: int, dtype=np.uint8) -> np.ndarray:
    """Smooth, so that JPEG keeps it."""
    rng = np.random.default_rng(0)
    small = rng.uniform(0, np.iinfo(dtype).max, (4, 5, *shape[2:]))
    return cv2.resize(small, shape[1::-1]).reshape(shape).astype(dtype)


def encoded(image: np.ndarray, extension: str = '.jpg') -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment of nothing but the orientation."""
    tiff = b'II*\0' + struct.pack('<IHHHIHHI', 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b'Exif\0\0' + tiff
    return jpeg[:2] + b'\xff\xe1' + struct.pack('>H', len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(
    ('extension', 'shape', 'dtype'),
    [
        *(('.jpg', shape, np.uint8) for shape in SHAPES[:2]),
        *(
            (name, shape, np.uint8)
            for name in ('.png', '.bmp', '.tif', '.webp')
            for shape in SHAPES
        ),
        *((name, shape, np.uint16) for name in ('.png', '.tif') for shape in SHAPES),
    ],
)
def test_files_are_read_as_mmpose_reads_them(tmp_path, extension, shape, dtype):
    path = tmp_path / f'ä{extension}'
    path.write_bytes(encoded(picture(*shape, dtype=dtype), extension))
    ours = read_image(path)
    assert ours.shape == (20, 30, 3)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, mmcv.imread(str(path)))
    np.testing.assert_array_equal(ours, cv2.imread(str(path)))
    np.testing.assert_array_equal(read_image(str(path)), ours)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_a_photo_is_turned_as_its_exif_data_say(orientation):
    plain = encoded(picture(20, 30, 3))
    data = with_exif(plain, orientation)
    upright = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_COLOR)
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[:, ::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[::-1],
    }
    np.testing.assert_array_equal(decode(data, 'a.jpg'), turned[orientation])
    np.testing.assert_array_equal(decode(data, 'a.jpg'), mmcv.imfrombytes(data))


def exif(orientation: int, order: str = '<') -> bytes:
    """TIFF data of nothing but the orientation."""
    entry = struct.pack(f'{order}HHIHH', 0x0112, 3, 1, orientation, 0)
    start = dict(zip('<>', (b'II*\0', b'MM\0*'), strict=True))[order]
    return start + struct.pack(f'{order}IH', 8, 1) + entry + bytes(4)


def webp_with_exif(image: np.ndarray, data: bytes, quality: int) -> bytes:
    plain = cv2.imencode('.webp', image, (cv2.IMWRITE_WEBP_QUALITY, quality))[1].tobytes()
    H, W = image.shape[:2]
    size = (W - 1).to_bytes(3, 'little') + (H - 1).to_bytes(3, 'little')
    head = b'VP8X' + struct.pack('<II', 10, 8) + size
    chunk = b'EXIF' + struct.pack('<I', len(data)) + data + bytes(len(data) % 2)
    body = b'WEBP' + head + plain[12:] + chunk
    return b'RIFF' + struct.pack('<I', len(body)) + body


@pytest.mark.parametrize('quality', [90, 101])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_webp_is_turned_as_jpeg_is(orientation, quality):
    """101 is WebP without loss, which has another header."""
    image = picture(20, 30, 3)
    upright = decode(encoded(image, '.png'), 'a.png')
    (expected,) = (  # by OpenCV, of a format whose orientation all its versions apply
        decode(png_with(b'eXIf', exif(orientation), image), 'a.png'),
    )
    for order, prefix in (('<', b''), ('>', b''), ('<', b'Exif\0\0')):
        data = webp_with_exif(image, prefix + exif(orientation, order), quality)
        turned = decode(data, 'a.webp')
        assert turned.shape == expected.shape
        assert np.abs(turned.astype(int) - expected).mean() < (0.1 if quality > 100 else 8)
    assert (np.array_equal(upright, expected)) == (orientation == 1)


def png_with(kind: bytes, content: bytes, image: np.ndarray) -> bytes:
    """A PNG with one more chunk after its header."""
    plain = encoded(image, '.png')
    chunk = kind + content
    checksum = struct.pack('>I', zlib.crc32(chunk))
    return plain[:33] + struct.pack('>I', len(content)) + chunk + checksum + plain[33:]


def tiff_with_orientation(image: np.ndarray, orientation: int) -> bytes:
    """A TIFF with one more entry in its directory, which moves to the end."""
    data = encoded(image, '.tif')
    (start,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    entries = [data[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    entries += [struct.pack('<HHIHH', 0x0112, 3, 1, orientation, 0)]
    entries.sort(key=lambda entry: struct.unpack_from('<H', entry))
    data += bytes(len(data) % 2)
    directory = struct.pack('<H', count + 1) + b''.join(entries) + bytes(4)
    return data[:4] + struct.pack('<I', len(data)) + data[8:] + directory


def os2_bmp(image: np.ndarray) -> bytes:
    """A BMP with the header of OS/2, of an image whose rows need no padding."""
    H, W = image.shape[:2]
    head = b'BM' + struct.pack('<IIIIHHHH', 26 + image.nbytes, 0, 26, 12, W, H, 1, 24)
    return head + image[::-1].tobytes()


def png_ending_with_exif(image: np.ndarray, content: bytes) -> bytes:
    """A PNG with its EXIF data behind the pixels."""
    plain, first = encoded(image, '.png'), png_with(b'eXIf', content, image)
    chunk = first[33 : 33 + len(first) - len(plain)]
    return plain[:-12] + chunk + plain[-12:]


def test_the_first_of_two_equal_tags_counts():
    entries = [struct.pack('<HHII', tag, 3, 1, n) for tag, n in ((256, 9), (256, 8), (257, 7))]
    data = b'II*\0' + struct.pack('<IH', 8, 3) + b''.join(entries) + bytes(4)
    assert headers.shape(data) == (7, 9)


def test_sizes_that_are_stored_with_a_sign():
    entries = [struct.pack('<HHIi', tag, 9, 1, n) for tag, n in ((256, 12000), (257, 7))]
    data = b'II*\0' + struct.pack('<IH', 8, 2) + b''.join(entries) + bytes(4)
    assert headers.shape(data) == (7, 12000)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_the_upright_size_is_read_from_the_header(orientation):
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    files = {
        'a.jpg': with_exif(encoded(image), orientation),
        'a.png': png_with(b'eXIf', exif(orientation), image),
        'a.webp': webp_with_exif(image, exif(orientation), 90),
        'c.png': png_ending_with_exif(image, exif(orientation)),
        'a.tif': tiff_with_orientation(image, orientation),
        'a.bmp': os2_bmp(image),
        'b.jpg': encoded(image),
        'b.png': encoded(image, '.png'),
        'b.bmp': encoded(image, '.bmp'),
        'b.tif': encoded(image, '.tif'),
    }
    for name, data in files.items():
        assert headers.upright_shape(data) == decode(data, name).shape[:2], name
    assert headers.upright_shape(b'GIF89a') is None


def test_damaged_exif_of_webp_leaves_the_image_as_it_is():
    image, data = picture(20, 30, 3), exif(6)
    expected = decode(webp_with_exif(image, b'', 101), 'a.webp')
    for broken in (
        data[:9],
        data[:15],
        b'XX' + data[2:],
        exif(9),
        exif(0),
        b'II*\0' + b'\xff' * 99,
    ):
        found = decode(webp_with_exif(image, broken, 101), 'a.webp')
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_TIFF_COMPRESSION, 1)])
@pytest.mark.parametrize('channels', [1, 3])
def test_floating_point_tiff_is_refused_as_such_arrays_are(channels, options):
    """OpenCV 4.11 takes it times 255, whatever its range; later versions do not read it."""
    for value in (0.4, 100):
        image = np.full((20, 30, channels), value, np.float32)
        data = cv2.imencode('.tif', image, options)[1].tobytes()
        with pytest.raises(DataError, match=r"image 'a\.tif' holds floating-point values; give 8-"):
            decode(data, 'a.tif')


@pytest.mark.parametrize('shape', [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_an_array_is_read_as_the_png_of_it(shape, dtype):
    array = picture(*shape, dtype=dtype)
    before = array.copy()
    expected = decode(encoded(array, '.png'), 'a.png')
    for view in (
        array,
        np.asfortranarray(array),
        array[::-1][::-1],
        np.repeat(array, 2, 1)[:, ::2],
    ):
        ours = as_bgr(view, 'image 0')
        assert ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(as_bgr(array[:, ::-1], 'image 0'), expected[:, ::-1])
    array.flags.writeable = False
    np.testing.assert_array_equal(as_bgr(array, 'image 0'), expected)
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ('image', 'line'),
    [
        (np.zeros((4, 5, 3), np.float32), 'image 0 holds float32 values; give 8-bit'),
        (np.zeros((4, 5), bool), 'image 0 holds bool values'),
        (np.zeros((4, 5, 3), np.int64), 'image 0 holds int64 values'),
        (np.zeros((4, 5, 2), np.uint8), r'has the shape \(4, 5, 2\), not \(H, W\)'),
        (np.zeros((3, 4, 5), np.uint8), r'has the shape \(3, 4, 5\)'),
        (np.zeros((1, 4, 5, 3), np.uint8), r'has the shape \(1, 4, 5, 3\)'),
        (np.zeros((0, 5, 3), np.uint8), r'has the shape \(0, 5, 3\)'),
        (np.zeros(5, np.uint8), r'has the shape \(5,\)'),
        (None, 'image 0 is a NoneType, not a path or a NumPy array'),
        (np.zeros((1, 32767, 3), np.uint8), 'image 0 has 32767x1 pixels, more than the 32766'),
    ],
)
def test_arrays_that_are_no_images(image, line):
    with pytest.raises(DataError, match=line) as caught:
        as_bgr(image, 'image 0')
    assert '\n' not in str(caught.value)


def test_the_longest_image_can_be_cropped():
    wide = np.zeros((1, images.MAX_SIDE, 3), np.uint8)
    assert cv2.warpAffine(as_bgr(wide, 'a'), np.eye(2, 3), (4, 4)).shape == (4, 4, 3)
    with pytest.raises(cv2.error):
        cv2.warpAffine(np.zeros((1, images.MAX_SIDE + 1, 3), np.uint8), np.eye(2, 3), (4, 4))


def refused(path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    line = str(caught.value)
    assert '\n' not in line
    assert line.startswith(f"image '{path}' ")
    return line


def test_files_that_are_no_images(tmp_path):
    path = tmp_path / 'a.jpg'
    assert refused(path).endswith('does not exist')
    assert refused(tmp_path).endswith('cannot be read: Is a directory')
    assert 'cannot be read' in refused('a\0.jpg')
    path.write_bytes(b'')
    assert refused(path).endswith('is empty (0 bytes)')
    path.write_text('<html>404</html>')
    assert 'is not an image that can be decoded' in refused(path)
    assert refused(path).endswith('(16 bytes)')
    path.write_bytes(encoded(np.zeros((1, 40000, 3), np.uint8)))
    assert 'has 40000x1 pixels' in refused(path)
    path.write_bytes(encoded(picture(20, 30, 3), '.png')[:-60])
    assert 'is not an image that can be decoded' in refused(path)


def bomb(extension: str, H: int, W: int) -> bytes:
    """A small file that declares a large image."""
    if extension == '.png':
        data = bytearray(png_with(b'tEXt', b'', np.zeros((1, 1, 3), np.uint8)))
        struct.pack_into('>II', data, 16, W, H)
        struct.pack_into('>I', data, 29, zlib.crc32(data[12:29]))
        return bytes(data)
    data = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), extension))
    if extension == '.jpg':
        at = data.find(b'\xff\xc0')
        struct.pack_into('>HH', data, at + 5, H, W)
    elif extension == '.bmp':
        struct.pack_into('<ii', data, 18, W, -H)
    else:
        (start,) = struct.unpack_from('<I', data, 4)
        for at in range(start + 2, len(data) - 11, 12):
            tag = int.from_bytes(data[at : at + 2], 'little')
            if tag in (256, 257):
                struct.pack_into('<HII', data, at + 2, 4, 1, W if tag == 256 else H)
    return bytes(data)


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.bmp', '.tif'])
def test_a_small_file_of_a_huge_image_is_refused_before_it_is_decoded(
    extension, tmp_path, monkeypatch
):
    def imdecode(*_):
        raise AssertionError('decoded')

    monkeypatch.setattr(cv2, 'imdecode', imdecode)
    path = tmp_path / f'a{extension}'
    for H, W, words in (
        (20_000, 20_000, 'has 20000x20000 pixels, more than the 268,435,456 that are read'),
        (200, 40_000, 'has 40000x200 pixels, more than the 32766 a side'),
    ):
        path.write_bytes(bomb(extension, H, W))
        assert words in refused(path)


def test_a_png_that_claims_ten_thousand_million_pixels(tmp_path):
    path = tmp_path / 'a.png'
    path.write_bytes(bomb('.png', 100_000, 100_000))
    assert 'has 100000x100000 pixels' in refused(path)


@pytest.mark.parametrize('quality', [90, 101])
def test_the_size_of_a_webp(quality):
    image = picture(20, 30, 3)
    plain = cv2.imencode('.webp', image, (cv2.IMWRITE_WEBP_QUALITY, quality))[1].tobytes()
    assert headers.shape(plain) == headers.shape(webp_with_exif(image, b'', quality)) == (20, 30)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no such pipes')
def test_pipes_and_devices_are_not_read(tmp_path):
    """Both would never end."""
    os.mkfifo(tmp_path / 'pipe.jpg')
    os.symlink('/dev/zero', tmp_path / 'zero.jpg')
    start = time.monotonic()
    for name in ('pipe.jpg', 'zero.jpg'):
        assert refused(tmp_path / name).endswith('is a pipe, a socket or a device, not a file')
    assert time.monotonic() - start < 5


def test_a_file_of_too_many_bytes_is_not_read(tmp_path):
    path = tmp_path / 'a.jpg'
    with open(path, 'wb') as file:
        file.truncate(images.MAX_FILE_BYTES + 1)  # takes no space on the disk
    assert refused(path).endswith(
        'has 1,073,741,825 bytes, more than the 1,073,741,824 that are read'
    )


@pytest.mark.parametrize('options', [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)])
def test_a_jpeg_that_is_truncated(tmp_path, options):
    path = tmp_path / 'a.jpg'
    whole = cv2.imencode('.jpg', picture(200, 300, 3), options)[1].tobytes()
    path.write_bytes(whole)
    assert read_image(path).shape == (200, 300, 3)
    for length in (3, 20, 300, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        assert refused(path).endswith(f'is cut short: its end is missing ({length} bytes)')


def test_the_end_of_a_preview_is_not_the_end_of_the_photo():
    photo, preview = encoded(picture(200, 300, 3)), encoded(picture(20, 30, 3))
    segment = b'\xff\xe1' + struct.pack('>H', len(preview) + 2) + preview
    with_preview = photo[:2] + segment + photo[2:]
    assert not is_truncated(with_preview)
    np.testing.assert_array_equal(decode(with_preview, 'a'), decode(photo, 'a'))
    assert is_truncated(with_preview[:-100])
    assert is_truncated(with_preview[: len(preview) // 2])


@pytest.mark.parametrize('stray', [b'\xff\xff\xff', b'\0\0\0'])
def test_a_whole_jpeg_with_stray_bytes_between_its_segments_is_read(stray):
    """The standard allows any number of 0xff before a marker; decoders skip other bytes."""
    photo = encoded(picture(200, 300, 3))
    first = 4 + struct.unpack('>H', photo[4:6])[0]  # behind the first segment
    odd = photo[:first] + stray + photo[first:]
    expected = cv2.imdecode(np.frombuffer(odd, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(expected, decode(photo, 'a'))
    np.testing.assert_array_equal(decode(odd, 'a'), expected)
    assert is_truncated(odd[:-100])


def test_bytes_after_the_end_do_no_harm():
    photo = encoded(picture(20, 30, 3))
    np.testing.assert_array_equal(decode(photo + b'\0' * 99, 'a'), decode(photo, 'a'))


class TestRefused:
    """Images of which OpenCV would read the first frame only, or nothing."""

    @pytest.fixture
    def frames(self):
        image = pytest.importorskip('PIL.Image')
        return [image.fromarray(np.full((8, 9, 3), level, np.uint8)) for level in (10, 200, 90)]

    @pytest.mark.parametrize(
        ('name', 'line'),
        [
            ('a.png', 'is animated: give it the extension .apng, by which it is read as a video'),
            ('a.gif', 'is GIF: give it the extension .gif, by which it is read as a video'),
            ('a.webp', 'is animated: convert it to a video, e.g. by: magick IN.webp OUT.gif'),
        ],
    )
    def test_animated(self, tmp_path, frames, name, line):
        path = tmp_path / name
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=40)
        with pytest.raises(DataError) as caught:
            images.read_image(path)
        assert str(caught.value) == f"image '{path}' {line}"
        if name == 'a.gif':
            return
        frames[1].save(path)
        assert abs(int(images.read_image(path).mean()) - 200) < 3

    @pytest.mark.parametrize(
        ('brands', 'kind'),
        [
            (b'heic\0\0\0\0mif1heic', 'HEIC'),
            (b'mif1\0\0\0\0heix', 'HEIC'),
            (b'mif1\0\0\0\0miafavif', 'AVIF'),
            (b'avis\0\0\0\0', 'AVIF'),
        ],
    )
    def test_heic_and_avif_under_another_name(self, tmp_path, brands, kind):
        path = tmp_path / 'photo.jpg'
        path.write_bytes((8 + len(brands)).to_bytes(4, 'big') + b'ftyp' + brands + bytes(99))
        line = f'is {kind}, which is not read: convert it to JPEG or PNG, e.g. by: magick IN'
        with pytest.raises(DataError, match=line):
            images.read_image(path)

    def test_avif_of_pillow(self, tmp_path, frames):
        features = pytest.importorskip('PIL.features')
        if not features.check('avif'):
            pytest.skip('this Pillow cannot write AVIF')
        frames[0].save(tmp_path / 'a.avif')
        if cv2.haveImageReader(str(tmp_path / 'a.avif')):
            pytest.skip('this OpenCV reads AVIF')
        with pytest.raises(DataError, match='is AVIF, which is not read'):
            images.read_image(tmp_path / 'a.avif')
