"""Augmentation of whole images for classification (paper, section 4.3; recipe of DeiT and Swin).

MMPose has no transforms for classification and does not depend on torchvision. Images are BGR
arrays (H, W, 3) of uint8 in `results['img']`. All random numbers come from NumPy's global
generator, as in MMPose's transforms.
"""

from collections.abc import Callable

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement
from PIL import Image

from ..registry import TRANSFORMS

# Rotation, shear and translation fill with ImageNet's mean (BGR).
GEOMETRY = dict(border_value=(104, 116, 124), interpolation='bicubic')


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize an image by PIL's bicubic filter, as the published networks were trained and tested.

    Unlike OpenCV's filter, it is antialiased.

    Args:
        image: (H, W, 3) uint8.
        width: of the result in pixels.
        height: of the result in pixels.
    """
    # PIL copies a part of an image element by element, NumPy row by row (3.3 ms a crop less).
    whole = Image.fromarray(np.ascontiguousarray(image))
    resized = whole.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(resized)


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Crop a box of random area and aspect ratio, resize it and flip it at random.

    Args:
        size: height and width of the result in pixels.
        area: range of the area, as a share of the image.
        ratio: range of width / height, uniform in the logarithm.
        flip: probability of a horizontal flip.
    """

    def __init__(
        self,
        size: int,
        area: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
    ):
        self.size, self.area, self.ratio, self.flip = size, area, ratio, flip

    def transform(self, results: dict) -> dict:
        """Replace `img`."""
        image = results['img']
        top, left, height, width = self._box(*image.shape[:2])
        image = image[top : top + height, left : left + width]
        image = resize(image, self.size, self.size)
        results['img'] = mmcv.imflip(image) if np.random.rand() < self.flip else image
        return results

    def _box(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = rows * columns * np.random.uniform(*self.area)
            ratio = np.exp(np.random.uniform(*np.log(self.ratio)))
            height, width = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
            if 0 < height <= rows and 0 < width <= columns:
                top = np.random.randint(rows - height + 1)
                return top, np.random.randint(columns - width + 1), height, width
        # Elongated image: use the largest central box of an allowed aspect ratio.
        height = min(rows, round(columns / self.ratio[0]))
        width = min(columns, round(rows * self.ratio[1]))
        return (rows - height) // 2, (columns - width) // 2, height, width


@TRANSFORMS.register_module()
class CenterCrop(BaseTransform):
    """Resize the shorter side to `size / share`, then crop the centre, as torchvision does.

    Args:
        size: height and width of the result in pixels.
        share: `size` as a share of the resized shorter side.
    """

    def __init__(self, size: int, share: float = 0.875):
        self.size, self.share = size, share

    def transform(self, results: dict) -> dict:
        """Replace `img`."""
        image = results['img']
        rows, columns = image.shape[:2]
        short = round(self.size / self.share)
        rows, columns = (int(short * side / min(rows, columns)) for side in (rows, columns))
        image = resize(image, columns, rows)
        top, left = round((rows - self.size) / 2), round((columns - self.size) / 2)
        results['img'] = image[top : top + self.size, left : left + self.size]
        return results


# Functions of an image and a strength m in [0, 1]; the sign of two-sided operations is random.
_OPERATIONS: tuple[Callable, ...] = (
    lambda image, m: mmcv.auto_contrast(image),
    lambda image, m: mmcv.imequalize(image),
    lambda image, m: mmcv.iminvert(image),
    lambda image, m: mmcv.imrotate(image, _sign() * 30 * m, **GEOMETRY),
    lambda image, m: mmcv.posterize(image, max(1, 4 - int(4 * m))),
    lambda image, m: mmcv.solarize(image, int(256 - 256 * m)),
    lambda image, m: _solarize_add(image, int(110 * m)),
    lambda image, m: mmcv.adjust_color(image, 1 + _sign() * 0.9 * m),
    lambda image, m: mmcv.adjust_contrast(image, 1 + _sign() * 0.9 * m),
    lambda image, m: mmcv.adjust_brightness(image, 1 + _sign() * 0.9 * m),
    lambda image, m: mmcv.adjust_sharpness(image, 1 + _sign() * 0.9 * m),
    lambda image, m: mmcv.imshear(image, _sign() * 0.3 * m, 'horizontal', **GEOMETRY),
    lambda image, m: mmcv.imshear(image, _sign() * 0.3 * m, 'vertical', **GEOMETRY),
    lambda image, m: _translate(image, 0.45 * m, 'horizontal'),
    lambda image, m: _translate(image, 0.45 * m, 'vertical'),
)


def _sign() -> int:
    return 1 if np.random.rand() < 0.5 else -1


def _translate(image: np.ndarray, share: float, direction: str) -> np.ndarray:
    side = image.shape[1 if direction == 'horizontal' else 0]
    return mmcv.imtranslate(image, _sign() * share * side, direction, **GEOMETRY)


def _solarize_add(image: np.ndarray, value: int) -> np.ndarray:
    return np.where(image < 128, np.minimum(image.astype(int) + value, 255), image).astype(np.uint8)


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """Apply random operations of a common strength (Cubuk et al., NeurIPS 2020).

    Args:
        operations: number of operations for each image.
        magnitude: mean strength, 0 to 10.
        spread: standard deviation of the strength, on the same scale.
        probability: of applying each operation.
    """

    def __init__(
        self,
        operations: int = 2,
        magnitude: float = 9,
        spread: float = 0.5,
        probability: float = 0.5,
    ):
        self.operations, self.magnitude = operations, magnitude
        self.spread, self.probability = spread, probability

    def transform(self, results: dict) -> dict:
        """Replace `img`."""
        for index in np.random.randint(len(_OPERATIONS), size=self.operations):
            if np.random.rand() < self.probability:
                strength = np.clip(np.random.normal(self.magnitude, self.spread), 0, 10) / 10
                results['img'] = _OPERATIONS[index](results['img'], float(strength))
        return results


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Replace a random box by noise (Zhong et al., AAAI 2020).

    Args:
        probability: of erasing.
        area: range of the area, as a share of the image.
        ratio: range of width / height.
        mean: (3,) of the noise, BGR.
        std: (3,) of the noise, BGR.
    """

    def __init__(
        self,
        probability: float = 0.25,
        area: tuple[float, float] = (0.02, 1 / 3),
        ratio: tuple[float, float] = (0.3, 10 / 3),
        mean: tuple[float, float, float] = (103.53, 116.28, 123.675),
        std: tuple[float, float, float] = (57.375, 57.12, 58.395),
    ):
        self.probability, self.mean, self.std = probability, mean, std
        self.box = RandomResizedCrop(1, area, ratio)

    def transform(self, results: dict) -> dict:
        """Replace `img`."""
        if np.random.rand() < self.probability:
            image = results['img'].copy()
            top, left, height, width = self.box._box(*image.shape[:2])
            noise = np.random.normal(self.mean, self.std, (height, width, 3))
            image[top : top + height, left : left + width] = noise.clip(0, 255)
            results['img'] = image
        return results


@TRANSFORMS.register_module()
class PackImage(BaseTransform):
    """Pack `inputs` (3, H, W) and a sample with `gt_label`, for `ImageClassifier`."""

    def transform(self, results: dict) -> dict:
        """Pack the image for the collate function."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        sample = BaseDataElement(metainfo=dict(img_path=results.get('img_path')))
        sample.gt_label = int(results['gt_label'])
        return dict(inputs=torch.from_numpy(image), data_samples=sample)
