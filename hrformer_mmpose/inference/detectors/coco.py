"""Person boxes from a file in one of COCO's formats."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from ...errors import ConfigError, DataError
from .common import PERSON


class UnknownImageError(DataError, KeyError):
    """Image that a file of boxes does not list."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class CocoDetections(Mapping[str, np.ndarray]):
    """Person boxes by an image's file name, from a file in one of COCO's formats.

    Boxes equal those that MMPose's data set loads from the same file: float32, by descending score
    (equal scores in the file's order).

    A detection file is a list of {image_id, category_id, bbox (x, y, width, height), score}; boxes
    of category 1 count and are not clipped. An annotation file is a dictionary with images and
    annotations. Its boxes are those of persons with labelled keypoints, without crowds, clipped to
    0 .. size - 1, with score 1. Persons count without keypoints if the file contains no keypoints
    at all (instances_val2017.json).

    Images are looked up by file name or path. An annotation file lists the images, found by base
    name; if several folders contain that name, the path must end in the annotated file name.
    Without an annotation file the digits at the end of the name are the image's id, as in COCO
    (COCO_val2014_000000000139.jpg and 000000000139.jpg are 139), and iteration yields
    000000000139.jpg for each image with a box. An image without boxes has an array (0, 5).

    Args:
        path: of the file.
        annotations: annotation file for the images of a detection file.
        threshold: boxes with a lower score are dropped.

    Raises:
        DataError: a file is missing, broken or of another kind, contains no person, or has a box or
            score that is not a number, a box without area, or a box of an unlisted image.
        ConfigError: `annotations` given with an annotation file.
        UnknownImageError: (a look-up; a KeyError) the image is not listed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        annotations: str | os.PathLike | None = None,
        threshold: float = 0.0,
    ):
        self.path, self.threshold = os.fspath(path), threshold
        self._names: dict[str, list[tuple[str, int]]] | None = None
        self._list: str | None = None
        if _starts_with(self.path) == '{':
            if annotations is not None:
                raise ConfigError(
                    f"'{self.path}' is an annotation file, which names its images itself: leave "
                    f"out annotations='{os.fspath(annotations)}'"
                )
            ids, boxes = self._annotated()
        else:
            ids, boxes = self._detected(annotations)
        if not len(boxes):
            raise DataError(f"'{self.path}' holds no box of a person (category_id {PERSON})")
        self._with_boxes = {*ids.tolist()}  # also images with boxes below the threshold only
        above = ~(boxes[:, 4] < threshold)
        self._boxes = _by_image(ids[above], boxes[above])

    def __getitem__(self, name: str | os.PathLike) -> np.ndarray:
        """Return a copy of the boxes (n, 5) of the image with that file name."""
        boxes = self._boxes.get(self.image_id(name))
        return np.zeros((0, 5), np.float32) if boxes is None else boxes.copy()

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            return (f'{image:012d}.jpg' for image in self._boxes)
        return (file for images in self._names.values() for file, _ in images)

    def __len__(self) -> int:
        return len(self._boxes) if self._names is None else sum(map(len, self._names.values()))

    def __repr__(self) -> str:
        count = sum(map(len, self._boxes.values()))
        return f'{type(self).__name__}({self.path!r}, {count} boxes)'

    @property
    def annotation_file(self) -> str | None:
        """Path of the annotation file that lists the images; None without one."""
        return self._list

    def image_id(self, name: str | os.PathLike) -> int:
        """Return COCO's id of the image with that file name.

        Raises:
            UnknownImageError: the image is not listed.
        """
        name = os.fspath(name)
        if self._names is None:
            digits = re.search(r'[0-9]+$', os.path.splitext(os.path.basename(name))[0])
            if digits is None:
                raise UnknownImageError(
                    f"image '{name}' has no id at the end of its name, by which to find its boxes "
                    f"in '{self.path}': give the annotation file that lists the images"
                )
            return int(digits[0])
        matches = self._names.get(os.path.basename(name), [])
        if len(matches) > 1:
            whole = '/' + os.path.normpath(name)
            matches = [(file, image) for file, image in matches if whole.endswith('/' + file)]
            matches = sorted(matches, key=lambda item: len(item[0]))[-1:]
        if not matches:
            raise UnknownImageError(f"image '{name}' is not one of those of '{self._list}'")
        return matches[0][1]

    def check_images(self, names: Sequence[str | os.PathLike]) -> None:
        """Raise a `DataError` if the file lists none of these images.

        Without an annotation file an image counts as listed if it has a box of any score.
        """
        for name in names:
            with suppress(UnknownImageError):
                if self.image_id(name) in self._with_boxes or self._names is not None:
                    return
        if names:
            images = f"of the {len(names)} images, e.g. '{names[0]}'"
            if self._names is not None:
                raise DataError(
                    f"'{self._list}' lists none {images}: give the file of these images"
                )
            raise DataError(
                f"'{self.path}' has no box for any {images}: detections name an image by its id, "
                "which must be the number at the end of the file's name, or give the annotation "
                'file that lists the images (--annotations)'
            )

    def _annotated(self) -> tuple[np.ndarray, np.ndarray]:
        """Read image ids (n,) and boxes (n, 5) of an annotation file."""
        from ...coco import persons

        a = self._read_images(self.path)
        if not a.annotated:
            raise DataError(f"'{self.path}' lists images but no annotations")
        person = (a.category_id == PERSON) & ~a.iscrowd & (a.num_keypoints != 0)
        unlisted = person & (a.rows_of(a.image) < 0)
        broken = person & ~np.isfinite(a.bbox).all(1)

        def name(row: int) -> str:
            return f'annotation {a.id[row]}'

        self._refuse(unlisted, name, 'is of an image that the file does not list')
        self._refuse(broken, name, 'has no box of four numbers')
        # MMPose drops persons without keypoints: insert some where the file contains none.
        missing = (a.length < 0)[:, None, None]
        filled = replace(a, keypoints=np.where(missing, 1.0, a.keypoints))
        rows = persons.annotated(filled, '', person)
        return rows.image, np.column_stack([rows.bbox, rows.score])

    def _detected(self, annotations: str | os.PathLike | None) -> tuple[np.ndarray, np.ndarray]:
        """Read image ids (n,) and boxes (n, 5) of a detection file."""
        from ...coco import annotations as files

        d = files.read_detections(self.path)
        person = d.category_id == PERSON
        with np.errstate(over='ignore'):  # 1e300: refused below
            boxes = np.column_stack([d.bbox, d.score]).astype(np.float32)
            boxes[:, 2:4] += boxes[:, :2]
        broken = person & ~np.isfinite(boxes).all(1)
        empty = person & (d.bbox[:, 2:].min(1) <= 0)

        def name(row: int) -> str:
            return f'detection {row} (of image {d.image[row]})'

        self._refuse(broken, name, 'has no box of four numbers and a score')
        self._refuse(empty, name, 'has a box without area')
        if annotations is not None:
            a = self._read_images(os.fspath(annotations))
            unlisted = person & (a.rows_of(d.image) < 0)
            self._refuse(unlisted, name, f"is of an image that '{a.path}' does not list")
        return d.image[person], boxes[person]

    def _read_images(self, path: str):
        """Read an annotation file and remember its list of images."""
        from ...coco import annotations as files

        if _starts_with(path) != '{':
            raise DataError(f"'{path}' is a list: an annotation file is a dictionary with images")
        a = files.read(path)
        if not len(a.image_id):
            raise DataError(f"'{path}' lists no images")
        self._list, self._names = path, {}
        for file, image in zip(a.names(), a.image_id.tolist(), strict=True):
            self._names.setdefault(os.path.basename(file), []).append((file, image))
        return a

    def _refuse(self, bad: np.ndarray, name: Callable[[int], str], what: str) -> None:
        """Raise an error for the first row that is `bad`, if any."""
        rows = np.flatnonzero(bad)
        if len(rows):
            more = f' ({len(rows) - 1} more such)' if len(rows) > 1 else ''
            raise DataError(f"{name(rows[0])} in '{self.path}' {what}{more}")


def _starts_with(path: str) -> str:
    """Return the first character of a JSON file, '[' or '{'.

    Raises:
        DataError: the file is missing or starts with another character.
    """
    if not os.path.isfile(path):
        raise DataError(f"file of boxes '{path}' does not exist")
    with open(path, encoding='utf-8-sig', errors='replace') as file:
        start = file.read(1024).lstrip()[:1]
    if start not in ('[', '{'):
        state = 'is no JSON' if start else 'is empty'
        raise DataError(
            f"'{path}' {state}: expected COCO's detections (a list) or annotations (a dictionary)"
        )
    return start


def _by_image(ids: np.ndarray, boxes: np.ndarray) -> dict[int, np.ndarray]:
    """Group boxes (n, 5) by image, by descending score."""
    order = np.lexsort([-boxes[:, 4], ids])  # stable: equal scores keep the file's order
    ids, boxes = ids[order], boxes[order]
    images, starts = np.unique(ids, return_index=True)
    return dict(zip(images.tolist(), np.split(boxes, starts[1:]), strict=False))
