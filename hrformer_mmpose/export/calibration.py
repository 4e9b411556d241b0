"""Crops to calibrate on, and images to compare on that were not calibrated on.

Shapes: N crops, (w, h) of the input.
"""

import os
from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError, DataError
from ..inference.estimator import Estimator
from ..inference.networks import Network

MOST_CROPS = 300
LEAST_CROPS = 32
HELD_OUT = 4  # each fourth image is compared on


class CropCollector:
    """`Network` that stores its input.

    Args:
        network: whose crops are stored.

    Attributes:
        batches: crops, (N, h, w, 3) BGR uint8.
    """

    def __init__(self, network: Network):
        self.input_size, self.padding, self.udp = network.input_size, network.padding, network.udp
        self.skeleton = network.skeleton
        self.batches: list[np.ndarray] = []

    def predict(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Store the crops and return zeros."""
        self.batches.append(batch)
        K = len(self.skeleton.names)
        return np.zeros((len(batch), K, 2)), np.zeros((len(batch), K))


def split_images(
    calibrate: Sequence[str], images: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Shuffle the images and keep those to compare on apart from those to calibrate on.

    Args:
        calibrate: paths of the images to calibrate on.
        images: paths of the images to compare on; None holds out each fourth of `calibrate`.

    Returns:
        Images to calibrate on, images to compare on.

    Raises:
        ConfigError: an image is in both.
    """
    order = np.random.default_rng(0).permutation(len(calibrate))
    shuffled = [calibrate[index] for index in order]
    if images is None:
        held_out = sorted(shuffled[::HELD_OUT])
        return [name for name in shuffled if name not in {*held_out}], held_out
    files = {os.path.realpath(name) for name in images}
    both = [name for name in calibrate if os.path.realpath(name) in files]
    if both:
        raise ConfigError(
            f"{len(both)} of --images are images of --calibrate, too, e.g. '{both[0]}': compare on "
            'images that were not calibrated on'
        )
    return shuffled, [*images]


def calibration_crops(network: Network, images: Sequence[str], boxes) -> np.ndarray:
    """Cut out at most `MOST_CROPS` crops (N, h, w, 3) BGR uint8, each image's together.

    Args:
        network: defines the crops.
        images: paths, in random order.
        boxes: see `Estimator`.

    Raises:
        DataError: less than `LEAST_CROPS` persons.
    """
    collector, count = CropCollector(network), 0
    for result in Estimator(collector, batch_size=1, on_error='skip').stream(images, boxes):
        count += len(result.poses)
        if count >= MOST_CROPS:
            break
    if count < LEAST_CROPS:
        persons = f'{count} person{"" if count == 1 else "s"}'
        raise DataError(
            f'the {len(images)} images to calibrate on show {persons} in --boxes: give at least '
            f'{LEAST_CROPS}, better {MOST_CROPS}'
        )
    return np.concatenate(collector.batches)[:MOST_CROPS]
