"""Augmentation of images and masks for segmentation, as in the authors' code.

Images are arrays (H, W, 3) of uint8 in `results['img']`, masks (H, W) uint8 in `results['mask']`.
All random numbers come from NumPy's global generator, as in MMPose's transforms.
"""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ..errors import ConfigError
from ..registry import TRANSFORMS


def _resized(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image by OpenCV's bicubic filter, or a mask to the nearest pixel."""
    filter_ = cv2.INTER_CUBIC if array.ndim == 3 else cv2.INTER_NEAREST
    return cv2.resize(array, (width, height), interpolation=filter_)


@TRANSFORMS.register_module()
class ResizeShorterSide(BaseTransform):
    """Resize the image, and by default the mask, so that the shorter side has `size` pixels.

    Args:
        size: of the shorter side in pixels.
        with_mask: resize the mask, too. In a test the mask keeps its size, to which the prediction
            is resized.
    """

    def __init__(self, size: int, with_mask: bool = True):
        self.size, self.with_mask = size, with_mask

    def transform(self, results: dict) -> dict:
        """Replace `img` and `mask`."""
        shape = results['img'].shape[:2]
        height, width = (round(n * self.size / min(shape)) for n in shape)
        for key in ('img', 'mask')[: 1 + self.with_mask]:
            results[key] = _resized(results[key], height, width)
        return results


@TRANSFORMS.register_module()
class RandomScaleCrop(BaseTransform):
    """Resize image and mask by a random factor, crop a random box, flip it, pad it at random.

    Args:
        size: (height, width) of the result in pixels.
        scale: range of the factor.
        aspect: range of the change of width / height.
        flip: probability of a horizontal flip.
        pad_value: colour around an image that is smaller than `size`; the authors pad with zeros
            after the normalisation, which is the mean colour.
        ignore_index: label around the mask.

    Raises:
        ConfigError: an empty range or size.
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: tuple[float, float] = (0.5, 2.0),
        aspect: tuple[float, float] = (0.9, 1.1),
        flip: float = 0.5,
        pad_value: tuple[int, int, int] = (124, 116, 104),
        ignore_index: int = 255,
    ):
        if len(size) != 2 or min(size) < 1:
            raise ConfigError(f'RandomScaleCrop: size={size!r} is not (height, width)')
        for name, limits in dict(scale=scale, aspect=aspect).items():
            if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
                raise ConfigError(f'RandomScaleCrop: {name}={limits!r} is not (smallest, largest)')
        self.size, self.scale, self.aspect = tuple(size), scale, aspect
        self.flip, self.fill = flip, dict(img=pad_value, mask=ignore_index)

    def transform(self, results: dict) -> dict:
        """Replace `img` and `mask`."""
        factor = np.random.uniform(*self.scale)
        stretch = np.random.uniform(*self.aspect) ** 0.5
        rows, columns = results['img'].shape[:2]
        shape = max(int(rows * factor / stretch), 1), max(int(columns * factor * stretch), 1)
        spare = [n - wanted for n, wanted in zip(shape, self.size, strict=True)]
        # Where the crop begins in a larger image, and a smaller image in the result.
        crop = [np.random.randint(n + 1) if n > 0 else 0 for n in spare]
        pad = [np.random.randint(1 - n) if n < 0 else 0 for n in spare]
        step = -1 if np.random.rand() < self.flip else 1
        source = tuple(slice(c, c + n) for c, n in zip(crop, self.size, strict=True))
        for key, value in self.fill.items():
            cropped = _resized(results[key], *shape)[source][:, ::step]
            result = np.empty((*self.size, *cropped.shape[2:]), np.uint8)
            result[:] = value
            height, width = cropped.shape[:2]
            result[pad[0] : pad[0] + height, pad[1] : pad[1] + width] = cropped
            results[key] = result
        return results


@TRANSFORMS.register_module()
class RandomBrightness(BaseTransform):
    """Add a random whole number to all values of the image.

    Args:
        shift: largest number, of either sign.
    """

    def __init__(self, shift: int = 10):
        self.shift = shift

    def transform(self, results: dict) -> dict:
        """Replace `img`."""
        shift = np.random.randint(-self.shift, self.shift + 1)
        shifted = results['img'].astype(np.int16) + shift
        results['img'] = shifted.clip(0, 255).astype(np.uint8)
        return results
