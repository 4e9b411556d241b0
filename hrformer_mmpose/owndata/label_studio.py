"""Label Studio: the export "JSON", with key points and rectangles in percent of the image.

A region's `parentID`, or a relation to it, joins a point to a rectangle; otherwise the smallest
rectangle around it does.
"""

import math
import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import DataError
from .source import Box, Builder, Point, Source, counted, group, reading

UPLOADED = re.compile(r'^[0-9a-f]{8}-')  # Label Studio's prefix of uploaded files


def read(path: str, tasks: list[Any]) -> Source:
    """Read the tasks of an export.

    Raises:
        DataError: not the export "JSON".
    """
    builder, notes = Builder(path, 'Label Studio'), Counter()
    with reading(f"'{path}' is not Label Studio's JSON: export as 'JSON', not 'JSON-MIN'"):
        for task in tasks:
            _add(builder, task, notes)
    builder.source.notes += [
        f'{counted(count, noun)} {what}' for (noun, what), count in notes.items()
    ]
    return builder.build()


def _add(builder: Builder, task: dict, notes: Counter) -> None:
    done = [a for a in task['annotations'] if not a.get('was_cancelled')]
    if not done:
        notes['task', 'without an annotation: not read'] += 1
        return
    if len(done) > 1:
        notes['image', 'with several annotations: the first is read'] += 1
    name = _file_name(task)
    points, boxes, size = _regions(done[0]['result'], notes)
    image = dict(file_name=name, width=size[0], height=size[1])
    builder.add(image, group(points, boxes, name))


def _regions(result: list[dict], notes: Counter) -> tuple[list[Point], list[Box], tuple]:
    """Read the regions of an annotation; a box's group is its id."""
    relations = [(r['from_id'], r['to_id']) for r in result if r['type'] == 'relation']
    parents = dict([*relations, *(pair[::-1] for pair in relations)])
    rectangles = {region['id'] for region in result if region['type'] == 'rectanglelabels'}
    points, boxes, size = [], [], (None, None)
    for region in result:
        kind = region['type']
        if kind not in ('keypointlabels', 'rectanglelabels'):
            if kind != 'relation':
                notes['region', f'of type {kind}: not read'] += 1
            continue
        if region.get('image_rotation'):
            raise DataError(
                f'region {region["id"]} is of an image that was rotated in Label Studio: rotate '
                'the file instead'
            )
        size = region['original_width'], region['original_height']
        value = region['value']
        if not value.get(kind):
            notes['region', 'without a label: not read'] += 1
            continue
        label = value[kind][0].strip()
        x, y = value['x'] * size[0] / 100, value['y'] * size[1] / 100
        if kind == 'rectanglelabels':
            boxes.append(Box(label, _corners(value, size), region['id']))
        else:
            parent = region.get('parentID') or parents.get(region['id'])
            points.append(Point(label, x, y, group=parent if parent in rectangles else None))
    return points, boxes, size


def _corners(value: dict, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box around a rectangle, which turns around its top left corner."""
    x, y = value['x'] * size[0] / 100, value['y'] * size[1] / 100
    width, height = value['width'] * size[0] / 100, value['height'] * size[1] / 100
    turn = math.radians(value.get('rotation') or 0)
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [
        (x + w * cos - h * sin, y + w * sin + h * cos) for w in (0, width) for h in (0, height)
    ]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _file_name(task: dict) -> str:
    """Return the image's path without address, storage and the prefix of uploads."""
    data = task['data']
    address = data.get('image') or next((v for v in data.values() if isinstance(v, str)), '')
    parts = urlsplit(address)
    local = parse_qs(parts.query).get('d')  # /data/local-files/?d=folder/name.jpg
    path = local[0] if local else unquote(parts.path)
    if '/upload/' in path:
        path = UPLOADED.sub('', path.rpartition('/')[2])
    return path.lstrip('/')
