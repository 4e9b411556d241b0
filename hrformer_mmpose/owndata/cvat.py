"""CVAT: XML of "CVAT for images 1.1", with skeletons or points.

Three ways to label keypoints are read: skeletons; one `points` shape a person with all keypoints;
one `points` shape a keypoint, grouped. A `box` with the same group, or around a skeleton, is the
person's box.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from ..errors import DataError
from .source import HIDDEN, VISIBLE, Box, Builder, Person, Point, Source, group, reading

EXPORT = "export the task as 'CVAT for images 1.1'"


def read(path: Path) -> Source:
    """Read an XML file.

    Raises:
        DataError: not CVAT's XML for images.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(f"'{path}' is not XML ({error})") from error
    if root.tag != 'annotations':
        raise DataError(f"'{path}' is not CVAT's XML: its root is <{root.tag}>")
    if root.find('track') is not None and root.find('image') is None:
        raise DataError(f"'{path}' holds tracks of a video: {EXPORT}")
    builder = Builder(str(path), 'CVAT')
    with reading(f"'{path}' is not CVAT's XML for images: {EXPORT}"):
        _declare(root, builder)
        for element in root.iter('image'):
            name = element.attrib['name']
            width, height = int(element.attrib['width']), int(element.attrib['height'])
            image = dict(file_name=name, width=width, height=height)
            builder.add(image, _persons(element, name))
    return builder.build()


def _declare(root: ElementTree.Element, builder: Builder) -> None:
    """Declare keypoints and edges of the skeletons in the task's labels."""
    labels = list(root.iter('label'))
    for label in labels:
        if label.findtext('type') != 'skeleton':
            continue
        name = label.findtext('name', '')
        names = [o.findtext('name', '') for o in labels if o.findtext('parent') == name]
        builder.declare(name, names, _edges(label.findtext('svg') or ''))


def _edges(svg: str) -> list[list[str]]:
    """Return the edges of a skeleton's drawing as pairs of names."""
    try:
        drawing = ElementTree.fromstring(f'<svg>{svg}</svg>')
    except ElementTree.ParseError:
        return []
    nodes, edges = {}, []
    for element in drawing:
        kind = element.get('data-type', '')
        if kind.startswith('element'):
            nodes[element.get('data-node-id')] = element.get('data-label-name')
        elif kind == 'edge':
            edges.append([element.get('data-node-from'), element.get('data-node-to')])
    pairs = [[nodes.get(a), nodes.get(b)] for a, b in edges]
    return [pair for pair in pairs if all(pair)]


def _persons(image: ElementTree.Element, name: str) -> list[Person]:
    points, boxes, persons = [], [], []
    for shape in image:
        number = shape.get('group_id')
        if shape.tag == 'box':
            corners = tuple(float(shape.attrib[key]) for key in ('xtl', 'ytl', 'xbr', 'ybr'))
            boxes.append(Box(shape.attrib['label'], corners, number))
        elif shape.tag == 'skeleton':
            persons.append((number, _skeleton(shape)))
        elif shape.tag == 'points' and ';' in shape.attrib['points']:
            persons.append((number, _all_points(shape)))
        elif shape.tag == 'points':
            points.append(_point(shape, number))
    return group(points, boxes, name, persons)


def _skeleton(shape: ElementTree.Element) -> Person:
    points = [_point(element) for element in shape.iter('points')]
    return Person(shape.attrib['label'], {point.label: point for point in points})


def _all_points(shape: ElementTree.Element) -> Person:
    """Name the points of one shape by their number; `--keypoints` renames them."""
    pairs = [pair.split(',') for pair in shape.attrib['points'].split(';')]
    points = [Point(f'keypoint_{k}', float(x), float(y)) for k, (x, y) in enumerate(pairs)]
    return Person(shape.attrib['label'], {point.label: point for point in points})


def _point(shape: ElementTree.Element, number: str | None = None) -> Point:
    x, y = (float(value) for value in shape.attrib['points'].split(','))
    visibility = HIDDEN if shape.get('occluded') == '1' else VISIBLE
    visibility = 0 if shape.get('outside') == '1' else visibility
    return Point(shape.attrib['label'], x, y, visibility, number)
