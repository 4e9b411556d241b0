"""Files of boxes, images, and what the tests of all detectors compare."""

import json

import numpy as np
import pytest

VAL = 'annotations/person_keypoints_val2017.json'


def write(path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def message(kind, function, *arguments, **options) -> str:
    """The line that it refuses them with."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    text = str(caught.value)
    assert '\n' not in text
    return text


def iou(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared)


def picture(height: int, width: int, box) -> np.ndarray:
    """Black, with a red box."""
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1] = (0, 0, 255)
    return image


def detection(**changes) -> dict:
    return dict(image_id=139, category_id=1, bbox=[10, 20, 30, 40], score=0.5) | changes


def annotation(**changes) -> dict:
    return dict(id=7, image_id=1, category_id=1, bbox=[10, 20, 30, 40], iscrowd=0) | changes


def annotated(*annotations, names=('1.jpg',)) -> dict:
    images = [
        dict(id=number, width=100, height=80, file_name=name)
        for number, name in enumerate(names, 1)
    ]
    return dict(images=images, annotations=list(annotations), categories=[dict(id=1)])
