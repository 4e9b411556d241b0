"""Loading and cropping with the same pixels as MMPose's transforms.

MMPose decodes an image for every person on it, and flips the whole image. `LoadImage` caches the
last image, because the boxes of an image are consecutive in a test. `TopdownAffine` reads only the
part of the image around the crop.
"""

import cv2
import mmcv
import numpy as np
from mmengine import fileio
from mmpose.datasets.transforms import LoadImage as _LoadImage
from mmpose.datasets.transforms import RandomBBoxTransform as _RandomBBoxTransform
from mmpose.datasets.transforms import TopdownAffine as _TopdownAffine
from mmpose.structures.bbox import get_udp_warp_matrix, get_warp_matrix
from scipy.special import ndtr, ndtri

from ..errors import ConfigError, DataError
from ..imaging.crops import BOX_PADDING
from ..imaging.headers import is_truncated, jpeg_shape
from ..imaging.images import MAX_SIDE, decode
from ..registry import TRANSFORMS

REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


@TRANSFORMS.register_module()
class LoadImage(_LoadImage):
    """`mmpose.LoadImage` that decodes an image once for consecutive boxes.

    Pixels equal MMPose's: grey and 16-bit images become 8-bit BGR, an alpha channel is dropped and
    the EXIF orientation is applied. Missing, broken and truncated files raise an error, whereas
    OpenCV fills the missing part of a truncated JPEG with grey.

    Args:
        args: arguments of MMPose's class.
        reduce_to: (w, h) of the network's input, to decode a JPEG at 1/2, 1/4 or 1/8 of its size
            where the person's crop remains at least that large. Must be followed by
            `TopdownAffine` of this package. Changes pixels slightly, therefore off by default.
        kwargs: arguments of MMPose's class.

    Raises:
        ConfigError: `reduce_to` is not a size.
        DataError: unusable file in `img_path`.
    """

    def __init__(self, *args, reduce_to: tuple[int, int] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        if reduce_to is not None and (len(reduce_to) != 2 or min(reduce_to) <= 0):
            raise ConfigError(f'reduce_to={reduce_to!r} of LoadImage is not (width, height)')
        self.reduce_to = reduce_to
        self._last: tuple | None = None  # key, image, shape of the whole image

    def transform(self, results: dict) -> dict:
        """Read `results['img_path']` into `results['img']`, (H, W, 3) BGR uint8.

        The array is read-only, since the next sample may share it. For a reduced image,
        `results['img_reduction']` is the factor; the shapes are those of the whole image.
        """
        if 'img' in results:
            return super().transform(results)
        reduction = self._reduction(results)
        key = results['img_path'], reduction
        if self._last is None or self._last[0] != key:
            self._last = None  # release the old image before the new one is decoded
            self._last = key, *self._decode(results['img_path'], reduction)
        _, image, reduction, shape = self._last
        results.update(img=image, img_shape=shape, ori_shape=shape)
        if reduction > 1:
            results['img_reduction'] = reduction
        return results

    def _reduction(self, results: dict) -> int:
        """Return the largest of 1, 2, 4, 8 at which the crop is not smaller than the input."""
        if self.reduce_to is None:
            return 1
        x0, y0, x1, y1 = results['bbox'][0]
        w, h = self.reduce_to
        zoom = BOX_PADDING * max((x1 - x0) / w, (y1 - y0) / h)
        return next((factor for factor in (8, 4, 2) if zoom >= factor), 1)

    def _decode(self, path: str, reduction: int) -> tuple[np.ndarray, int, tuple[int, int]]:
        try:
            data = fileio.get(path, backend_args=self.backend_args)
        except OSError as error:
            raise DataError(f"image '{path}' cannot be read: {error.strerror}") from error
        image, shape = None, jpeg_shape(data) if reduction > 1 else None
        if shape is not None and max(shape) <= MAX_SIDE and not is_truncated(data):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[reduction])
        if image is None:
            image, reduction = self._whole(data, path), 1
            shape = image.shape[:2]
        elif _is_rotated(image.shape, shape):
            shape = shape[::-1]  # rotated by the EXIF orientation
        if self.to_float32:
            image = image.astype(np.float32)
        image.flags.writeable = False
        return image, reduction, shape

    def _whole(self, data: bytes, path: str) -> np.ndarray:
        if (self.color_type, self.imdecode_backend) == ('color', 'cv2'):
            return decode(data, path)
        image = None
        if data and not is_truncated(data):
            image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise DataError(f"image '{path}' is not an image that can be decoded")
        return image


@TRANSFORMS.register_module()
class TopdownAffine(_TopdownAffine):
    """`mmpose.TopdownAffine` that reads only the part of the image around the crop.

    OpenCV copies the whole of a flipped image, which is a view. This class copies the part around
    the crop only. The pixels are the same.
    """

    def transform(self, results: dict) -> dict:
        """Crop `results['img']` to (h, w, 3) and map the keypoints into it."""
        w, h = self.input_size
        scale = self._fix_aspect_ratio(results['bbox_scale'], aspect_ratio=w / h)
        results['bbox_scale'] = scale
        center = results['bbox_center'][0]
        rotation = results['bbox_rotation'][0] if 'bbox_rotation' in results else 0.0
        matrix_of = get_udp_warp_matrix if self.use_udp else get_warp_matrix
        matrix = matrix_of(center, scale[0], rotation, output_size=(w, h))
        results['img'] = warp(results['img'], _matrix_for_reduced(matrix, results), (w, h))
        if results.get('keypoints') is not None:
            source = results.get('transformed_keypoints')
            keypoints = (results['keypoints'] if source is None else source).copy()
            keypoints[..., :2] = cv2.transform(results['keypoints'][..., :2], matrix)
            results['transformed_keypoints'] = keypoints
        else:
            results['transformed_keypoints'] = np.zeros([])
            results['keypoints_visible'] = np.ones((1, 1, 1))
        results.update(input_size=(w, h), input_center=center, input_scale=scale[0])
        return results


@TRANSFORMS.register_module()
class RandomBBoxTransform(_RandomBBoxTransform):
    """`mmpose.RandomBBoxTransform` with a choice of distributions, which have the same limits.

    Args:
        args: arguments of MMPose's class.
        distribution: "truncated": normal distributions of shift, scale and rotation, truncated at
            one standard deviation, with the random numbers of MMPose 1.x. "clipped": uniform shift;
            normal distributions of scale and rotation, clipped at one and two standard deviations
            (the authors' code and MMPose 0.x).
        kwargs: arguments of MMPose's class.

    Raises:
        ConfigError: invalid `distribution`.
    """

    def __init__(self, *args, distribution: str = 'truncated', **kwargs):
        super().__init__(*args, **kwargs)
        if distribution not in ('truncated', 'clipped'):
            raise ConfigError(
                f"distribution={distribution!r} of RandomBBoxTransform is not 'truncated' or "
                "'clipped'"
            )
        self.distribution = distribution

    def _truncnorm(self, low: float = -1.0, high: float = 1.0, size: tuple = ()) -> np.ndarray:
        """Sample shift in x and y, scale and rotation, (N, 4), in units of their limits."""
        if self.distribution == 'clipped':
            shift = np.random.uniform(-1, 1, (size[0], 2))
            scale_and_rotation = np.random.normal(0, (1, 0.5), (size[0], 2)).clip(-1, 1)
            return np.concatenate([shift, scale_and_rotation], 1).astype(np.float32)
        uniform = np.random.uniform(size=size)
        start, stop = ndtr(low), ndtr(high)
        # scipy.stats.truncnorm has the same values and is much slower.
        return ndtri(start + uniform * (stop - start)).astype(np.float32)


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`cv2.warpAffine` that reads only the part of `image` around the crop.

    Args:
        image: (H, W, 3), of any strides.
        matrix: (2, 3), from the image to the crop.
        size: (w, h) of the crop in pixels.

    Returns:
        (h, w, 3), bilinear, black outside the image.
    """
    if image.flags.c_contiguous:
        return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
    inverse = cv2.invertAffineTransform(matrix.astype(np.float64))  # as in OpenCV
    w, h = size
    corners = np.array([[0, 0, 1], [w, 0, 1], [0, h, 1], [w, h, 1]]) @ inverse.T
    # Margin of two pixels: bilinear sampling reads one more, and blends a border pixel with black.
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 2, 0)
    x1, y1 = np.maximum(np.ceil(corners.max(0)).astype(int) + 3, (x0 + 1, y0 + 1))
    part = image[y0:y1, x0:x1]
    if not part.size:
        return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
    inverse[:, 2] -= x0, y0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(_contiguous(part), inverse, size, flags=flags)


def _contiguous(part: np.ndarray) -> np.ndarray:
    """Copy a flipped view; OpenCV flips ten times as fast as NumPy copies."""
    backward = tuple(stride < 0 for stride in part.strides[:2])
    code = {(False, True): 1, (True, False): 0, (True, True): -1}.get(backward)
    if code is None:
        return np.ascontiguousarray(part)
    return cv2.flip(part[:: -1 if backward[0] else 1, :: -1 if backward[1] else 1], code)


def _matrix_for_reduced(matrix: np.ndarray, results: dict) -> np.ndarray:
    """Adapt a matrix of the whole image to `results['img']`, which may be reduced.

    Pixel i of an image reduced by r is the mean of pixels r * i ... r * i + r - 1. The last pixel
    may extend beyond the image; after a flip it is the first.
    """
    reduction = results.get('img_reduction', 1)
    if reduction == 1:
        return matrix
    start = np.full(2, (reduction - 1) / 2)
    flip = results.get('flip_direction') or ''
    beyond = reduction * np.array(results['img'].shape[1::-1]) - results['img_shape'][::-1]
    start -= beyond * [flip in ('horizontal', 'diagonal'), flip in ('vertical', 'diagonal')]
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ start
    matrix[:, :2] *= reduction
    return matrix


def _is_rotated(reduced: tuple[int, ...], shape: tuple[int, int]) -> bool:
    """Return whether a reduced image is rotated by a quarter turn with respect to `shape`."""
    return (reduced[0] > reduced[1]) != (shape[0] > shape[1]) and reduced[0] != reduced[1]
