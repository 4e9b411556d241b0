"""Painting of synthetic people, with an id map of the front-most person and body part."""

from __future__ import annotations

import cv2
import numpy as np

from .people import Person, head_radii, tone

# Value of a pixel in the id map: number of the person * PART_BASE + part; 0 without a person.
PART_BASE = 32
HEAD, NECK, TORSO, PELVIS, SKIRT, HAIR = range(1, 7)
EAR, UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = range(8, 22, 2)  # the right side is + 1

# Parts on which a joint is visible, for each pair of keypoints from the ears on (left side).
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
    """Return (N, 3) points distributed over the unit sphere."""
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
    """Image and its id map.

    Args:
        image: (H, W, 3) BGR uint8, modified in place.

    Attributes:
        ids: (H, W) uint8 id map, see `PART_BASE`.
    """

    def __init__(self, image: np.ndarray):
        self.image = image
        self.ids = np.zeros(image.shape[:2], np.uint8)

    def polygon(self, points: np.ndarray, color, owner: int | None = None) -> None:
        """Fill a convex hull.

        Args:
            points: (N, 2) pixels.
            color: BGR.
            owner: value for the id map; None leaves it unchanged.
        """
        hull = cv2.convexHull(np.asarray(points, np.float32))
        fixed = np.rint(hull * 16).astype(np.int32)
        cv2.fillConvexPoly(self.image, fixed, color, cv2.LINE_AA, 4)
        if owner is not None:
            cv2.fillConvexPoly(self.ids, fixed, owner, cv2.LINE_8, 4)


def capsule(start, end, radius_start: float, radius_end: float) -> np.ndarray:
    """Return the (N, 2) outline around two circles at `start` and `end`, in pixels."""
    angle = np.arctan2(end[1] - start[1], end[0] - start[0])
    first, last = _HALF_TURN + angle + np.pi, _HALF_TURN + angle
    a = np.stack([np.cos(first), np.sin(first)], axis=1) * radius_start + start
    b = np.stack([np.cos(last), np.sin(last)], axis=1) * radius_end + end
    return np.concatenate([a, b])


def paint_person(canvas: Canvas, person: Person, number: int) -> None:
    """Draw a placed person, from the farthest part to the nearest.

    Args:
        canvas: canvas to draw on.
        person: person with `scale` and `offset`.
        number: of the person in the id map, 1 to 7.
    """
    parts = _trunk_parts(person) + _head_parts(person)
    for side in range(2):
        parts += _arm_parts(person, side) + _leg_parts(person, side)
    for _, part, layers in sorted(parts, key=lambda entry: entry[0]):
        owner = number * PART_BASE + part
        for points, color in layers:
            canvas.polygon(points, color, owner)


def _limb(person: Person, ends, radii, color, stop: float = 1.0) -> list:
    """Return the layers of a limb, a dark rim and a lighter middle, up to the share `stop`."""
    start, end = ends
    end = start + (end - start) * stop
    r0, r1 = radii[0], radii[0] + (radii[1] - radii[0]) * stop
    # Farther limbs are darker, as a depth cue.
    shade = float(np.clip(1 + 1.7 * (start[2] + end[2]) / 2, 0.68, 1.18))
    p, q, s = person.project(start), person.project(end), person.scale
    return [
        (capsule(p, q, r0 * s, r1 * s), tone(color, 0.6 * shade)),
        (capsule(p, q, r0 * s * 0.66, r1 * s * 0.66), tone(color, shade)),
    ]


def _dressed(person: Person, ends, radii, cloth, stop: float) -> list:
    """Return the layers of a limb covered by cloth up to the share `stop` of its length."""
    layers = [] if stop >= 1 else _limb(person, ends, radii, person.looks['skin'])
    if stop > 0:
        wide = radii if stop >= 1 else (radii[0] * 1.08, radii[1] * 1.12)
        layers += _limb(person, ends, wide, cloth, min(stop, 1.0))
    return layers


def _marker(person: Person, k: int) -> list:
    """Return the layers of the motion-capture marker at joint k."""
    at, r = person.keypoints[k], 0.026 * person.scale
    return [
        (capsule(at, at, r, r), (35, 30, 30)),
        (capsule(at, at, r * 0.66, r * 0.66), person.looks['marker']),
    ]


def _hip_depth(person: Person, side: int) -> float:
    """Return the depth of a hip marker: on the clothes, or behind the body in a side view."""
    trunk = (person.pelvis + person.neck)[2] / 2
    return trunk + (0.0042 if (-1 if side else 1) * person.body[2, 0] > -0.6 else -0.02)


def _arm_parts(person: Person, side: int) -> list:
    """Return the parts (depth, part, layers) of one arm."""
    shoulder, elbow, wrist = person.joints[[5 + side, 7 + side, 9 + side]]
    looks, r = person.looks, person.shape['arm_radius']
    sleeve, hand = looks['sleeve'], (wrist, person.ends[side])
    upper = _dressed(person, (shoulder, elbow), (r * 1.1, r * 0.84), looks['top'], sleeve)
    lower = _dressed(person, (elbow, wrist), (r * 0.84, r * 0.64), looks['top'], sleeve - 1)
    # The elbow marker is drawn on both parts, since either may be the nearer one.
    upper += _marker(person, 5 + side) + _marker(person, 7 + side)
    lower += _marker(person, 7 + side) + _marker(person, 9 + side)
    return [
        ((shoulder + elbow)[2] / 2 + 0.006, UPPER_ARM + side, upper),
        ((elbow + wrist)[2] / 2 + 0.008, FOREARM + side, lower),
        (
            (elbow + wrist)[2] / 2 + 0.007,
            HAND + side,
            _limb(person, hand, (r * 0.6, r * 0.8), looks['skin']),
        ),
    ]


def _leg_parts(person: Person, side: int) -> list:
    """Return the parts (depth, part, layers) of one leg."""
    hip, knee, ankle = person.joints[[11 + side, 13 + side, 15 + side]]
    looks, r = person.looks, person.shape['leg_radius']
    trouser = 0.0 if looks['skirt'] else looks['trouser']
    toes = person.ends[2 + side]
    heel = ankle - (toes - ankle) * 0.25 + np.array([0.0, 0.012, 0.0])
    upper = _dressed(person, (hip, knee), (r * 1.08, r * 0.74), looks['bottom'], trouser)
    lower = _dressed(person, (knee, ankle), (r * 0.74, r * 0.5), looks['bottom'], trouser - 1)
    upper += _marker(person, 13 + side)
    lower += _marker(person, 13 + side) + _marker(person, 15 + side)
    foot = _limb(person, (heel, toes), (r * 0.46, r * 0.42), looks['shoes'])
    return [
        ((hip + knee)[2] / 2, THIGH + side, upper),
        (_hip_depth(person, side), THIGH + side, _marker(person, 11 + side)),
        ((knee + ankle)[2] / 2 + 0.002, SHIN + side, lower),
        ((knee + ankle)[2] / 2 + 0.001, FOOT + side, foot),
    ]


def _ring(person: Person, height: float, wider: float = 1.0) -> np.ndarray:
    """Return (N, 3) points around the trunk; `height` is 0 at the hips, 1 at the neck."""
    shape = person.shape
    hip, shoulder, stout = shape['hip'] + 0.03, shape['shoulder'], shape['stout']
    width = np.interp(
        height, (0, 0.45, 0.88, 1), (hip, hip * 0.92, shoulder * 1.08, shoulder * 0.8)
    )
    depth = np.interp(height, (0, 0.45, 0.8, 1), (0.06, 0.056, 0.066, 0.045)) * stout
    local = np.stack([width * np.cos(_TURN), 0 * _TURN, depth * np.sin(_TURN)], axis=1) * wider
    mix = float(np.clip(height, 0, 1))
    center = person.pelvis + (person.neck - person.pelvis) * height
    return center + local @ ((1 - mix) * person.body + mix * person.chest).T


def _band(person: Person, low: float, high: float, wider: float = 1.0) -> np.ndarray:
    """Return (N, 2) pixels around the trunk at two heights."""
    return person.project(np.concatenate([_ring(person, low, wider), _ring(person, high, wider)]))


def _trunk_parts(person: Person) -> list:
    """Return the parts (depth, part, layers) of neck, torso and pelvis."""
    looks, shape = person.looks, person.shape
    depth = (person.pelvis + person.neck)[2] / 2
    dark = tone(looks['top'], 0.76)
    torso = [(_band(person, 0.1, 0.5), dark), (_band(person, 0.45, 0.86), dark),
             (_band(person, 0.85, 1.0), dark), (_band(person, 0.1, 0.5, 0.8), looks['top']),
             (_band(person, 0.45, 0.95, 0.8), looks['top'])]  # fmt: skip
    torso += _pattern(person) + _front_or_back(person)
    base = tone(looks['bottom'], 0.8)
    pelvis = [(_band(person, -0.1, 0.16), base), (_band(person, 0.11, 0.17), tone(base, 0.6))]
    if person.body[2, 2] > 0.25:
        buckle = person.pelvis + person.body @ np.array(
            [0, -0.14 * shape['torso'], 0.06 * shape['stout']]
        )
        at, r = person.project(buckle), 0.014 * person.scale
        pelvis.append((capsule(at, at, r, r), (120, 215, 235)))
    base_of_neck, chin = person.neck + person.chest[:, 1] * 0.01, person.head
    neck = _limb(person, (base_of_neck, chin), (0.036, 0.034), tone(looks['skin'], 0.86))
    parts = [(depth + 0.004, TORSO, torso), (depth + 0.003, PELVIS, pelvis)]
    # In a back view the collar covers the neck; in a front view the neck covers the collar.
    over = depth + (0.005 if person.chest[2, 2] > 0 else 0.0035)
    # The neck ends inside the head and must not be drawn over a head that leans away.
    parts.append((min(over, person.head[2]), NECK, neck))
    if looks['skirt']:
        hem = person.project(_ring(person, -0.42, 1.5))
        skirt = np.concatenate([person.project(_ring(person, 0.1)), hem])
        parts.append((depth + 0.0032, SKIRT, [(skirt, looks['bottom'])]))
    return parts


def _pattern(person: Person) -> list:
    """Return the layers of the pattern on the torso."""
    kind, color = person.looks['pattern'], person.looks['pattern_color']
    if kind == 'stripes':
        return [(_band(person, h, h + 0.07, 0.95), color) for h in (0.22, 0.4, 0.58, 0.76)]
    if kind == 'patch':
        return [(_band(person, 0.5, 0.72, 1.0), color)]
    if kind == 'dots':
        points = person.project(np.concatenate([_ring(person, h, 0.6) for h in (0.3, 0.5, 0.7)]))
        r = 0.012 * person.scale
        return [(capsule(p, p, r, r), color) for p in points[::3]]
    return []


def _front_or_back(person: Person) -> list:
    """Return the layers of the torso's front (neckline, zip) or back (yoke)."""
    facing, looks = person.chest[2, 2], person.looks
    t, depth = person.shape['torso'], 0.055 * person.shape['stout']
    if abs(facing) < 0.25:
        return []
    z = depth if facing > 0 else -depth
    local = np.array(
        [[-0.04, -t, 0.3 * z], [0.04, -t, 0.3 * z], [0, -0.76 * t, z], [0, -0.2 * t, z]]
    )
    a, b, c, d = person.project(local @ person.chest.T)
    if facing < 0:
        return [(np.stack([a, b, (b + c) / 2, (a + c) / 2]), tone(looks['top'], 0.55))]
    r = 0.006 * person.scale
    return [(capsule(c, d, r, r), tone(looks['top'], 0.5)), (np.stack([a, b, c]), looks['skin'])]


def _on_head(person: Person, local: np.ndarray, near_only: bool = False) -> np.ndarray:
    """Return (N, 2) pixels of points in units of the head's half axes."""
    points = (local * head_radii(person.shape)) @ person.skull.T
    if near_only:
        points = points[points[:, 2] > 0]
    return person.project(person.head + points)


def shows_face(person: Person) -> np.ndarray:
    """Return whether nose, left eye and right eye face the viewer, (3,) bool."""
    # The nose protrudes and is visible in profile; the eyes are hidden earlier.
    return (person.joints[:3] - person.head)[:, 2] > np.array(
        [0.0, 0.14, 0.14]
    ) * 0.5 * person.shape['head']


def _head_parts(person: Person) -> list:
    """Return the parts (depth, part, layers) of the head, the hair and the ears."""
    looks, depth = person.looks, person.head[2] + 0.012
    hair = tone(looks['skin'], 0.85) if looks['bald'] else looks['hair']
    layers = [
        (_on_head(person, _SPHERE * 1.02), tone(hair, 0.8)),
        (_on_head(person, _SPHERE * 0.85), hair),
    ]
    face = _on_head(person, _FACE, near_only=True)
    if len(face) >= 8:
        middle = face.mean(0)
        layers += [
            (face, tone(looks['skin'], 0.84)),
            (middle + (face - middle) * 0.84, looks['skin']),
        ]
    if looks['hat'] is not None:
        layers += [
            (_on_head(person, _CROWN), looks['hat']),
            (_on_head(person, _BRIM), tone(looks['hat'], 0.7)),
        ]
    parts = [(depth, HEAD, layers + _face(person))]
    for side, sign in enumerate((1, -1)):
        near = sign * person.skull[2, 0] > -0.1
        at, r = person.keypoints[3 + side], 0.125 * person.shape['head'] * person.scale
        ear = [
            (capsule(at, at, r, r), tone(looks['skin'], 0.7)),
            (capsule(at, at, r * 0.6, r * 0.6), looks['marker']),
        ]
        parts.append((depth + (0.0005 if near else -0.0005), EAR + side, ear))
    if looks['long_hair'] and not looks['bald']:
        ends = np.array([[0, 0.1, -0.55], [0, 1.15, -0.6]]) * head_radii(person.shape)
        start, end = person.head + ends @ person.skull.T
        r = person.shape['head'] * 0.36
        parts.append(((start + end)[2] / 2, HAIR, _limb(person, (start, end), (r, r * 0.85), hair)))
    return parts


def _face(person: Person) -> list:
    """Return the layers of eyes, nose and mouth that face the viewer."""
    nose, eyes, unit = (
        person.keypoints[0],
        person.keypoints[1:3],
        person.shape['head'] * person.scale,
    )
    shown, skin = shows_face(person), person.looks['skin']
    layers = []
    for eye in eyes[shown[1:]]:
        layers.append((capsule(eye, eye, 0.095 * unit, 0.095 * unit), (245, 245, 245)))
        layers.append((capsule(eye, eye, 0.055 * unit, 0.055 * unit), (35, 25, 25)))
    if shown[0]:
        bridge = _on_head(person, np.array([[0, -0.1, 0.98]]))[0]
        layers.append((capsule(bridge, nose, 0.02 * unit, 0.065 * unit), tone(skin, 0.66)))
        layers.append((capsule(nose, nose, 0.075 * unit, 0.075 * unit), (50, 50, 190)))
        layers.append((capsule(nose, nose, 0.035 * unit, 0.035 * unit), (150, 150, 250)))
    if shown[1:].all():
        corners = _on_head(person, np.array([[-0.3, 0.52, 0.8], [0.3, 0.52, 0.8]]))
        layers.append((capsule(*corners, 0.035 * unit, 0.035 * unit), (60, 50, 150)))
    return layers


def visibility(ids: np.ndarray, person: Person, number: int) -> np.ndarray:
    """Compute COCO's visibility of the keypoints.

    Args:
        ids: (H, W) uint8 id map of the finished image.
        person: placed person.
        number: of the person in the id map.

    Returns:
        (17,) int: 0 outside the image, 1 hidden, 2 visible.
    """
    height, width = ids.shape
    flags, face = np.zeros(17, np.int64), shows_face(person)
    for k, (x, y) in enumerate(np.round(person.keypoints, 2)):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        owner, part = divmod(int(ids[round(y), round(x)]), PART_BASE)
        shown = owner == number and (part == HEAD and face[k] if k < 3 else _shows(person, k, part))
        flags[k] = 2 if shown else 1
    return flags


def _shows(person: Person, k: int, part: int) -> bool:
    """Return whether keypoint `k` >= 3 is visible on `part`, the front-most one at its pixel."""
    pair, side = divmod(k - 3, 2)
    if part not in [p if p < EAR else p + side for p in _SHOWN_BY[pair]]:
        return False
    # In a side view, the shoulder and hip of the far side are behind the trunk.
    frame = person.chest if pair == 1 else person.body
    return not (part in _TRUNK and (-1 if side else 1) * frame[2, 0] < -0.6)
