"""Poses drawn into an image.

Nothing but NumPy and OpenCV is needed. Shapes: H, W of an image in pixels, K keypoints of a person.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .canvas import Layer, check, text_size
from .skeleton import Skeleton

if TYPE_CHECKING:
    from .poses import Pose

# The person's left side in orange, the right in blue, what is in the middle in green (BGR).
LEFT, RIGHT, MIDDLE = (0, 140, 255), (255, 150, 40), (90, 210, 60)
WHITE, DARK = (255, 255, 255), (24, 24, 24)

FAINT = 0.4  # opacity of a keypoint that just reaches the threshold
SOLID = 0.8  # score from which on a keypoint is opaque
FAR = 1e5  # pixels; larger than any image, small enough for OpenCV's fixed-point numbers


def side_color(skeleton: Skeleton, *keypoints: int) -> tuple[int, int, int]:
    """BGR by the side of the person; keypoints of two sides have the colour of the middle.

    Keypoints of the middle follow the others: from the nose to the left eye is left.
    """
    sides = {skeleton.side(keypoint) for keypoint in keypoints} - {'middle'}
    return dict(left=LEFT, right=RIGHT)[sides.pop()] if len(sides) == 1 else MIDDLE


def draw_poses(
    image: np.ndarray, poses: Sequence['Pose'], threshold: float = 0.3, boxes: bool = True
) -> np.ndarray:
    """A copy of `image` with the persons drawn into it.

    Limbs and joints have the colour of their side and grow with the person, between bounds that
    grow with the image; they fade as their score nears the threshold.

    Args:
        image: (H, W, 3) BGR uint8, not changed.
        poses: with coordinates in pixels of `image`; those outside of it do no harm.
        threshold: keypoints with a lower score, or that are not finite, are left out.
        boxes: also mark the corners of the boxes, and write the persons' scores there.

    Raises:
        DataError: `image` is something else.
    """
    check(image)
    drawn = np.array(image, order='C')  # a copy that OpenCV can write to, also of a mirrored view
    persons = [_Person.of(pose, threshold, image.shape) for pose in poses]
    persons.sort(key=lambda person: -person.size)  # who is small is drawn over who is large
    for person in persons:
        _draw_person(drawn, person, threshold, boxes)
    if boxes:
        _draw_labels(drawn, persons)
    return drawn


@dataclass(frozen=True)
class _Person:
    """A pose with all that its picture is measured by.

    Attributes:
        points: (K, 2) float64. shown: (K,) bool, which of them to draw.
        box: (4,) float64, the part of it within the image; None if there is none.
        size: pixels, the longer side of the person.
        width: pixels, of a limb. text: pixels, height of the label's digits.
    """

    pose: 'Pose'
    points: np.ndarray
    shown: np.ndarray
    box: np.ndarray | None
    size: float
    width: float
    text: float

    @classmethod
    def of(cls, pose: 'Pose', threshold: float, shape: tuple) -> '_Person':
        points = np.asarray(pose.keypoints, np.float64)
        scores = np.asarray(pose.scores, np.float64)
        shown = np.isfinite(points).all(1) & (scores >= threshold)
        points = np.where(shown[:, None], points, 0).clip(-FAR, FAR)
        size, box = 0.0, None
        if shown.any():
            size = float(np.ptp(points[shown], axis=0).max())
        corners = np.asarray(pose.box, np.float64).reshape(2, 2)
        if np.isfinite(corners).all() and (corners[1] > corners[0]).all():
            # A box may be the whole image around someone small.
            side = float((corners[1] - corners[0]).max())
            size = min(side, 3 * size) if size else side
            limit = np.array([shape[1] - 1, shape[0] - 1])
            corners = corners.clip(0, limit)
            if (corners[1] > corners[0]).all():
                box = corners.ravel()
        # Of 640 x 480 pixels 554: bounds by the image let lines be seen when all of it is.
        image = math.sqrt(shape[0] * shape[1])
        width = min(max(size / 85, min(image / 500, size / 30)), image / 110)
        text = min(max(size / 30, image / 80), image / 45)
        return cls(pose, points, shown, box, size, max(0.8, width), max(6.5, text))

    def face(self) -> np.ndarray | None:
        """(4,) x0, y0, x1, y1 around what is shown of nose, eyes and ears; None: nothing."""
        names = self.pose.skeleton.names
        head = [k for k in np.flatnonzero(self.shown) if _of_head(names[k])]
        if not head:
            return None
        low, high = self.points[head].min(0), self.points[head].max(0)
        pad = max(0.7 * (high - low).max(), 3 * self.width)
        return np.concatenate([low - pad, high + pad])


def _of_head(name: str) -> bool:
    return name.endswith(('nose', 'eye', 'ear'))


def _draw_person(image: np.ndarray, person: _Person, threshold: float, boxes: bool) -> None:
    """Draw the skeleton, and the corners of the box."""
    corners = person.points[person.shown]
    if boxes and person.box is not None:
        corners = np.concatenate([corners, person.box.reshape(2, 2)])
    if not len(corners):
        return
    pad = 3 * person.width + 2
    # Thin lines are drawn larger and shrunk: OpenCV knows widths of whole pixels only.
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
    """Draw limbs, then joints; the surest last, so that they lie on top."""
    skeleton, points = person.pose.skeleton, person.points
    ramp = [threshold, max(SOLID, threshold + 1e-6)]
    opacity = np.interp(person.pose.scores, ramp, [FAINT, 1])
    # Fine lines on the face leave it to be seen.
    widths = [person.width * (0.6 if _of_head(name) else 1) for name in skeleton.names]
    limbs = [link for link in skeleton.links if person.shown[list(link)].all()]
    for a, b in sorted(limbs, key=lambda link: min(opacity[list(link)])):
        width, opaque = min(widths[a], widths[b]), min(opacity[a], opacity[b])
        layer.line(points[a], points[b], width + 2 * _outline(width), DARK, 0.85 * opaque)
        layer.line(points[a], points[b], width, side_color(skeleton, a, b), opaque)
    for k in sorted(np.flatnonzero(person.shown), key=lambda k: opacity[k]):
        radius, ring = 1.05 * widths[k], 0.35 * widths[k]
        layer.disc(points[k], radius + ring + _outline(widths[k]), DARK, 0.85 * opacity[k])
        layer.disc(points[k], radius + ring, WHITE, opacity[k])
        layer.disc(points[k], radius, side_color(skeleton, k), opacity[k])


def _outline(width: float) -> float:
    """Width of the dark line on each side of a bright one: it reads on any background."""
    return max(0.35, 0.22 * width)


def _draw_labels(image: np.ndarray, persons: list[_Person]) -> None:
    """Write scores at the boxes' top left, or nearby where a face or another score is."""
    faces = [face for person in persons if (face := person.face()) is not None]
    labels = []
    for person in reversed(persons):  # who is small has least room
        text = f'{person.pose.score:.2f}'
        size = text_size(text, person.text)
        # On people hardly larger than their label it would hide more than it tells.
        if person.box is None or size[0] > 0.6 * max(person.box[2:] - person.box[:2]):
            continue
        place = _label_place(person, size, faces, labels, image.shape)
        if place is not None:
            labels.append(place)
            _draw_label(image, text, place, person.text)


def _label_place(
    person: _Person, size, faces: list[np.ndarray], labels: list[np.ndarray], shape: tuple
) -> np.ndarray | None:
    """(4,) x0, y0, x1, y1 of a label within the image, best of all without a face or label there.

    Of what cannot be avoided, a face may be covered, but not another label: None, then.
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


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Square pixels that two boxes share."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(sides.clip(0).prod())


def _draw_label(image: np.ndarray, text: str, place: np.ndarray, height: float) -> None:
    """Draw bright digits on a dark pill."""
    layer = Layer(image, place[:2] - 1, place[2:] + 1, int(np.clip(48 // height, 1, 4)))
    middle, radius = (place[1] + place[3]) / 2, (place[3] - place[1]) / 2
    ends = (place[0] + radius, middle), (place[2] - radius, middle)
    layer.line(*ends, 2 * radius, DARK, 0.8)
    layer.text(text, (place[0] + 0.45 * height, middle + height / 2), height, WHITE)
    layer.blend()
