"""Turn the annotations of a category into COCO's form, with a line for each kind of repair.

Legend: N persons, K keypoints.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from .boxes import areas_of, boxes_of
from .category import Category
from .image_files import ImageFolder, upright_size
from .keypoint_values import pixels, rows, visibility
from .source import Source, counted


@dataclass(frozen=True)
class KeypointSet:
    """Checked annotations of one category.

    Attributes:
        category: names, edges and flips.
        images: COCO's entries, of images that exist.
        annotations: COCO's entries; category_id is 1.
        notes: lines about what was repaired or left out.
    """

    category: Category
    images: list[dict]
    annotations: list[dict]
    notes: list[str]

    def persons(self) -> list[dict]:
        """Return the annotations with labelled keypoints that are not crowds."""
        return [a for a in self.annotations if a['num_keypoints'] and not a['iscrowd']]

    def of_images(self, ids: set[int]) -> 'KeypointSet':
        """Return the part on some of the images."""
        return replace(
            self,
            images=[image for image in self.images if image['id'] in ids],
            annotations=[a for a in self.annotations if a['image_id'] in ids],
        )


def repair(source: Source, category: Category, folder: ImageFolder) -> KeypointSet:
    """Check and repair the persons of a category, and find their images.

    Raises:
        DataError: nothing is left, or the persons do not have the category's keypoints.
    """
    notes = [*source.notes, *category.notes]
    entries = [a for a in source.annotations if a['category_id'] in category.ids]
    if not entries:
        raise DataError(f"'{source.path}' holds no annotations of '{category.name}'")
    images = _unique_images(source, notes)
    entries = _with_image(entries, images, notes)
    entries, keypoints = rows(entries, category, source.path, notes)
    images, kept = _existing(images, entries, folder, notes)
    entries, keypoints = [entries[row] for row in kept], keypoints[kept]
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    size = np.array([sizes[entry['image_id']] for entry in entries], float).reshape(-1, 2)
    keypoints = visibility(keypoints, entries, notes)
    keypoints[..., :2] = pixels(keypoints[..., :2], keypoints[..., 2] > 0, size, 'points', notes)
    boxes = boxes_of(entries, keypoints, size, notes)
    areas = areas_of(entries, boxes, notes)
    usable = (keypoints[..., 2] > 0).any(1) | np.isfinite(boxes).all(1)
    annotations = _entries(entries, keypoints, boxes, areas, np.flatnonzero(usable), notes)
    images, annotations = _numbered(images, annotations, notes)
    return KeypointSet(category, images, annotations, notes)


def _unique_images(source: Source, notes: list[str]) -> dict:
    """Return the images by id; an image listed twice counts once."""
    images: dict = {}
    for image in source.images:
        first = images.setdefault(image['id'], image)
        if first is not image and first['file_name'] != image['file_name']:
            raise DataError(
                f"'{source.path}': images '{first['file_name']}' and '{image['file_name']}' have "
                f'the same id {image["id"]!r}'
            )
    if twice := len(source.images) - len(images):
        notes.append(f'{counted(twice, "image")} listed twice: counted once')
    return images


def _with_image(entries: list[dict], images: dict, notes: list[str]) -> list[dict]:
    good = [entry for entry in entries if entry['image_id'] in images]
    if lost := len(entries) - len(good):
        notes.append(
            f'{counted(lost, "annotation")} of images that the file does not list: left out'
        )
    return good


def _existing(
    images: dict, entries: list[dict], folder: ImageFolder, notes: list[str]
) -> tuple[list[dict], list[int]]:
    """Return the images that exist, with their sizes, and the rows of the persons on them."""
    persons = Counter(entry['image_id'] for entry in entries)
    found: dict = {}
    lost: dict[str, list] = defaultdict(list)
    for number, image in images.items():
        name = folder.find(image['file_name'])
        if name is not None and not folder.has(image['file_name']):
            lost['moved'].append(f"'{image['file_name']}' is '{name}'")
        why, size = _size(image, folder.root / name) if name else ('not there', None)
        if size:
            found[number] = dict(id=number, file_name=name, width=size[0], height=size[1])
            found[number].update(split=image.get('split'))
        elif persons[number]:
            lost[why].append(image['file_name'])
    if moved := lost.pop('moved', None):
        notes.append(
            f'{counted(len(moved), "image")} not where the file says, but found ({moved[0]})'
        )
    reasons = [
        f"{counted(len(names), 'image')} {why} ('{names[0]}')" for why, names in lost.items()
    ]
    if not any(persons[number] for number in found):
        raise DataError(f"no image with persons is usable in '{folder.root}': {'; '.join(reasons)}")
    notes += [f'{reason}: left out' for reason in reasons]
    kept = [row for row, entry in enumerate(entries) if entry['image_id'] in found]
    return [*found.values()], kept


def _size(image: dict, path: Path) -> tuple[str, tuple[int, int] | None]:
    """Return why an image is unusable, or its width and height."""
    size = upright_size(path)
    if size is None:
        return 'unreadable', None
    stated = image.get('width'), image.get('height')
    if all(isinstance(side, int | float) and side > 0 for side in stated) and stated != size:
        return 'of another size than annotated', None
    return '', size


def _entries(
    entries: list[dict],
    keypoints: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    usable: np.ndarray,
    notes: list[str],
) -> list[dict]:
    """Build COCO's entries of the usable rows."""
    if empty := len(entries) - len(usable):
        notes.append(
            f'{counted(empty, "annotation")} with neither labelled points nor a box: left out'
        )
    return [
        dict(
            id=entries[row].get('id'),
            image_id=entries[row]['image_id'],
            category_id=1,
            iscrowd=entries[row]['iscrowd'],
            bbox=boxes[row].round(3).tolist(),
            area=round(float(areas[row]), 3),
            keypoints=keypoints[row].round(3).ravel().tolist(),
            num_keypoints=int((keypoints[row, :, 2] > 0).sum()),
        )
        for row in usable
    ]


def _numbered(
    images: list[dict], annotations: list[dict], notes: list[str]
) -> tuple[list[dict], list[dict]]:
    """Number images and annotations from 1 where their ids are no different whole numbers."""
    if not _are_ids(image['id'] for image in images):
        numbers = {image['id']: number for number, image in enumerate(images, 1)}
        images = [dict(image, id=numbers[image['id']]) for image in images]
        annotations = [dict(a, image_id=numbers[a['image_id']]) for a in annotations]
        notes.append('the ids of the images are no whole numbers: numbered from 1')
    if not _are_ids(annotation['id'] for annotation in annotations):
        annotations = [dict(a, id=number) for number, a in enumerate(annotations, 1)]
        notes.append('the ids of the annotations are not all different whole numbers: numbered')
    return images, annotations


def _are_ids(values: Iterable) -> bool:
    values = list(values)
    return all(type(value) is int for value in values) and len(set(values)) == len(values)
