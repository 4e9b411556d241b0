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
    """A file of boxes does not know an image."""

    __str__ = Exception.__str__  # KeyError's shows the message in quotes


class CocoDetections(Mapping[str, np.ndarray]):
    """Person boxes by an image's file name, from a file in one of COCO's formats.

    Boxes are those that MMPose's data set loads from the same file, in float32, with the highest
    score first (equal scores in the file's order). A detection file is a list of {image_id,
    category_id, bbox (x, y, width, height), score}, of which category 1 counts; its boxes are not
    clipped. An annotation file is a dictionary with images and annotations; its boxes are those
    of the persons with labelled keypoints that are no crowd, clipped to 0 .. size - 1, score 1. A
    person without keypoints counts where the file says nothing about any (instances_val2017.json).

    A look-up takes a file name or path. With an annotation file, its images are known, by their
    base names; where several folders have one of that name, the path has to end in the file name
    that the annotations give. Without, an image's id is the number its name ends in, by which COCO
    names its files (COCO_val2014_000000000139.jpg and 000000000139.jpg are 139): every name that
    ends in a digit is known, and iteration gives 000000000139.jpg for the images with a box. A
    known image without boxes has an array of shape (0, 5).

    Args:
        path: of the file. annotations: for a detection file, the annotation file of its images.
        threshold: boxes with a lower score are left out.

    Raises:
        DataError: a file is missing, broken or of another kind, holds no person, or has a box or
            score that is no number, a box without area, or one of an image it does not list.
        ConfigError: `annotations` beside an annotation file.
        UnknownImageError: (a look-up; a KeyError) the image is not known.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        annotations: str | os.PathLike | None = None,
        threshold: float = 0.0,
    ):
        self.path, self.threshold = os.fspath(path), threshold
        self._names: dict[str, list[tuple[str, int]]] | None = None
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
        self._with_boxes = {*ids.tolist()}  # below the threshold, too
        kept = ~(boxes[:, 4] < threshold)
        self._boxes = _by_image(ids[kept], boxes[kept])

    def __getitem__(self, name: str | os.PathLike) -> np.ndarray:
        """(n, 5) boxes of the image with that file name; a copy."""
        found = self._boxes.get(self.image_id(name))
        return np.zeros((0, 5), np.float32) if found is None else found.copy()

    def __iter__(self) -> Iterator[str]:
        if self._names is None:
            return (f'{image:012d}.jpg' for image in self._boxes)
        return (file for known in self._names.values() for file, _ in known)

    def __len__(self) -> int:
        return len(self._boxes) if self._names is None else sum(map(len, self._names.values()))

    def __repr__(self) -> str:
        count = sum(map(len, self._boxes.values()))
        return f'{type(self).__name__}({self.path!r}, {count} boxes)'

    def image_id(self, name: str | os.PathLike) -> int:
        """COCO's id of the image with that file name; UnknownImageError if it is not known."""
        name = os.fspath(name)
        if self._names is None:
            digits = re.search(r'[0-9]+$', os.path.splitext(os.path.basename(name))[0])
            if digits is None:
                raise UnknownImageError(
                    f"image '{name}' has no id at the end of its name, by which to find its boxes "
                    f"in '{self.path}': give the annotation file that lists the images"
                )
            return int(digits[0])
        known = self._names.get(os.path.basename(name), [])
        if len(known) > 1:
            whole = '/' + os.path.normpath(name)
            known = [(file, image) for file, image in known if whole.endswith('/' + file)]
            known = sorted(known, key=lambda item: len(item[0]))[-1:]
        if not known:
            raise UnknownImageError(f"image '{name}' is not one of those of '{self._list}'")
        return known[0][1]

    def check_images(self, names: Sequence[str | os.PathLike]) -> None:
        """Raise a `DataError` if the file is of other images: if it knows none of these.

        Without an annotation file an image is known if it has a box, below the threshold, too.
        """
        for name in names:
            with suppress(UnknownImageError):
                if self.image_id(name) in self._with_boxes or self._names is not None:
                    return
        if names:
            raise DataError(
                f"'{self.path}' knows none of the {len(names)} images, e.g. '{names[0]}': give the "
                'boxes of these images (if they show nobody, with the annotation file that lists '
                'them)'
            )

    def _annotated(self) -> tuple[np.ndarray, np.ndarray]:
        """Image ids (n,) and boxes (n, 5) of an annotation file."""
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
        # Where nothing is said about keypoints, stand-ins keep MMPose's rules from dropping it.
        silent = (a.length < 0)[:, None, None]
        filled = replace(a, keypoints=np.where(silent, 1.0, a.keypoints))
        found = persons.annotated(filled, '', person)
        return found.image, np.column_stack([found.bbox, found.score])

    def _detected(self, annotations: str | os.PathLike | None) -> tuple[np.ndarray, np.ndarray]:
        """Image ids (n,) and boxes (n, 5) of a detection file."""
        from ...coco import annotations as files

        d = files.read_detections(self.path)
        person = d.category_id == PERSON
        with np.errstate(over='ignore'):  # 1e300, which is told below
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
        """The annotations of a file, whose images are then the known ones."""
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
        """An error about the first of the rows that are `bad`, if there is one."""
        rows = np.flatnonzero(bad)
        if len(rows):
            more = f' ({len(rows) - 1} more such)' if len(rows) > 1 else ''
            raise DataError(f"{name(rows[0])} in '{self.path}' {what}{more}")


def _starts_with(path: str) -> str:
    """'[' or '{': what a JSON file holds.

    Raises:
        DataError: there is no such file, or it starts otherwise.
    """
    if not os.path.isfile(path):
        raise DataError(f"file of boxes '{path}' does not exist")
    with open(path, encoding='utf-8', errors='replace') as file:
        start = file.read(1024).lstrip()[:1]
    if start not in ('[', '{'):
        state = 'is no JSON' if start else 'is empty'
        raise DataError(
            f"'{path}' {state}: expected COCO's detections (a list) or annotations (a dictionary)"
        )
    return start


def _by_image(ids: np.ndarray, boxes: np.ndarray) -> dict[int, np.ndarray]:
    """Boxes (n, 5) of each image that has one, highest score first."""
    order = np.lexsort([-boxes[:, 4], ids])  # stable: equal scores stay in the file's order
    ids, boxes = ids[order], boxes[order]
    images, starts = np.unique(ids, return_index=True)
    return dict(zip(images.tolist(), np.split(boxes, starts[1:]), strict=False))
