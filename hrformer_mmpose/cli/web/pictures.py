"""Poses on an image of the page: estimated when boxes change, drawn again when the threshold does.

Shapes: (H, W) of the image.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ...errors import DataError
from ...imaging import headers
from ...imaging.drawing import draw_poses
from ...imaging.images import decode, read_image, write_image
from ...imaging.poses import Pose
from .model import Model
from .storage import file_stem

MAX_PIXELS = 64_000_000  # of an image: 200 MB as BGR, and a few copies
MAX_BOXES = 100


@dataclass(frozen=True, eq=False)
class Picture:
    """An image and its poses.

    Attributes:
        path: of the upload.
        name: for messages and names of results.
        shape: (H, W).
        poses: in the order of their boxes.
        problems: one line for each box that could not be used.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    poses: tuple[Pose, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def boxes(self) -> list[list[float]]:
        """Boxes x0, y0, x1, y1 in pixels, to a tenth."""
        return [_rounded(pose.box) for pose in self.poses]


def open_picture(path: Path, name: str, model: Model) -> Picture:
    """Check an upload; estimate the poses if --boxes says where persons are.

    Raises:
        DataError: it is not an image, or a larger one than `MAX_PIXELS`.
    """
    data = path.read_bytes()
    shape = headers.jpeg_shape(data) or headers.shape(data)
    if shape is None and cv2.haveImageReader(str(path)) and not headers.is_truncated(data):
        # Its size would be known only once it has taken the memory.
        raise DataError(f"'{name}' is no JPEG, PNG, WebP, BMP or TIFF: save it as one of these")
    _check_size(shape or (0, 0), name)
    image = decode(data, name)
    _check_size(image.shape[:2], name)
    picture = Picture(path, name, image.shape[:2])
    if model.detector is not None:
        return _estimate(picture, image, model.detector(image), model)
    return with_whole_image(picture, model) if model.is_whole_image else picture


def _check_size(shape: tuple[int, int], name: str) -> None:
    H, W = shape
    if H * W > MAX_PIXELS:
        raise DataError(
            f"'{name}' has {W} x {H} pixels, more than the {MAX_PIXELS // 1_000_000} million that "
            'this page takes: make it smaller'
        )


def with_detections(picture: Picture, model: Model) -> Picture:
    """Return the picture with the persons that the detector finds.

    Raises:
        DataError: there is no detector.
    """
    if model.detector is None:
        raise DataError('no detector is loaded: start the page with --boxes onnx:FILE')
    image = read_image(picture.path)
    return _estimate(picture, image, model.detector(image), model)


def with_whole_image(picture: Picture, model: Model) -> Picture:
    """Return the picture with one person from edge to edge."""
    H, W = picture.shape
    return with_boxes(picture, [[0, 0, W, H]], model)


def with_boxes(picture: Picture, boxes: Sequence, model: Model) -> Picture:
    """Return the picture with the persons in some boxes; poses of earlier boxes are kept.

    Args:
        picture: earlier poses.
        boxes: rows of x0, y0, x1, y1 in pixels, as the browser sends them.
        model: network.

    Raises:
        DataError: not such rows, or more than `MAX_BOXES`.
    """
    rows = check_boxes(boxes)
    known = {tuple(box): pose for box, pose in zip(picture.boxes, picture.poses, strict=True)}
    new = [row for row in rows if tuple(row) not in known]
    problems: tuple[str, ...] = ()
    if new:
        fresh = _estimate(picture, read_image(picture.path), np.array(new), model)
        known |= {tuple(_rounded(pose.box)): pose for pose in fresh.poses}
        problems = fresh.problems
    poses = [known[tuple(row)] for row in rows if tuple(row) in known]
    return replace(picture, poses=tuple(poses), problems=problems)


def check_boxes(boxes) -> list[list[float]]:
    """Return boxes with ordered corners, rounded to a tenth of a pixel.

    Args:
        boxes: rows of x0, y0, x1, y1 in pixels, as the browser sends them.

    Raises:
        DataError: not such rows, or more than `MAX_BOXES`.
    """
    if not isinstance(boxes, list) or len(boxes) > MAX_BOXES:
        raise DataError(f'up to {MAX_BOXES} boxes can be drawn')
    rows = []
    for box in boxes:
        is_box = isinstance(box, list) and len(box) == 4
        if not is_box or not all(_is_number(value) for value in box):
            raise DataError('a box is four numbers: x0, y0, x1, y1')
        x0, y0, x1, y1 = box
        rows.append(_rounded([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]))
    return rows


def _is_number(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e6


def _rounded(box: Sequence) -> list[float]:
    return [round(float(value), 1) for value in box]


def _estimate(picture: Picture, image: np.ndarray, boxes: np.ndarray, model: Model) -> Picture:
    """Return the picture with the poses of new boxes (n, 4) or (n, 5)."""
    (result,) = model.estimator.stream([image], [boxes[:MAX_BOXES]], live=True)
    problems = [line.replace(result.name, f"'{picture.name}'") for line in result.problems]
    return replace(picture, poses=tuple(result.poses), problems=tuple(problems))


def write_results(picture: Picture, folder: Path, threshold: float) -> tuple[Path, Path]:
    """Write the drawn picture, and COCO results of image 1.

    Args:
        picture: image and poses.
        folder: is created.
        threshold: keypoints with a lower score are not drawn.

    Returns:
        Paths of both.
    """
    folder.mkdir(parents=True)
    stem = file_stem(picture.name)
    drawn, results = folder / f'{stem}-poses.jpg', folder / f'{stem}-poses.json'
    write_image(drawn, draw_poses(read_image(picture.path), picture.poses, threshold))
    results.write_text(json.dumps([pose.to_coco(1) for pose in picture.poses]), encoding='utf-8')
    return drawn, results


def describe(picture: Picture, model: Model) -> str:
    """Return a line about the poses, and what to do if there are none."""
    H, W = picture.shape
    text = f"'{picture.name}', {W} x {H} pixels: "
    count = len(picture.poses)
    if count:
        return text + ('1 person' if count == 1 else f'{count} people')
    if model.detector is not None:
        text += 'nobody is detected. '
    return text + 'Drag a box around each person.'
