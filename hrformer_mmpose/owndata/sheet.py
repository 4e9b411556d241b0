"""Contact sheet of annotated persons, with a legend of the keypoints by side."""

import random
from pathlib import Path

import cv2
import numpy as np

from ..imaging.canvas import Layer, write_text
from ..imaging.crops import centers_and_scales, crop, crop_matrix
from ..imaging.drawing import LEFT, MIDDLE, RIGHT, WHITE, side_color
from ..imaging.images import read_image, write_image
from ..imaging.poses import Pose
from ..imaging.sheet import SHEET_COLOR, contact_sheet
from ..imaging.skeleton import Skeleton
from .repair import KeypointSet
from .source import VISIBLE

PERSONS = 24
CROP = 320  # pixels, the longer side of a person's crop
PADDING = 1.25
TITLE = 'left: orange, right: blue, middle: green; fainter: hidden'
TEXT, LINE = 11, 24  # pixels: capitals, distance of lines
HIDDEN_SCORE = 0.45  # drawn fainter
# Radius in pixels: side colors are seen also without edges; not for the points of a face.
DOT, SPARSE = 6, 40
ROWS = 40  # of the legend


def write(path: Path, labels: KeypointSet, skeleton: Skeleton, folder: Path, seed: int) -> None:
    """Draw persons with most of their keypoints labelled, and write the sheet to a file.

    Args:
        path: of the sheet.
        labels: the annotations.
        skeleton: names, edges and flips.
        folder: of the images.
        seed: of the choice among persons.
    """
    names = {image['id']: image['file_name'] for image in labels.images}
    items = (
        _item(person, folder / names[person['image_id']], names[person['image_id']], skeleton)
        for person in _chosen(labels, seed)
    )
    sheet = contact_sheet(items, tile=CROP, title=TITLE)
    write_image(path, np.vstack([sheet, _legend(skeleton, sheet.shape[1])]))


def _chosen(labels: KeypointSet, seed: int) -> list[dict]:
    """Choose persons on different images, those with more keypoints first; then one of an image."""
    best: dict = {}
    persons = labels.persons()
    random.Random(seed).shuffle(persons)
    for person in persons:
        image = person['image_id']
        if image not in best or person['num_keypoints'] > best[image]['num_keypoints']:
            best[image] = person
    full = sorted(best.values(), key=lambda person: -person['num_keypoints'])
    return full[:PERSONS]


def _item(
    person: dict, path: Path, caption: str, skeleton: Skeleton
) -> tuple[np.ndarray, list[Pose], str]:
    """Cut a person out; return the crop, the pose in it and the caption."""
    image = read_image(path)
    keypoints = np.reshape(person['keypoints'], (-1, 3))
    x, y, w, h = person['bbox']
    box = np.array([[x, y, x + w, y + h]])
    scale = CROP / max(w, h) / PADDING
    size = max(64, round(w * PADDING * scale)), max(64, round(h * PADDING * scale))
    centers, scales = centers_and_scales(box, size, PADDING)
    matrix = crop_matrix(centers[0], scales[0], size, udp=False)
    points = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    corners = box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    v = keypoints[:, 2]
    scores = np.where(v == VISIBLE, 1.0, np.where(v > 0, HIDDEN_SCORE, 0.0))
    picture = crop(image, matrix, size)
    cv2.rectangle(picture, *np.rint(corners).astype(int).tolist(), WHITE, 1)
    for k in np.flatnonzero(v > 0) if len(v) <= SPARSE else ():
        _draw_dot(picture, points[k], side_color(skeleton, k), scores[k])
    # Without a box, no score is written: annotations have none.
    pose = Pose(points, scores, np.full(4, np.nan), skeleton=skeleton)
    return picture, [pose], caption


def _draw_dot(picture: np.ndarray, point: np.ndarray, color: tuple, opacity: float) -> None:
    layer = Layer(picture, point - DOT - 2, point + DOT + 2, 4)
    if layer.part.size:  # the point may lie far outside of its box
        layer.disc(point, DOT, color, opacity)
        layer.blend()


def _legend(skeleton: Skeleton, width: int) -> np.ndarray:
    """Draw the names in three columns, pairs side by side: left, right, middle."""
    columns = _columns(skeleton)
    rows = min(ROWS, max(map(len, columns)))
    legend = np.full(((rows + 2) * LINE, width, 3), SHEET_COLOR, np.uint8)
    for number, (names, color) in enumerate(zip(columns, (LEFT, RIGHT, MIDDLE), strict=True)):
        x = LINE + number * width // 3
        shown = names[:rows] if len(names) <= rows else [*names[: rows - 1], '...']
        for row, name in enumerate(shown):
            y = (row + 1) * LINE
            _draw_dot(legend, np.array([x, y - TEXT / 2]), color, 1)
            write_text(legend, name, (x + LINE, y), TEXT, (225, 225, 225), width / 3 - 3 * LINE)
    return legend


def _columns(skeleton: Skeleton) -> tuple[list[str], list[str], list[str]]:
    """Return the names of the left, their mirror images, and the rest."""
    left = [k for k in range(len(skeleton.names)) if skeleton.side(k) == 'left']
    right = [skeleton.flip_indices[k] for k in left]
    rest = [k for k in range(len(skeleton.names)) if k not in {*left, *right}]
    return tuple([skeleton.names[k] for k in column] for column in (left, right, rest))
