"""MMPose's image loading, with an error that names the broken file."""

import mmcv
from mmengine import fileio
from mmpose.datasets.transforms import LoadImage as _LoadImage

from ..errors import DataError
from ..registry import TRANSFORMS

JPEG_START, JPEG_SCAN, JPEG_END = b'\xff\xd8', 0xDA, b'\xff\xd9'


@TRANSFORMS.register_module()
class LoadImage(_LoadImage):
    """`mmpose.LoadImage`; a file that is missing, broken or cut short is named.

    OpenCV decodes what there is of a truncated JPEG and fills the rest with grey, so that a network
    would train on half an image without a word.

    Raises:
        DataError: the file named in `img_path` cannot be used.
    """

    def transform(self, results: dict) -> dict:
        """Read `results['img_path']` into `results['img']`, (H, W, 3) BGR uint8."""
        if 'img' not in results:
            results['img'] = self._read(results['img_path'])
        return super().transform(results)

    def _read(self, path: str):
        try:
            data = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise DataError(f"image '{path}' cannot be read: {error.strerror}") from error
        if is_cut_short(data):
            raise DataError(f"image '{path}' is cut short: its end is missing ({len(data)} bytes)")
        image = None
        if data:
            image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise DataError(f"image '{path}' is not an image that can be decoded")
        return image


def is_cut_short(data: bytes) -> bool:
    """Whether `data` is a JPEG whose end-of-image marker is missing after its first scan.

    The segments before the scan are skipped by their lengths, since an embedded preview has an end
    marker of its own.
    """
    if not data.startswith(JPEG_START):
        return False
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == JPEG_SCAN:
            return data.find(JPEG_END, position) < 0
        position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
    return True
