"""Pictures of poses: drawn into an image, and many images on one sheet.

Nothing but NumPy and OpenCV is needed. Shapes: H, W of an image in pixels, K keypoints of a person.
"""

import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..errors import ConfigError, DataError
from .poses import Pose, Skeleton

# The person's left side in orange, the right in blue, what is in the middle in green (BGR).
LEFT, RIGHT, MIDDLE = (0, 140, 255), (255, 150, 40), (90, 210, 60)
WHITE, DARK = (255, 255, 255), (24, 24, 24)
SHEET, CARD = (30, 30, 30), (46, 46, 46)  # grounds of a contact sheet and of an image on it

FAINT = 0.4  # opacity of a keypoint that just reaches the threshold
SOLID = 0.8  # score from which on a keypoint is opaque
FAR = 1e5  # pixels; larger than any image, small enough for OpenCV's fixed-point numbers
FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITAL = 21.5  # pixels, height of the font's capitals and digits at scale 1


def side_color(skeleton: Skeleton, *keypoints: int) -> tuple[int, int, int]:
    """BGR by the side of the person; keypoints of two sides have the colour of the middle.

    Keypoints of the middle follow the others: from the nose to the left eye is left.
    """
    sides = {skeleton.side(keypoint) for keypoint in keypoints} - {'middle'}
    return dict(left=LEFT, right=RIGHT)[sides.pop()] if len(sides) == 1 else MIDDLE


def draw_poses(
    image: np.ndarray, poses: Sequence[Pose], threshold: float = 0.3, boxes: bool = True
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
    _check(image)
    drawn = np.array(image, order='C')  # a copy that OpenCV can write to, also of a mirrored view
    persons = [_Person.of(pose, threshold, image.shape) for pose in poses]
    persons.sort(key=lambda person: -person.size)  # who is small is drawn over who is large
    for person in persons:
        _draw_person(drawn, person, threshold, boxes)
    if boxes:
        _draw_labels(drawn, persons)
    return drawn


def contact_sheet(
    items: Iterable[tuple[np.ndarray, Sequence[Pose], str]],
    path: str | os.PathLike | None = None,
    columns: int | None = None,
    tile: int = 320,
    title: str | None = None,
) -> np.ndarray:
    """Many small images with their poses and captions, on one sheet.

    Args:
        items: image (H, W, 3) BGR uint8, its poses, caption. At least one; may be a generator, so
            that only one large image at a time is in memory.
        path: where to write the sheet as well, as `write_image` does.
        columns: images beside one another; as a rule, so many that the sheet is a bit wider than
            high.
        tile: pixels, the longer side of an image on the sheet.
        title: above the images.

    Returns:
        (H, W, 3) BGR uint8.

    Raises:
        DataError: no items, an image that is something else, or `path` cannot be written.
        ConfigError: `columns` or `tile` is too small.
    """
    if tile < 64:
        raise ConfigError(f'tile={tile}: an image on a contact sheet needs 64 pixels at least')
    if columns is not None and columns < 1:
        raise ConfigError(f'columns={columns}: a contact sheet needs one column at least')
    tiles = [
        (_thumbnail(image, poses, tile), len(poses), caption) for image, poses, caption in items
    ]
    if not tiles:
        raise DataError('a contact sheet needs one image at least, and there is none')
    columns = min(columns or _columns(len(tiles)), len(tiles))
    gap, text = max(6, tile // 20), max(8, tile / 32)
    rows = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        # The row is as high as its highest image: no wide black bars where all are landscapes.
        height = max(image.shape[0] for image, _, _ in row)
        cards = [_card(*item, (height, tile), text) for item in row]
        cards += [np.full_like(cards[0], SHEET)] * (columns - len(cards))
        rows.append(np.hstack([_margin(card, 0, 0, 0, gap) for card in cards]))
    sheet = np.vstack([_margin(row, 0, gap, gap, 0) for row in rows])
    head = gap
    if title:
        large = min(1.7 * text, sheet.shape[1] / max(12, len(title)))
        head = round(2 * gap + large)
    sheet = _margin(sheet, head, 0, 0, 0)
    if title:
        _write(sheet, title, (gap, head - gap), large, (240, 240, 240), sheet.shape[1] - 2 * gap)
    if path is not None:
        write_image(path, sheet)
    return sheet


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write `image` in the format of the path's extension; all of it, or nothing.

    Args:
        path: in a folder that exists. image: (H, W, 3) BGR or (H, W) uint8.

    Raises:
        DataError: the extension is of no image format, or the file cannot be written.
    """
    path = os.fspath(path)
    extension = os.path.splitext(path)[1]
    if not extension or not cv2.haveImageWriter(f'image{extension}'):
        raise DataError(
            f'{path}: no image can be written as {extension or "a file without extension"}; '
            'use .jpg or .png'
        )
    try:
        done, data = cv2.imencode(extension, image)
    except cv2.error as error:
        done, data = False, error
    if not done:
        shape = getattr(image, 'shape', type(image).__name__)
        raise DataError(f'{path}: OpenCV cannot write an image of {shape} as {extension}')
    partial = f'{path}.part'
    try:
        with open(partial, 'wb') as file:
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        if os.path.isfile(partial):
            os.remove(partial)
        raise DataError(f'{path}: cannot be written: {error.strerror or error}') from error


def _check(image) -> None:
    """That an image is one to draw on."""
    if not isinstance(image, np.ndarray):
        found = type(image).__name__
        if image is None:
            found += ', which cv2.imread returns for a file that it cannot read'
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        found = f'{image.dtype} of shape {image.shape}'
    else:
        return
    raise DataError(f'to draw on, an image of shape (H, W, 3), BGR uint8, is needed, not {found}')


class _Layer:
    """A transparent sheet over a part of an image, blended into it once.

    What is drawn on a layer replaces what is there, transparency included, so that crossing lines
    do not add up. Its colours are multiplied by their opacity, with which OpenCV's anti-aliasing
    and shrinking are exact.
    """

    def __init__(self, image, low, high, detail: int):
        """Over the pixels from `low` to `high` (x, y) of image, `detail` times as fine."""
        size = np.array(image.shape[1::-1])
        first = np.clip(np.floor(low), 0, size).astype(int)
        last = np.clip(np.ceil(high) + 1, first, size).astype(int)
        self.part = image[first[1] : last[1], first[0] : last[0]]
        self.first, self.detail = first, detail
        height, width = self.part.shape[:2]
        self.paint = np.zeros((height * detail, width * detail, 4), np.uint8)

    def _at(self, point) -> tuple[int, int]:
        """Where OpenCV has a point of the image, in 1/16 of the layer's pixels."""
        fine = (np.asarray(point) - self.first) * self.detail + (self.detail - 1) / 2
        x, y = np.rint(16 * fine)
        return int(x), int(y)

    def line(self, start, end, width: float, color, opacity: float) -> None:
        width = max(1, round(width * self.detail))
        color = _premultiplied(color, opacity)
        cv2.line(self.paint, self._at(start), self._at(end), color, width, cv2.LINE_AA, 4)

    def disc(self, centre, radius: float, color, opacity: float) -> None:
        radius = round(16 * radius * self.detail)
        color = _premultiplied(color, opacity)
        cv2.circle(self.paint, self._at(centre), radius, color, -1, cv2.LINE_AA, 4)

    def text(self, text: str, left_bottom, height: float, color) -> None:
        x, y = (value // 16 for value in self._at(left_bottom))
        height *= self.detail
        scale, width = height / CAPITAL, max(1, round(height / 8))
        color = _premultiplied(color, 1)
        cv2.putText(self.paint, text, (x, y), FONT, scale, color, width, cv2.LINE_AA)

    def blend(self) -> None:
        paint = self.paint
        if self.detail > 1 and paint.size:
            paint = cv2.resize(paint, self.part.shape[1::-1], interpolation=cv2.INTER_AREA)
        # Few pixels are covered, even by a person who fills the image.
        covered = np.flatnonzero(np.ascontiguousarray(paint).view(np.uint32))
        rows, columns = np.divmod(covered, max(1, paint.shape[1]))
        over, under = paint[rows, columns].astype(np.uint16), self.part[rows, columns]
        mixed = over[:, :3] + (under * (255 - over[:, 3:]) + 127) // 255
        self.part[rows, columns] = np.minimum(mixed, 255)  # roundings may add up to 256


def _premultiplied(color, opacity: float) -> tuple[float, ...]:
    return tuple(round(value * opacity) for value in (*color, 255))


@dataclass(frozen=True)
class _Person:
    """A pose with all that its picture is measured by.

    Attributes:
        points: (K, 2) float64. shown: (K,) bool, which of them to draw.
        box: (4,) float64, the part of it within the image; None if there is none.
        size: pixels, the longer side of the person.
        width: pixels, of a limb. text: pixels, height of the label's digits.
    """

    pose: Pose
    points: np.ndarray
    shown: np.ndarray
    box: np.ndarray | None
    size: float
    width: float
    text: float

    @classmethod
    def of(cls, pose: Pose, threshold: float, shape: tuple) -> '_Person':
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
    layer = _Layer(image, corners.min(0) - pad, corners.max(0) + pad, detail)
    if layer.part.size:
        if boxes and person.box is not None:
            _draw_corners(layer, person)
        _draw_skeleton(layer, person, threshold)
        layer.blend()


def _draw_corners(layer: _Layer, person: _Person) -> None:
    """Mark the corners of the box."""
    width = max(1.0, 0.45 * person.width)
    x0, y0, x1, y1 = person.box
    length = min(max(0.12 * min(x1 - x0, y1 - y0), 5 * width), 0.4 * min(x1 - x0, y1 - y0))
    for thick, color, opacity in ((width + 2 * _outline(width), DARK, 0.6), (width, WHITE, 0.9)):
        for x, way_x in ((x0, length), (x1, -length)):
            for y, way_y in ((y0, length), (y1, -length)):
                layer.line((x, y), (x + way_x, y), thick, color, opacity)
                layer.line((x, y), (x, y + way_y), thick, color, opacity)


def _draw_skeleton(layer: _Layer, person: _Person, threshold: float) -> None:
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
        size = _label_size(text, person.text)
        # On people hardly larger than their label it would hide more than it tells.
        if person.box is None or size[0] > 0.6 * max(person.box[2:] - person.box[:2]):
            continue
        place = _label_place(person, size, faces, labels, image.shape)
        if place is not None:
            labels.append(place)
            _draw_label(image, text, place, person.text)


def _label_size(text: str, height: float) -> np.ndarray:
    """Width and height in pixels of a label whose digits are `height` high."""
    width = cv2.getTextSize(text, FONT, 1, 2)[0][0] * height / CAPITAL
    return np.array([width + 0.9 * height, 1.8 * height])


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
    layer = _Layer(image, place[:2] - 1, place[2:] + 1, int(np.clip(48 // height, 1, 4)))
    middle, radius = (place[1] + place[3]) / 2, (place[3] - place[1]) / 2
    ends = (place[0] + radius, middle), (place[2] - radius, middle)
    layer.line(*ends, 2 * radius, DARK, 0.8)
    layer.text(text, (place[0] + 0.45 * height, middle + height / 2), height, WHITE)
    layer.blend()


def _columns(count: int) -> int:
    """For a sheet somewhat wider than high, whose last row is as full as can be."""
    root = math.sqrt(count)
    return min(range(math.ceil(root), math.ceil(1.35 * root) + 1), key=lambda n: -count % n)


def _thumbnail(image: np.ndarray, poses: Sequence[Pose], tile: int) -> np.ndarray:
    """Image with poses, its longer side `tile` pixels; drawn after scaling, for crisp lines."""
    _check(image)
    height, width = image.shape[:2]
    scale = tile / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(
        np.ascontiguousarray(image),
        size,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )
    ratio = np.array(size) / (width, height)
    scaled = [
        replace(
            pose,  # (0, 0) is the centre of a pixel, before and after
            keypoints=(pose.keypoints + 0.5) * ratio - 0.5,
            box=(pose.box + 0.5) * np.tile(ratio, 2) - 0.5,
        )
        for pose in poses
    ]
    return draw_poses(small, scaled)


def _card(
    image: np.ndarray, persons: int, caption: str, size: tuple[int, int], text: float
) -> np.ndarray:
    """An image in the middle of `size` (height, width), over its caption."""
    height, width = size
    pad = round(text)
    card = np.full((height + 2 * pad + round(text), width, 3), CARD, np.uint8)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    card[top : top + image.shape[0], left : left + image.shape[1]] = image
    count = f'{persons or "no"} person{"s" * (persons != 1)}'
    used, bottom = _label_size(count, text)[0], height + pad + text
    if used > 0.5 * width:
        used = 0  # on a small card the name has all the room
    else:
        _write(card, count, (width - used, bottom), text, (150, 150, 150), used)
    _write(card, caption, (pad, bottom), text, (225, 225, 225), width - used - 2 * pad)
    return card


def _write(image, text: str, left_bottom, height: float, color, width: float) -> None:
    """Write text, its middle left out where it is wider than `width` pixels."""
    # OpenCV's font has ASCII only.
    text = unicodedata.normalize('NFKD', text)
    text = ''.join(c for c in text if not unicodedata.combining(c))
    text = shown = text.encode('ascii', 'replace').decode()
    while len(text) > 2 and _label_size(shown, height)[0] - 0.9 * height > width:
        text = text[: len(text) // 2] + text[len(text) // 2 + 1 :]
        shown = f'{text[: len(text) // 2]}...{text[len(text) // 2 :]}'
    x, y = left_bottom
    layer = _Layer(image, (x, y - 2 * height), (x + width + height, y + height), 4)
    layer.text(shown, left_bottom, height, color)
    layer.blend()


def _margin(image: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=SHEET)
