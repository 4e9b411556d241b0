"""Split images into training and validation."""

import random

from ..errors import ConfigError, DataError
from .repair import KeypointSet

MIN_VAL, MAX_VAL = 1, 5000  # images; COCO's val2017 has 5000


def split(labels: KeypointSet, fraction: float, seed: int) -> tuple[set[int], set[int]]:
    """Return the ids of the images with persons to train on and to validate on.

    A split in the file decides; otherwise images are drawn at random. All persons of an image are
    on the same side.

    Args:
        labels: the annotations.
        fraction: share of the images for validation.
        seed: of the draw.

    Raises:
        ConfigError: the share leaves no image for one of the two.
        DataError: fewer than two images.
    """
    with_persons = {annotation['image_id'] for annotation in labels.persons()}
    images = [image for image in labels.images if image['id'] in with_persons]
    stated = {image['id'] for image in images if image.get('split') == 'val'}
    if stated and len(stated) < len(images):
        return with_persons - stated, stated
    if len(images) < 2:
        raise DataError('one image with persons cannot be split: give --val FILE')
    if not 0 < fraction < 1:
        raise ConfigError(f'--val-fraction {fraction:g} is not between 0 and 1')
    count = min(max(MIN_VAL, round(fraction * len(images))), MAX_VAL, len(images) - 1)
    # Sorted by name: the draw is the same for any order of the file.
    order = sorted(images, key=lambda image: image['file_name'])
    val = {image['id'] for image in random.Random(seed).sample(order, count)}
    return with_persons - val, val
