"""Testing of segmentation networks at several scales, with the mirror image and in crops.

As in the authors' code (`seg/segmentor/tester.py`), the logits are averaged, not the probabilities.

Shapes: B batch, K classes, H and W of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError, UnknownArgumentError
from ..heads.segmentation import resize

Network = Callable[[Tensor], Tensor]  # image (B, 3, H, W) -> logits (B, K, H, W)


@dataclass(frozen=True)
class TestSettings:
    """Settings of a test, `model.test_cfg`.

    Attributes:
        scales: factors of the image's size.
        flip: also predict the mirror image.
        crop_size: (height, width) of sliding crops in pixels of the scaled image; None: whole
            images.
        stride: (height, width), distance of neighbouring crops; None: `crop_size`.
        size_divisor: pad images with zeros, at the right and the bottom, to a multiple of it.

    Raises:
        ConfigError: a value is out of range.
    """

    __test__ = False  # not a class of tests

    scales: Sequence[float] = (1.0,)
    flip: bool = False
    crop_size: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    size_divisor: int = 1

    def __post_init__(self):
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f'model.test_cfg: scales={self.scales!r} are not numbers above 0')
        if self.size_divisor < 1:
            raise ConfigError(f'model.test_cfg: size_divisor={self.size_divisor} is below 1')
        if self.stride is not None and self.crop_size is None:
            raise ConfigError('model.test_cfg: stride needs crop_size')
        crop = self.crop_size or (1, 1)
        stride = self.stride or crop
        if len(crop) != 2 or len(stride) != 2 or min(*crop, *stride) < 1:
            raise ConfigError('model.test_cfg: crop_size and stride are (height, width), from 1 on')
        if any(s > c for s, c in zip(stride, crop, strict=True)):
            raise ConfigError(
                f'model.test_cfg: stride={stride} leaves gaps between crops of {crop}'
            )


def read_settings(test_cfg: dict[str, Any] | None) -> TestSettings:
    """Convert `model.test_cfg`.

    Raises:
        UnknownArgumentError: an unknown key.
        ConfigError: see `TestSettings`.
    """
    known = [field.name for field in fields(TestSettings)]
    if unknown := [key for key in test_cfg or {} if key not in known]:
        raise UnknownArgumentError(
            f'model.test_cfg: unknown key {unknown[0]!r}; known: {", ".join(known)}'
        )
    return TestSettings(**test_cfg or {})


def predict_logits(network: Network, images: Tensor, settings: TestSettings) -> Tensor:
    """Predict the logits of images (B, 3, H, W), averaged over scales and flips: (B, K, H, W)."""
    height, width = images.shape[2:]
    pad = [-n % settings.size_divisor for n in (height, width)]
    padded = F.pad(images, (0, pad[1], 0, pad[0]))
    if settings.crop_size is None:
        predict = network
    else:
        crop, stride = settings.crop_size, settings.stride or settings.crop_size

        def predict(image: Tensor) -> Tensor:
            return slide(network, image, crop, stride)

    total, size = 0, padded.shape[2:]
    for scale in settings.scales:
        scaled = padded if scale == 1 else resize(padded, [int(n * scale) for n in size])
        logits = predict(scaled)
        if settings.flip:
            logits = (logits + predict(scaled.flip(3)).flip(3)) / 2
        total = total + (logits if scale == 1 else resize(logits, size))
    return total[:, :, :height, :width] / len(settings.scales)


def slide(network: Network, images: Tensor, crop: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Predict crops of images and average the logits where crops overlap.

    Args:
        network: see `Network`.
        images: (B, 3, H, W).
        crop: (height, width); larger than the image, it is clipped to it.
        stride: distance of neighbouring crops; the last one ends at the image's border.

    Returns:
        (B, K, H, W).
    """
    total, count = None, images.new_zeros(images.shape[2:])
    rows, columns = (
        crop_slices(*sizes) for sizes in zip(images.shape[2:], crop, stride, strict=True)
    )
    for place in ((row, column) for row in rows for column in columns):
        logits = network(images[(..., *place)])
        if total is None:
            total = logits.new_zeros(*logits.shape[:2], *images.shape[2:])
        total[(..., *place)] += logits
        count[place] += 1
    return total / count


def crop_slices(length: int, crop: int, stride: int) -> list[slice]:
    """Return the ranges of crops that cover `length` pixels."""
    crop = min(crop, length)
    starts = [*range(0, length - crop, stride), length - crop]
    return [slice(start, start + crop) for start in starts]
