"""Painting of the synthetic people, and the map that says which part of whom is in front."""

from __future__ import annotations

import cv2
import numpy as np

from .people import Figure, head_radii, tone

# The value of a pixel in the id map is ``figure number * PART_BASE + part``; 0 is no person.
PART_BASE = 32
HEAD, NECK, TORSO, PELVIS, SKIRT, HAIR = range(1, 7)
EAR, UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = range(8, 22, 2)  # the right side is + 1

# Per pair of key points from the ears on: the parts that may show the joint (side 0, left).
_SHOWN_BY = (
    (EAR,),
    (TORSO, UPPER_ARM),
    (UPPER_ARM, FOREARM),
    (FOREARM, HAND),
    (PELVIS, TORSO, SKIRT, THIGH),
    (THIGH, SHIN),
    (SHIN, FOOT),
)
_TRUNK = (TORSO, PELVIS, SKIRT)

_TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_HALF_TURN = np.linspace(-np.pi / 2, np.pi / 2, 7)


def _sphere() -> np.ndarray:
    """Return points spread over the unit sphere, shape (N, 3)."""
    index = np.arange(160) + 0.5
    y = 1 - 2 * index / 160
    around = np.pi * (1 + 5**0.5) * index
    flat = np.sqrt(1 - y**2)
    return np.stack([flat * np.cos(around), y, flat * np.sin(around)], axis=1)


_SPHERE = _sphere()
# The face is the cap of the head around this direction (forwards and a little down).
_FACE = _SPHERE[_SPHERE @ np.array([0.0, 0.55, 0.835]) > 0.4]
_CROWN = _SPHERE[_SPHERE[:, 1] < -0.42] * 1.1
_BRIM = np.stack([1.1 * np.cos(_TURN), np.full(16, -0.5), 1.1 * np.sin(_TURN) + 0.4], axis=1)


class Canvas:
    """A picture and, drawn with it, the map of who owns each pixel.

    Args:
        image: BGR picture, uint8, shape (H, W, 3); it is drawn on in place.

    Attributes:
        ids: uint8, shape (H, W): 0 where no person is in front, see :data:`PART_BASE`.
    """

    def __init__(self, image: np.ndarray):
        self.image = image
        self.ids = np.zeros(image.shape[:2], np.uint8)

    def polygon(self, points: np.ndarray, color, owner: int | None = None) -> None:
        """Fill the convex hull of ``points`` (N, 2), pixels; ``owner`` None leaves the ids."""
        hull = cv2.convexHull(np.asarray(points, np.float32))
        fixed = np.rint(hull * 16).astype(np.int32)
        cv2.fillConvexPoly(self.image, fixed, color, cv2.LINE_AA, 4)
        if owner is not None:
            cv2.fillConvexPoly(self.ids, fixed, owner, cv2.LINE_8, 4)


def capsule(start, end, radius_start: float, radius_end: float) -> np.ndarray:
    """Return the outline (N, 2) around two circles at ``start`` and ``end``, all in pixels."""
    angle = np.arctan2(end[1] - start[1], end[0] - start[0])
    first, last = _HALF_TURN + angle + np.pi, _HALF_TURN + angle
    a = np.stack([np.cos(first), np.sin(first)], axis=1) * radius_start + start
    b = np.stack([np.cos(last), np.sin(last)], axis=1) * radius_end + end
    return np.concatenate([a, b])


def paint_figure(canvas: Canvas, figure: Figure, number: int) -> None:
    """Draw a placed figure, its farther parts first.

    Args:
        canvas: what to draw on.
        figure: the person, with ``scale`` and ``offset`` set.
        number: 1 to 7, the number under which the id map shall know the person.
    """
    parts = _trunk_parts(figure) + _head_parts(figure)
    for side in range(2):
        parts += _arm_parts(figure, side) + _leg_parts(figure, side)
    for _, part, layers in sorted(parts, key=lambda entry: entry[0]):
        owner = number * PART_BASE + part
        for points, color in layers:
            canvas.polygon(points, color, owner)


def _limb(figure: Figure, ends, radii, color, stop: float = 1.0) -> list:
    """Return the layers of a limb: a dark rim and a lighter middle, for the first ``stop``."""
    start, end = ends
    end = start + (end - start) * stop
    r0, r1 = radii[0], radii[0] + (radii[1] - radii[0]) * stop
    # Farther limbs are darker, so that the picture tells near from far.
    shade = float(np.clip(1 + 1.7 * (start[2] + end[2]) / 2, 0.68, 1.18))
    p, q, s = figure.project(start), figure.project(end), figure.scale
    return [
        (capsule(p, q, r0 * s, r1 * s), tone(color, 0.6 * shade)),
        (capsule(p, q, r0 * s * 0.66, r1 * s * 0.66), tone(color, shade)),
    ]


def _dressed(figure: Figure, ends, radii, cloth, stop: float) -> list:
    """Return the layers of a limb that cloth covers from its start to ``stop`` of its length."""
    layers = [] if stop >= 1 else _limb(figure, ends, radii, figure.looks['skin'])
    if stop > 0:
        wide = radii if stop >= 1 else (radii[0] * 1.08, radii[1] * 1.12)
        layers += _limb(figure, ends, wide, cloth, min(stop, 1.0))
    return layers


def _marker(figure: Figure, k: int) -> list:
    """Return the layers of the marker that a performer in motion capture wears at joint k."""
    at, r = figure.keypoints[k], 0.026 * figure.scale
    return [
        (capsule(at, at, r, r), (35, 30, 30)),
        (capsule(at, at, r * 0.66, r * 0.66), figure.looks['marker']),
    ]


def _hip_depth(figure: Figure, side: int) -> float:
    """Return the depth of a hip's marker: on the clothes, or behind a body seen from the side."""
    trunk = (figure.pelvis + figure.neck)[2] / 2
    return trunk + (0.0042 if (-1 if side else 1) * figure.body[2, 0] > -0.6 else -0.02)


def _arm_parts(figure: Figure, side: int) -> list:
    """Return the parts (depth, part, layers) of one arm."""
    shoulder, elbow, wrist = figure.joints[[5 + side, 7 + side, 9 + side]]
    looks, r = figure.looks, figure.shape['arm_radius']
    sleeve, hand = looks['sleeve'], (wrist, figure.ends[side])
    upper = _dressed(figure, (shoulder, elbow), (r * 1.1, r * 0.84), looks['top'], sleeve)
    lower = _dressed(figure, (elbow, wrist), (r * 0.84, r * 0.64), looks['top'], sleeve - 1)
    # The elbow's is on both, since either of them may be the nearer one.
    upper += _marker(figure, 5 + side) + _marker(figure, 7 + side)
    lower += _marker(figure, 7 + side) + _marker(figure, 9 + side)
    return [
        ((shoulder + elbow)[2] / 2 + 0.006, UPPER_ARM + side, upper),
        ((elbow + wrist)[2] / 2 + 0.008, FOREARM + side, lower),
        (
            (elbow + wrist)[2] / 2 + 0.007,
            HAND + side,
            _limb(figure, hand, (r * 0.6, r * 0.8), looks['skin']),
        ),
    ]


def _leg_parts(figure: Figure, side: int) -> list:
    """Return the parts (depth, part, layers) of one leg."""
    hip, knee, ankle = figure.joints[[11 + side, 13 + side, 15 + side]]
    looks, r = figure.looks, figure.shape['leg_radius']
    trouser = 0.0 if looks['skirt'] else looks['trouser']
    toes = figure.ends[2 + side]
    heel = ankle - (toes - ankle) * 0.25 + np.array([0.0, 0.012, 0.0])
    upper = _dressed(figure, (hip, knee), (r * 1.08, r * 0.74), looks['bottom'], trouser)
    lower = _dressed(figure, (knee, ankle), (r * 0.74, r * 0.5), looks['bottom'], trouser - 1)
    upper += _marker(figure, 13 + side)
    lower += _marker(figure, 13 + side) + _marker(figure, 15 + side)
    foot = _limb(figure, (heel, toes), (r * 0.46, r * 0.42), looks['shoes'])
    return [
        ((hip + knee)[2] / 2, THIGH + side, upper),
        (_hip_depth(figure, side), THIGH + side, _marker(figure, 11 + side)),
        ((knee + ankle)[2] / 2 + 0.002, SHIN + side, lower),
        ((knee + ankle)[2] / 2 + 0.001, FOOT + side, foot),
    ]


def _ring(figure: Figure, height: float, wider: float = 1.0) -> np.ndarray:
    """Return points (N, 3) around the trunk; ``height`` is 0 at the hips, 1 at the neck."""
    shape = figure.shape
    hip, shoulder, stout = shape['hip'] + 0.03, shape['shoulder'], shape['stout']
    width = np.interp(
        height, (0, 0.45, 0.88, 1), (hip, hip * 0.92, shoulder * 1.08, shoulder * 0.8)
    )
    depth = np.interp(height, (0, 0.45, 0.8, 1), (0.06, 0.056, 0.066, 0.045)) * stout
    local = np.stack([width * np.cos(_TURN), 0 * _TURN, depth * np.sin(_TURN)], axis=1) * wider
    mix = float(np.clip(height, 0, 1))
    center = figure.pelvis + (figure.neck - figure.pelvis) * height
    return center + local @ ((1 - mix) * figure.body + mix * figure.chest).T


def _band(figure: Figure, low: float, high: float, wider: float = 1.0) -> np.ndarray:
    """Return the pixels (N, 2) of the trunk between two heights."""
    return figure.project(np.concatenate([_ring(figure, low, wider), _ring(figure, high, wider)]))


def _trunk_parts(figure: Figure) -> list:
    """Return the parts (depth, part, layers) of neck, torso and pelvis."""
    looks, shape = figure.looks, figure.shape
    depth = (figure.pelvis + figure.neck)[2] / 2
    dark = tone(looks['top'], 0.76)
    torso = [(_band(figure, 0.1, 0.5), dark), (_band(figure, 0.45, 0.86), dark),
             (_band(figure, 0.85, 1.0), dark), (_band(figure, 0.1, 0.5, 0.8), looks['top']),
             (_band(figure, 0.45, 0.95, 0.8), looks['top'])]  # fmt: skip
    torso += _pattern(figure) + _front_or_back(figure)
    base = tone(looks['bottom'], 0.8)
    pelvis = [(_band(figure, -0.1, 0.16), base), (_band(figure, 0.11, 0.17), tone(base, 0.6))]
    if figure.body[2, 2] > 0.25:
        buckle = figure.pelvis + figure.body @ np.array(
            [0, -0.14 * shape['torso'], 0.06 * shape['stout']]
        )
        at, r = figure.project(buckle), 0.014 * figure.scale
        pelvis.append((capsule(at, at, r, r), (120, 215, 235)))
    base_of_neck, chin = figure.neck + figure.chest[:, 1] * 0.01, figure.head
    neck = _limb(figure, (base_of_neck, chin), (0.036, 0.034), tone(looks['skin'], 0.86))
    parts = [(depth + 0.004, TORSO, torso), (depth + 0.003, PELVIS, pelvis)]
    # Seen from behind, the collar lies over the neck; from the front the neck over the collar.
    over = depth + (0.005 if figure.chest[2, 2] > 0 else 0.0035)
    # The neck ends within the head: it must not be drawn over one that leans away.
    parts.append((min(over, figure.head[2]), NECK, neck))
    if looks['skirt']:
        hem = figure.project(_ring(figure, -0.42, 1.5))
        skirt = np.concatenate([figure.project(_ring(figure, 0.1)), hem])
        parts.append((depth + 0.0032, SKIRT, [(skirt, looks['bottom'])]))
    return parts


def _pattern(figure: Figure) -> list:
    """Return the layers of the pattern on the torso."""
    kind, color = figure.looks['pattern'], figure.looks['pattern_color']
    if kind == 'stripes':
        return [(_band(figure, h, h + 0.07, 0.95), color) for h in (0.22, 0.4, 0.58, 0.76)]
    if kind == 'patch':
        return [(_band(figure, 0.5, 0.72, 1.0), color)]
    if kind == 'dots':
        points = figure.project(np.concatenate([_ring(figure, h, 0.6) for h in (0.3, 0.5, 0.7)]))
        r = 0.012 * figure.scale
        return [(capsule(p, p, r, r), color) for p in points[::3]]
    return []


def _front_or_back(figure: Figure) -> list:
    """Return the layers that tell the front of the torso (neckline, zip) from its back (yoke)."""
    facing, looks = figure.chest[2, 2], figure.looks
    t, depth = figure.shape['torso'], 0.055 * figure.shape['stout']
    if abs(facing) < 0.25:
        return []
    z = depth if facing > 0 else -depth
    local = np.array(
        [[-0.04, -t, 0.3 * z], [0.04, -t, 0.3 * z], [0, -0.76 * t, z], [0, -0.2 * t, z]]
    )
    a, b, c, d = figure.project(local @ figure.chest.T)
    if facing < 0:
        return [(np.stack([a, b, (b + c) / 2, (a + c) / 2]), tone(looks['top'], 0.55))]
    r = 0.006 * figure.scale
    return [(capsule(c, d, r, r), tone(looks['top'], 0.5)), (np.stack([a, b, c]), looks['skin'])]


def _on_head(figure: Figure, local: np.ndarray, near_only: bool = False) -> np.ndarray:
    """Return the pixels (N, 2) of points given in half axes of the head."""
    points = (local * head_radii(figure.shape)) @ figure.skull.T
    if near_only:
        points = points[points[:, 2] > 0]
    return figure.project(figure.head + points)


def shows_face(figure: Figure) -> np.ndarray:
    """Return for nose, left eye, right eye whether the head turns it to the viewer, (3,) bool."""
    # The nose sticks out, so that the profile shows it; an eye is hidden a little earlier.
    return (figure.joints[:3] - figure.head)[:, 2] > np.array(
        [0.0, 0.14, 0.14]
    ) * 0.5 * figure.shape['head']


def _head_parts(figure: Figure) -> list:
    """Return the parts (depth, part, layers) of the head, the hair and the ears."""
    looks, depth = figure.looks, figure.head[2] + 0.012
    hair = tone(looks['skin'], 0.85) if looks['bald'] else looks['hair']
    layers = [
        (_on_head(figure, _SPHERE * 1.02), tone(hair, 0.8)),
        (_on_head(figure, _SPHERE * 0.85), hair),
    ]
    face = _on_head(figure, _FACE, near_only=True)
    if len(face) >= 8:
        middle = face.mean(0)
        layers += [
            (face, tone(looks['skin'], 0.84)),
            (middle + (face - middle) * 0.84, looks['skin']),
        ]
    if looks['hat'] is not None:
        layers += [
            (_on_head(figure, _CROWN), looks['hat']),
            (_on_head(figure, _BRIM), tone(looks['hat'], 0.7)),
        ]
    parts = [(depth, HEAD, layers + _face(figure))]
    for side, sign in enumerate((1, -1)):
        near = sign * figure.skull[2, 0] > -0.1
        at, r = figure.keypoints[3 + side], 0.125 * figure.shape['head'] * figure.scale
        ear = [
            (capsule(at, at, r, r), tone(looks['skin'], 0.7)),
            (capsule(at, at, r * 0.6, r * 0.6), looks['marker']),
        ]
        parts.append((depth + (0.0005 if near else -0.0005), EAR + side, ear))
    if looks['long_hair'] and not looks['bald']:
        ends = np.array([[0, 0.1, -0.55], [0, 1.15, -0.6]]) * head_radii(figure.shape)
        start, end = figure.head + ends @ figure.skull.T
        r = figure.shape['head'] * 0.36
        parts.append(((start + end)[2] / 2, HAIR, _limb(figure, (start, end), (r, r * 0.85), hair)))
    return parts


def _face(figure: Figure) -> list:
    """Return the layers of eyes, nose and mouth, as far as they are turned to the viewer."""
    nose, eyes, unit = (
        figure.keypoints[0],
        figure.keypoints[1:3],
        figure.shape['head'] * figure.scale,
    )
    shown, skin = shows_face(figure), figure.looks['skin']
    layers = []
    for eye in eyes[shown[1:]]:
        layers.append((capsule(eye, eye, 0.095 * unit, 0.095 * unit), (245, 245, 245)))
        layers.append((capsule(eye, eye, 0.055 * unit, 0.055 * unit), (35, 25, 25)))
    if shown[0]:
        bridge = _on_head(figure, np.array([[0, -0.1, 0.98]]))[0]
        layers.append((capsule(bridge, nose, 0.02 * unit, 0.065 * unit), tone(skin, 0.66)))
        layers.append((capsule(nose, nose, 0.075 * unit, 0.075 * unit), (50, 50, 190)))
        layers.append((capsule(nose, nose, 0.035 * unit, 0.035 * unit), (150, 150, 250)))
    if shown[1:].all():
        corners = _on_head(figure, np.array([[-0.3, 0.52, 0.8], [0.3, 0.52, 0.8]]))
        layers.append((capsule(*corners, 0.035 * unit, 0.035 * unit), (60, 50, 150)))
    return layers


def visibility(ids: np.ndarray, figure: Figure, number: int) -> np.ndarray:
    """Return COCO's visibility of the key points, (17,) int: 0 outside, 1 hidden, 2 seen.

    Args:
        ids: the id map of the finished picture, uint8, shape (H, W).
        figure: the placed person.
        number: the person's number in the id map.
    """
    height, width = ids.shape
    flags, face = np.zeros(17, np.int64), shows_face(figure)
    for k, (x, y) in enumerate(np.round(figure.keypoints, 2)):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        owner, part = divmod(int(ids[round(y), round(x)]), PART_BASE)
        shown = owner == number and (part == HEAD and face[k] if k < 3 else _shows(figure, k, part))
        flags[k] = 2 if shown else 1
    return flags


def _shows(figure: Figure, k: int, part: int) -> bool:
    """Return whether ``part``, the front-most at key point ``k`` >= 3, shows the joint."""
    pair, side = divmod(k - 3, 2)
    if part not in [p if p < EAR else p + side for p in _SHOWN_BY[pair]]:
        return False
    # A shoulder or hip on the far side of a body seen from the side lies behind the trunk.
    frame = figure.chest if pair == 1 else figure.body
    return not (part in _TRUNK and (-1 if side else 1) * frame[2, 0] < -0.6)
