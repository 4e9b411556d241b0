"""Matching of boxes to images, for every form of boxes."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from ..errors import ConfigError, DataError
from ..imaging import crops

WHOLE_IMAGE = 'whole-image'

Image = str | os.PathLike | np.ndarray
Boxes = np.ndarray | Sequence | Mapping | Callable | str


def pair_boxes(sources: Iterable[Image], boxes: Boxes) -> Iterator[tuple[Image, object]]:
    """Yield each image with its rows of boxes, its detector, 'whole-image' or an error to raise."""
    if isinstance(boxes, str):
        if boxes != WHOLE_IMAGE:
            raise ConfigError(f"boxes={boxes!r} is not boxes, a detector or '{WHOLE_IMAGE}'")
        yield from ((source, boxes) for source in sources)
    elif isinstance(boxes, Mapping):
        for number, source in enumerate(sources):
            if not isinstance(source, str | os.PathLike):
                raise ConfigError(
                    'boxes by file name need images given as paths: '
                    f'{image_name(source, number)} is a {type(source).__name__}'
                )
            yield source, _look_up(boxes, source)
    elif callable(boxes):
        yield from ((source, boxes) for source in sources)
    elif not isinstance(boxes, Iterable):
        raise ConfigError(
            f'boxes={boxes!r} is not boxes of each image, a mapping from file names to them, a '
            f"detector or '{WHOLE_IMAGE}'"
        )
    else:
        yield from _zip_strictly(sources, boxes)


def _zip_strictly(sources: Iterable[Image], boxes: Iterable) -> Iterator[tuple[Image, object]]:
    """Zip images and boxes; raise if their numbers differ, at once if the lengths are known."""
    advice = '(give one array of boxes for each image)'
    if hasattr(sources, '__len__') and hasattr(boxes, '__len__') and len(sources) != len(boxes):
        raise DataError(f'there are {len(sources)} images, but boxes for {len(boxes)} {advice}')
    missing = object()
    for number, (source, rows) in enumerate(
        itertools.zip_longest(sources, boxes, fillvalue=missing)
    ):
        if source is missing or rows is missing:
            more, fewer = ('images', 'boxes') if rows is missing else ('boxes', 'images')
            raise DataError(
                f'there are more {more} than {fewer}: number {number}, from 0, has no counterpart '
                f'{advice}'
            )
        yield source, rows


def _look_up(boxes: Mapping, source: str | os.PathLike) -> object:
    """Return the boxes of an image by its path or base name, or an error for the reader."""
    for key in (source, os.fspath(source), os.path.basename(source)):
        if key in boxes:  # not `boxes[key]`: a defaultdict would accept every path
            return boxes[key]
    try:
        return boxes[os.fspath(source)]
    except DataError as error:  # more specific than the line below
        return error
    except KeyError:
        return DataError(f"there are no boxes for image '{source}'")


def is_single_image(images) -> bool:
    """Return whether `images` is one image; also True for anything that is not iterable."""
    if isinstance(images, str | bytes | os.PathLike | np.ndarray) or not isinstance(
        images, Iterable
    ):
        return True
    return getattr(images, 'ndim', 0) > 1  # a tensor


def image_name(source: Image, number: int) -> str:
    """Return the name of an image in messages and results."""
    return os.fspath(source) if isinstance(source, str | os.PathLike) else f'image {number}'


def copy_boxes(rows, name: str) -> object:
    """Copy boxes so that later mutation by the caller has no effect.

    Detectors, 'whole-image' and errors are returned unchanged; invalid boxes become an error for
    the reader to raise.
    """
    if isinstance(rows, DataError) or callable(rows):
        return rows
    if isinstance(rows, str) and rows == WHOLE_IMAGE:
        return rows
    try:
        return crops.as_boxes(rows, name)
    except DataError as error:
        return error
