"""Checks of annotations and detections, reported by file and id.

Each check is a mask over the rows of an array. A `Finding` lists the rows that failed a check.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..imaging.images import MAX_SIDE
from .annotations import Annotations, Detections

TOO_LARGE = (
    f'is of an image with more than the {MAX_SIDE} pixels a side that OpenCV cuts crops from'
)


@dataclass(frozen=True, eq=False)
class Finding:
    """Rows of a file that failed one check.

    Attributes:
        path: path of the file.
        kind: 'annotation', 'image' or 'detection'.
        what: description of the problem.
        rows: indices of the rows, ascending.
        ids: name of each row in messages.
        fatal: True if such a row cannot be a sample.
    """

    path: str
    kind: str
    what: str
    rows: np.ndarray
    ids: list[str]
    fatal: bool = True

    def lines(self) -> Iterator[str]:
        """Yield one line for each row, naming file and id."""
        for name in self.ids:
            yield f"{self.kind} {name} in '{self.path}' {self.what}"


def check_annotations(annotations: Annotations, num_keypoints: int) -> list[Finding]:
    """Check images and persons of an annotation file.

    Args:
        annotations: see `annotations.read`.
        num_keypoints: number of keypoints that the data set defines.
    """
    a = annotations
    found: list[Finding] = []

    def add(kind: str, mask: np.ndarray, what: str, fatal: bool = True) -> None:
        rows = np.flatnonzero(mask)
        if len(rows):
            ids = a.id if kind == 'annotation' else a.image_id
            found.append(Finding(a.path, kind, what, rows, ids[rows].astype(str).tolist(), fatal))

    add('image', repeated(a.image_id), 'has the id of an earlier image')
    add('image', (a.width <= 0) | (a.height <= 0), 'has no size (width, height)')
    add('annotation', repeated(a.id), 'has the id of an earlier annotation')
    place = a.rows_of(a.image)
    add('annotation', place < 0, 'is of an image that the file does not list')
    known = [category['id'] for category in a.categories]
    add('annotation', ~np.isin(a.category_id, known), 'has a category that the file does not list')
    add('annotation', (a.length < 0) & ~a.iscrowd, 'has no keypoints')
    numbers = 3 * num_keypoints
    other = (a.length >= 0) & (a.length != numbers) & ~a.iscrowd
    add('annotation', other, f'does not have {num_keypoints} keypoints ({numbers} numbers)')
    right = a.length == numbers
    add('annotation', right & ~finite(a.keypoints), 'has keypoints that are no numbers (NaN)')
    add('annotation', ~finite(a.bbox), 'has no box of four numbers')
    add('annotation', np.isinf(a.area) | (a.area < 0), 'has an area that is no size')

    labelled = a.labelled()
    person = ~a.iscrowd & (place >= 0) & finite(a.bbox) & (labelled > 0)
    width, height = a.width[place], a.height[place]
    empty = person & (clipped_sides(a.bbox, width, height).min(1) <= 0)
    add('annotation', empty, 'has a box without area inside its image')
    add('annotation', person & (np.maximum(width, height) > MAX_SIDE), TOO_LARGE)
    x, y, v = np.moveaxis(a.keypoints, -1, 0)
    beyond = (v > 0) & ((x < 0) | (y < 0) | (x > width[:, None]) | (y > height[:, None]))
    add('annotation', person & beyond.any(1), 'has labelled keypoints outside its image', False)
    stated = right & (a.num_keypoints >= 0) & (a.num_keypoints != labelled)
    stated &= np.isnan(a.crowd_index[place])  # CrowdPose counts the visible ones only
    add('annotation', stated, 'has num_keypoints that differs from its labelled ones', False)
    return found


def check_detections(detections: Detections, annotations: Annotations) -> list[Finding]:
    """Check a detection file, and that it belongs to the images of the annotations."""
    d = detections
    found: list[Finding] = []

    def add(mask: np.ndarray, what: str, fatal: bool = True) -> None:
        rows = np.flatnonzero(mask)
        if len(rows):
            ids = [f'{row} (of image {d.image[row]})' for row in rows]
            found.append(Finding(d.path, 'detection', what, rows, ids, fatal))

    place = annotations.rows_of(d.image)
    add(place < 0, f"is of an image that '{annotations.path}' does not list")
    numbers = finite(d.bbox) & np.isfinite(d.score)
    add(~numbers, 'has no box of four numbers and a score')
    add(numbers & (d.bbox[:, 2:].min(1) <= 0), 'has a box without area')
    width, height = annotations.width[place], annotations.height[place]
    inside = clipped_sides(d.bbox, width, height).min(1) > 0
    sized = numbers & (place >= 0) & (d.bbox[:, 2:].min(1) > 0)
    add(sized & ~inside, 'has a box outside its image', False)
    add(sized & (np.maximum(width, height) > MAX_SIDE), TOO_LARGE)
    known = [category['id'] for category in annotations.categories]
    add(~np.isin(d.category_id, known), 'has an unknown category', False)
    return found


def usable(findings: list[Finding], kind: str, count: int) -> np.ndarray:
    """Return a (count,) mask of the rows of a kind without a fatal finding."""
    mask = np.ones(count, bool)
    for finding in findings:
        if finding.fatal and finding.kind == kind:
            mask[finding.rows] = False
    return mask


def repeated(ids: np.ndarray) -> np.ndarray:
    """Return an (N,) mask of the ids that occurred before."""
    mask = np.ones(len(ids), bool)
    mask[np.unique(ids, return_index=True)[1]] = False
    return mask


def finite(values: np.ndarray) -> np.ndarray:
    """Return an (N,) mask of the rows whose numbers are all finite."""
    return np.isfinite(values).all(tuple(range(1, values.ndim)))


def clipped_sides(bbox: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the (N, 2) sides of boxes clipped to their images, as the data set clips them."""
    start, last = bbox[:, :2], np.stack([width - 1, height - 1], 1)
    return np.clip(start + bbox[:, 2:], 0, last) - np.clip(start, 0, last)
