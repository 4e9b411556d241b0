"""LabelMe: a folder of JSON files, one an image; also as X-AnyLabeling writes them.

A point is a keypoint, its label the name. A rectangle is a person's box. `group_id` joins them.
A flag or attribute `occluded`, `hidden` or `difficult` marks a keypoint that is not visible.
"""

import json
import os
import posixpath
from collections import Counter
from pathlib import Path

from ..errors import DataError
from .source import HIDDEN, VISIBLE, Box, Builder, Person, Point, Source, counted, group, reading

HIDING = ('occluded', 'hidden', 'difficult')


def is_labelme(content: object) -> bool:
    """Return whether the content of a JSON file is LabelMe's."""
    return isinstance(content, dict) and 'shapes' in content and 'imagePath' in content


def read(path: Path) -> Source:
    """Read one JSON file, or all in a folder and its subfolders.

    Raises:
        DataError: no such file, or a broken one.
    """
    root = path if path.is_dir() else path.parent
    files = sorted(filter(Path.is_file, path.rglob('*.json'))) if path.is_dir() else [path]
    builder, ignored, other = Builder(str(path), 'LabelMe'), Counter(), 0
    for file in files:
        try:
            content = json.loads(file.read_text(encoding='utf-8-sig'))
        except (ValueError, RecursionError) as error:
            raise DataError(f"'{file}' is not JSON ({error})") from error
        if not is_labelme(content):
            other += 1
            continue
        with reading(f"'{file}' is not LabelMe's JSON"):
            builder.add(*_image(content, file, root, ignored))
    if other == len(files):
        raise DataError(f"folder '{path}' holds no JSON files of LabelMe")
    if other:
        builder.source.notes.append(f'{counted(other, "JSON file")} of other tools: not read')
    builder.source.notes += [
        f'{counted(count, "shape")} of type {kind}, neither point nor rectangle: not read'
        for kind, count in ignored.items()
    ]
    return builder.build()


def _image(content: dict, file: Path, root: Path, ignored: Counter) -> tuple[dict, list[Person]]:
    stated = content['imagePath'].replace('\\', '/')
    path = Path(os.path.abspath(file.parent / stated))  # the path is relative to the JSON file
    folder = file.parent.relative_to(root).as_posix()
    name = str(path) if os.path.isfile(path) else posixpath.normpath(posixpath.join(folder, stated))
    image = dict(file_name=name, width=content.get('imageWidth'), height=content.get('imageHeight'))
    points, boxes = [], []
    for shape in content['shapes']:
        kind, label = shape.get('shape_type') or 'polygon', str(shape['label']).strip()
        if kind == 'point':
            x, y = shape['points'][0]
            points.append(Point(label, x, y, _visibility(shape), shape.get('group_id')))
        elif kind == 'rectangle':
            xs, ys = zip(*shape['points'], strict=True)  # two corners, or four
            boxes.append(Box(label, (min(xs), min(ys), max(xs), max(ys)), shape.get('group_id')))
        else:
            ignored[kind] += 1
    return image, group(points, boxes, name)


def _visibility(shape: dict) -> int:
    marks = {**shape, **(shape.get('flags') or {}), **(shape.get('attributes') or {})}
    return HIDDEN if any(marks.get(name) is True for name in HIDING) else VISIBLE
