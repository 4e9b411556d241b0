"""Images of synthetic people with COCO's annotations.

Keypoints are exact: (x, y) in pixels, with the centre of the first pixel at (0, 0). Boxes and
polygons follow COCO's other convention, in which the first pixel spans 0 to 1.
"""

import cv2
import numpy as np

from .canvas import PART_BASE
from .people import Person
from .scenes import draw_scene
from .visibility import visibility

# Minimum of visible keypoints and of visible area in pixels; otherwise the scene is redrawn.
_MIN_VISIBLE = 5
_MIN_AREA = 260


def draw_image(
    rng: np.random.Generator, image_size: tuple[int, int] = (320, 256)
) -> tuple[np.ndarray, list[dict], np.ndarray]:
    """Draw an image of one to four sufficiently visible people.

    Args:
        rng: random generator.
        image_size: typical (width, height) in pixels; the actual size differs by up to 12 %.

    Returns:
        (H, W, 3) BGR uint8 image; a COCO annotation without `id` and `image_id` for each person;
        (H, W) uint8 id map.
    """
    for attempt in range(20):
        image, ids, people = draw_scene(rng, image_size, crowded=attempt < 10)
        annotations = [annotate(ids, person, n) for n, person in enumerate(people, 1)]
        if all(_is_visible(a) for a in annotations):
            break
    return image, annotations, ids


def _is_visible(annotation: dict) -> bool:
    """Return whether a person is visible enough for annotation."""
    return (
        annotation['keypoints'][2::3].count(2) >= _MIN_VISIBLE and annotation['area'] >= _MIN_AREA
    )


def annotate(ids: np.ndarray, person: Person, number: int) -> dict:
    """Return the COCO annotation of a person, without `id` and `image_id`.

    Args:
        ids: (H, W) uint8 id map of the finished image.
        person: the placed person.
        number: the person's number in the id map.
    """
    silhouette = (ids // PART_BASE == number).astype(np.uint8)
    x, y, w, h = cv2.boundingRect(silhouette)
    keypoints = []
    for (px, py), v in zip(person.keypoints.tolist(), visibility(ids, person, number), strict=True):
        keypoints += [round(px, 2), round(py, 2), int(v)] if v else [0, 0, 0]
    return dict(
        segmentation=_polygons(silhouette[y : y + h, x : x + w], x, y),
        num_keypoints=sum(v > 0 for v in keypoints[2::3]),
        area=int(silhouette.sum()),
        iscrowd=0,
        keypoints=keypoints,
        category_id=1,
        bbox=[float(x), float(y), float(w), float(h)],
    )


def _polygons(mask: np.ndarray, x: int, y: int) -> list[list[float]]:
    """Return the polygons [x0, y0, x1, ...] of an (H, W) mask whose corner is at (x, y).

    Polygons cannot have holes, so a mask with a hole is split through it.
    """
    # Contours pass through pixel centres; dilation by a row and a column makes them span pixels.
    grown = cv2.dilate(np.pad(mask, ((1, 2), (1, 2))), np.ones((2, 2), np.uint8), anchor=(1, 1))
    contours, hierarchy = cv2.findContours(grown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    inner = hierarchy[0, :, 3] >= 0
    for hole in (c for c, is_hole in zip(contours, inner, strict=True) if is_hole):
        # Small holes are ignored.
        if cv2.contourArea(hole) > 12:
            row = int(hole[..., 1].min() + hole[..., 1].max()) // 2 - 1
            return _polygons(mask[:row], x, y) + _polygons(mask[row:], x, y + row)
    outer = [c for c, is_hole in zip(contours, inner, strict=True) if not is_hole and len(c) >= 3]
    return [(c.reshape(-1, 2) - 1.0 + (x, y)).ravel().tolist() for c in outer]
