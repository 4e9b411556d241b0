"""Draw poses into an image.

Shapes: (H, W) of an image in pixels, K keypoints of a person.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from . import sides
from .canvas import Layer, check_image, text_size
from .skeleton import Skeleton

if TYPE_CHECKING:
    from .poses import Pose

# BGR by the side of the person: left orange, right blue, middle green.
LEFT, RIGHT, MIDDLE = (0, 140, 255), (255, 150, 40), (90, 210, 60)
WHITE, DARK = (255, 255, 255), (24, 24, 24)

DRAW_THRESHOLD = 0.3  # keypoints with a lower score are not drawn
MIN_OPACITY = 0.4  # of a keypoint whose score equals the threshold
OPAQUE_SCORE = 0.8  # keypoints are opaque from this score up
MAX_COORDINATE = 1e5  # pixels; beyond any image, within OpenCV's fixed-point numbers


def side_color(skeleton: Skeleton, *keypoints: int) -> tuple[int, int, int]:
    """Return the BGR color of a keypoint, or of the limb between several.

    A limb between left and right has the color of the middle. A limb from the middle to one side
    has the color of that side (nose to left eye: left).
    """
    lateral = {skeleton.side(keypoint) for keypoint in keypoints} - {'middle'}
    return dict(left=LEFT, right=RIGHT)[lateral.pop()] if len(lateral) == 1 else MIDDLE


def id_color(number: int) -> tuple[int, int, int]:
    """Return the BGR color of an identity; successive ones differ by the golden angle in hue."""
    hue = np.uint8(number * 180 * (math.sqrt(5) - 1) / 2 % 180)
    pixel = cv2.cvtColor(np.uint8([[[hue, 190, 245]]]), cv2.COLOR_HSV2BGR)
    return tuple(int(value) for value in pixel[0, 0])


def draw_poses(
    image: np.ndarray,
    poses: Sequence['Pose'],
    threshold: float = DRAW_THRESHOLD,
    boxes: bool = True,
    color_by: str = 'side',
) -> np.ndarray:
    """Return a copy of `image` with poses drawn into it.

    Limbs and joints have the color of their side. Their width grows with the person, within bounds
    that grow with the image. They fade as their score approaches the threshold.

    Args:
        image: (H, W, 3) BGR uint8, not changed.
        poses: coordinates in pixels of `image`, possibly outside of it.
        threshold: keypoints with a lower score and keypoints that are not finite are not drawn.
        boxes: also mark the corners of the boxes and write the persons' scores there, after the
            identities of tracked people.
        color_by: 'side' of the body, or 'id': one color a person, by `Pose.track_id`.

    Raises:
        DataError: `image` is not (H, W, 3) BGR uint8.
    """
    check_image(image)
    drawn = np.array(image, order='C')  # OpenCV cannot write to a mirrored view
    persons = [_Person.of(pose, threshold, image.shape, color_by) for pose in poses]
    persons.sort(key=lambda person: -person.size)  # draw small persons over large ones
    for person in persons:
        _draw_person(drawn, person, threshold, boxes)
    if boxes:
        _draw_labels(drawn, persons)
    return drawn


@dataclass(frozen=True)
class _Person:
    """A pose and the sizes of its drawing.

    Attributes:
        pose: the pose.
        points: (K, 2) float64, 0 where not shown.
        shown: (K,) bool, keypoints to draw.
        box: (4,) float64, clipped to the image; None if invalid or outside.
        size: longer side of the person in pixels.
        width: of a limb in pixels.
        text: height of the label's digits in pixels.
        color: BGR of the whole person; None for the colors of its sides.
    """

    pose: 'Pose'
    points: np.ndarray
    shown: np.ndarray
    box: np.ndarray | None
    size: float
    width: float
    text: float
    color: tuple[int, int, int] | None

    @classmethod
    def of(cls, pose: 'Pose', threshold: float, shape: tuple, color_by: str) -> '_Person':
        points = np.asarray(pose.keypoints, np.float64)
        scores = np.asarray(pose.scores, np.float64)
        shown = np.isfinite(points).all(1) & (scores >= threshold)
        points = np.where(shown[:, None], points, 0).clip(-MAX_COORDINATE, MAX_COORDINATE)
        size, box = 0.0, None
        if shown.any():
            size = float(np.ptp(points[shown], axis=0).max())
        corners = np.asarray(pose.box, np.float64).reshape(2, 2)
        if np.isfinite(corners).all() and (corners[1] > corners[0]).all():
            # The box may be the whole image, around a small person.
            side = float((corners[1] - corners[0]).max())
            size = min(side, 3 * size) if size else side
            limit = np.array([shape[1] - 1, shape[0] - 1])
            corners = corners.clip(0, limit)
            if (corners[1] > corners[0]).all():
                box = corners.ravel()
        # Bounds relative to the image keep lines visible when the whole image is viewed.
        image = math.sqrt(shape[0] * shape[1])  # 554 for 640 x 480
        width = min(max(size / 85, min(image / 500, size / 30)), image / 110)
        text = min(max(size / 30, image / 80), image / 45)
        color = id_color(pose.track_id) if color_by == 'id' and pose.track_id is not None else None
        return cls(pose, points, shown, box, size, max(0.8, width), max(6.5, text), color)

    def color_of(self, *keypoints: int) -> tuple[int, int, int]:
        """Return the BGR color of a keypoint, or of the limb between several."""
        return self.color or side_color(self.pose.skeleton, *keypoints)

    def face(self) -> np.ndarray | None:
        """Return the box (4,) of the shown nose, eyes and ears; None if none is shown."""
        names = self.pose.skeleton.names
        head = [k for k in np.flatnonzero(self.shown) if _of_head(names[k])]
        if not head:
            return None
        low, high = self.points[head].min(0), self.points[head].max(0)
        pad = max(0.7 * (high - low).max(), 3 * self.width)
        return np.concatenate([low - pad, high + pad])


def _of_head(name: str) -> bool:
    return sides.part(name).rpartition('_')[2] in ('nose', 'eye', 'ear')


def _draw_person(image: np.ndarray, person: _Person, threshold: float, boxes: bool) -> None:
    """Draw the skeleton, and the corners of the box."""
    corners = person.points[person.shown]
    if boxes and person.box is not None:
        corners = np.concatenate([corners, person.box.reshape(2, 2)])
    if not len(corners):
        return
    pad = 3 * person.width + 2
    # Supersample thin lines: OpenCV draws widths of whole pixels only.
    detail = int(np.clip(math.ceil(8 / person.width), 1, 4))
    layer = Layer(image, corners.min(0) - pad, corners.max(0) + pad, detail)
    if layer.part.size:
        if boxes and person.box is not None:
            _draw_corners(layer, person)
        _draw_skeleton(layer, person, threshold)
        layer.blend()


def _draw_corners(layer: Layer, person: _Person) -> None:
    """Mark the corners of the box."""
    width = max(1.0, 0.45 * person.width)
    x0, y0, x1, y1 = person.box
    length = min(max(0.12 * min(x1 - x0, y1 - y0), 5 * width), 0.4 * min(x1 - x0, y1 - y0))
    for thick, color, opacity in ((width + 2 * _outline(width), DARK, 0.6), (width, WHITE, 0.9)):
        for x, way_x in ((x0, length), (x1, -length)):
            for y, way_y in ((y0, length), (y1, -length)):
                layer.line((x, y), (x + way_x, y), thick, color, opacity)
                layer.line((x, y), (x, y + way_y), thick, color, opacity)


def _draw_skeleton(layer: Layer, person: _Person, threshold: float) -> None:
    """Draw limbs, then joints, each by ascending score: the most certain on top."""
    skeleton, points = person.pose.skeleton, person.points
    ramp = [threshold, max(OPAQUE_SCORE, threshold + 1e-6)]
    opacity = np.interp(person.pose.scores, ramp, [MIN_OPACITY, 1])
    # Thin lines leave the face visible.
    widths = [person.width * (0.6 if _of_head(name) else 1) for name in skeleton.names]
    limbs = [link for link in skeleton.links if person.shown[list(link)].all()]
    for a, b in sorted(limbs, key=lambda link: min(opacity[list(link)])):
        width, opaque = min(widths[a], widths[b]), min(opacity[a], opacity[b])
        layer.line(points[a], points[b], width + 2 * _outline(width), DARK, 0.85 * opaque)
        layer.line(points[a], points[b], width, person.color_of(a, b), opaque)
    for k in sorted(np.flatnonzero(person.shown), key=lambda k: opacity[k]):
        radius, ring = 1.05 * widths[k], 0.35 * widths[k]
        layer.disc(points[k], radius + ring + _outline(widths[k]), DARK, 0.85 * opacity[k])
        layer.disc(points[k], radius + ring, WHITE, opacity[k])
        layer.disc(points[k], radius, person.color_of(k), opacity[k])


def _outline(width: float) -> float:
    """Return the width of the dark outline that makes a line visible on any background."""
    return max(0.35, 0.22 * width)


def _draw_labels(image: np.ndarray, persons: list[_Person]) -> None:
    """Write scores at the boxes' top left, or nearby if a face or another label is there."""
    faces = [face for person in persons if (face := person.face()) is not None]
    labels = []
    for person in reversed(persons):  # small persons first: they have the least room
        identity = '' if person.pose.track_id is None else f'#{person.pose.track_id} '
        text = f'{identity}{person.pose.score:.2f}'
        size = text_size(text, person.text)
        # Skip persons hardly larger than their label.
        if person.box is None or size[0] > 0.6 * max(person.box[2:] - person.box[:2]):
            continue
        place = _label_place(person, size, faces, labels, image.shape)
        if place is not None:
            labels.append(place)
            draw_label(image, text, place, person.text)


def _label_place(
    person: _Person, size, faces: list[np.ndarray], labels: list[np.ndarray], shape: tuple
) -> np.ndarray | None:
    """Choose the box (4,) of a label within the image.

    The label avoids faces if possible. None if every place overlaps another label.
    """
    x0, y0, x1, _ = person.box
    gap, (width, height) = person.width, size
    limit = np.maximum(np.array([shape[1], shape[0]]) - 1 - size, 0)
    places = [
        (x0, y0 - height - gap),  # above the box
        (x0 + gap, y0 + gap),  # in its corner
        (x0 - width - gap, y0),  # beside it
        ((x0 + x1 - width) / 2, y0 - height - gap),
        (x1 - width, y0 - height - gap),
        (x1 + gap, y0),
    ]
    best, least = None, math.inf
    for order, place in enumerate(places):
        low = np.clip(place, 0, limit)
        area = np.concatenate([low, low + size])
        if any(_overlap(area, label) > 0.02 * width * height for label in labels):
            continue
        hidden = sum(_overlap(area, face) for face in faces) / (width * height)
        if hidden + 0.02 * order < least:
            best, least = area, hidden + 0.02 * order
    return best


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes in square pixels."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(size.clip(0).prod())


def draw_label(image: np.ndarray, text: str, place: np.ndarray, height: float) -> None:
    """Draw bright text on a dark pill.

    Args:
        image: (H, W, 3) BGR uint8, changed in place.
        text: ASCII.
        place: (4,) x0, y0, x1, y1 of the pill; `text_size` gives its size.
        height: of capitals and digits in pixels.
    """
    layer = Layer(image, place[:2] - 1, place[2:] + 1, int(np.clip(48 // height, 1, 4)))
    middle, radius = (place[1] + place[3]) / 2, (place[3] - place[1]) / 2
    ends = (place[0] + radius, middle), (place[2] - radius, middle)
    layer.line(*ends, 2 * radius, DARK, 0.8)
    layer.text(text, (place[0] + 0.45 * height, middle + height / 2), height, WHITE)
    layer.blend()
