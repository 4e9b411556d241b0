"""COCO's keypoint file, read without masks; values are repaired later (`repair`)."""

from typing import Any

from ..errors import DataError
from .source import Source, reading

LISTS = ('images', 'annotations', 'categories')


def without_mask(entry: dict) -> dict:
    """Drop the mask of an object, as a hook of the JSON parser: most of a file's size."""
    entry.pop('segmentation', None)
    return entry


def read(path: str, content: dict[str, Any]) -> Source:
    """Take images, annotations and categories from the content of a file.

    Raises:
        DataError: a list is missing, or an entry lacks what names it.
    """
    for key in LISTS:
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise DataError(f"'{path}' is not in COCO's format: '{key}' is no list of objects")
        if not entries:
            raise DataError(f"'{path}': the list '{key}' is empty")
    for key, needed in (
        ('images', dict(id=int | str, file_name=str)),
        ('annotations', dict(image_id=int | str, category_id=int | str)),
        ('categories', dict(id=int | str, name=int | str)),
    ):
        for number, entry in enumerate(content[key]):
            for name, kind in needed.items():
                if not isinstance(entry.get(name), kind):
                    value = entry.get(name)
                    raise DataError(f"'{path}': {key}[{number}] has the {name} {value!r}")
    images, annotations, categories = (content[key] for key in LISTS)
    for number, entry in enumerate(annotations):
        with reading(f"'{path}': annotations[{number}] has the iscrowd {entry.get('iscrowd')!r}"):
            entry['iscrowd'] = int(bool(int(entry.get('iscrowd') or 0)))  # bool('0') is True
    return Source(path, 'COCO', images, annotations, categories)
