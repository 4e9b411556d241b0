"""COCO keypoint annotations and detections as arrays.

A JSON file is parsed object by object. Masks are dropped and lists of numbers are packed during
parsing, so that peak memory stays near the size of the file. Data set and metric share the arrays
(`read` returns the same object while it is referenced). Forked workers share their memory, because
reading an array writes no reference counts.

Legend: I images, N annotations, K keypoints, D detections.
"""

import json
import os
import weakref
from array import array
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from .columns import first_numbers, floats, integers, most_frequent, numbers, objects, rows
from .layouts import LAYOUTS, PACKED
from .roots import HINT

MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


@dataclass(frozen=True, eq=False)
class Annotations:
    """One annotation file.

    Attributes:
        path: path of the file.
        categories: the file's list of categories.
        image_id: (I,).
        width: (I,) pixels.
        height: (I,) pixels.
        file_name: (I,) UTF-8 bytes.
        crowd_index: (I,), NaN where missing.
        id: (N,).
        image: (N,) id of the image.
        category_id: (N,).
        iscrowd: (N,) bool.
        bbox: (N, 4) xywh in pixels; NaN where missing or not numeric.
        keypoints: (N, K, 3) x, y, visibility; K is the most frequent count of the file. NaN where
            missing, not numeric or of another count.
        length: (N,) count of numbers in the keypoints entry, -1 where missing.
        area: (N,) square pixels, NaN where missing.
        num_keypoints: (N,), -1 where missing.
        annotated: False if the file has no list of annotations (test-dev).
    """

    path: str
    categories: list[dict]
    image_id: np.ndarray
    width: np.ndarray
    height: np.ndarray
    file_name: np.ndarray
    crowd_index: np.ndarray
    id: np.ndarray
    image: np.ndarray
    category_id: np.ndarray
    iscrowd: np.ndarray
    bbox: np.ndarray
    keypoints: np.ndarray
    length: np.ndarray
    area: np.ndarray
    num_keypoints: np.ndarray
    annotated: bool

    def rows_of(self, image_ids: np.ndarray) -> np.ndarray:
        """Return the row of each image id in the image arrays; -1 for an unknown id."""
        return rows_of(image_ids, self.image_id)

    def labelled(self) -> np.ndarray:
        """Return the number of keypoints with a visibility above 0, (N,)."""
        return (self.keypoints[..., 2] > 0).sum(1)

    def names(self) -> list[str]:
        """Return the file names of the images."""
        return [name.decode() for name in self.file_name.tolist()]


@dataclass(frozen=True, eq=False)
class Detections:
    """One file of person boxes in COCO's result format.

    Attributes:
        path: path of the file.
        image: (D,) id of the image.
        category_id: (D,).
        bbox: (D, 4) xywh in pixels; NaN where missing or not numeric.
        score: (D,); NaN where missing or not numeric.
    """

    path: str
    image: np.ndarray
    category_id: np.ndarray
    bbox: np.ndarray
    score: np.ndarray


_read: 'weakref.WeakValueDictionary[tuple, Annotations]' = weakref.WeakValueDictionary()


def read(path: str, layout: str = 'coco', hint: str = HINT) -> Annotations:
    """Read an annotation file; return the same object while it is in use and the file unchanged.

    Args:
        path: of the file.
        layout: one of `LAYOUTS`.
        hint: advice if the file is missing.

    Raises:
        DataError: the file is missing, empty, or not in COCO's keypoint format or its layout.
    """
    _check_json(path, 'annotation', dict, hint)
    stat = os.stat(path)
    key = os.path.realpath(path), layout, stat.st_mtime_ns, stat.st_size
    annotations = _read.get(key)
    if annotations is None:
        annotations = _read[key] = _parse(path, layout)
    return annotations


def read_detections(path: str, hint: str = HINT) -> Detections:
    """Read a detection file.

    Args:
        path: of the file.
        hint: advice if it is missing.

    Raises:
        DataError: the file is missing, empty, or not a list of detections.
    """
    _check_json(path, 'detection', list, hint)
    entries = _load(path, 'a list of detections')
    try:
        objects(entries, 'the file')
        return Detections(
            path=path,
            image=integers(entries, 'image_id'),
            category_id=integers(entries, 'category_id'),
            bbox=rows([first_numbers(entry.get('bbox'), 4) for entry in entries], 4),
            score=floats(entries, 'score'),
        )
    except MALFORMED as error:
        raise _malformed(path, 'a list of detections', error) from error


def rows_of(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the row of the first occurrence of each id in `table`; -1 for a missing id."""
    if not len(table):
        return np.full(len(ids), -1)
    order = np.argsort(table, kind='stable')
    place = np.searchsorted(table[order], ids).clip(max=len(table) - 1)
    return np.where(table[order][place] == ids, order[place], -1)


def _check_json(path: str, kind: str, expected: type, hint: str) -> None:
    if not os.path.isfile(path):
        raise DataError(f"{kind} file '{path}' does not exist: {hint}")
    if os.path.getsize(path) == 0:
        raise DataError(f"{kind} file '{path}' is empty")
    start = '{' if expected is dict else '['
    with open(path, encoding='utf-8-sig', errors='replace') as file:
        if not file.read(64).lstrip().startswith(start):
            raise DataError(f"{kind} file '{path}' does not hold a JSON {expected.__name__}")


def _parse(path: str, layout: str) -> Annotations:
    kind = "in COCO's keypoint format" + (f' with layout {layout!r}' if LAYOUTS[layout] else '')
    content = _load(path, kind)
    try:
        return _arrays(path, content, layout)
    except MALFORMED as error:
        raise _malformed(path, kind, error) from error


def _load(path: str, kind: str) -> Any:
    try:
        with open(path, encoding='utf-8-sig') as file:  # Windows' tools write a mark
            return json.load(file, object_hook=_compact)
    except (ValueError, RecursionError) as error:
        raise _malformed(path, kind, error) from error


def _compact(entry: dict) -> dict:
    """Drop the mask of an object and pack its lists of numbers."""
    entry.pop('segmentation', None)
    for key in PACKED:
        value = entry.get(key)
        if isinstance(value, list):
            with suppress(TypeError, OverflowError):  # names, in a category; null; 10^400
                entry[key] = array('d', value)
    return entry


def _malformed(path: str, kind: str, error: Exception) -> DataError:
    why = str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
    return DataError(f"'{path}' is not {kind} ({why})")


def _arrays(path: str, content: dict, layout: str) -> Annotations:
    images, entries, categories = (
        objects(content.get(key, []), key) for key in ('images', 'annotations', 'categories')
    )
    integers(categories, 'id')
    if not images:
        raise ValueError('it lists no images')
    if convert := LAYOUTS[layout]:
        entries = [*convert(entries)]
    keypoints = [numbers(entry.get('keypoints')) for entry in entries]
    length = np.array([-1 if k is None else len(k) for k in keypoints], np.int32)
    width = most_frequent(length)
    return Annotations(
        path=path,
        categories=categories,
        image_id=integers(images, 'id'),
        width=integers(images, 'width'),
        height=integers(images, 'height'),
        file_name=np.array([image['file_name'].encode() for image in images], np.bytes_),
        crowd_index=floats(images, 'crowdIndex'),
        id=integers(entries, 'id'),
        image=integers(entries, 'image_id'),
        category_id=integers(entries, 'category_id'),
        iscrowd=np.array([bool(int(entry.get('iscrowd') or 0)) for entry in entries], bool),
        bbox=rows([numbers(entry.get('bbox')) for entry in entries], 4),
        keypoints=rows(keypoints, width).reshape(len(entries), width // 3, 3),
        length=length,
        area=floats(entries, 'area'),
        num_keypoints=integers(entries, 'num_keypoints', -1),
        annotated='annotations' in content,
    )
