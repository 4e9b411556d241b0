"""Head of a synthetic person."""

import numpy as np

from .canvas import EAR, HAIR, HEAD, TURN, capsule
from .limbs import limb
from .looks import tone
from .people import Person, head_radii


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
_BRIM = np.stack([1.1 * np.cos(TURN), np.full(16, -0.5), 1.1 * np.sin(TURN) + 0.4], axis=1)


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


def head_parts(person: Person) -> list:
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
    parts += _ear_parts(person, depth)
    if looks['long_hair'] and not looks['bald']:
        ends = np.array([[0, 0.1, -0.55], [0, 1.15, -0.6]]) * head_radii(person.shape)
        start, end = person.head + ends @ person.skull.T
        r = person.shape['head'] * 0.36
        parts.append(((start + end)[2] / 2, HAIR, limb(person, (start, end), (r, r * 0.85), hair)))
    return parts


def _ear_parts(person: Person, depth: float) -> list:
    """Return the parts (depth, part, layers) of the ears, markers included."""
    looks, parts = person.looks, []
    for side, sign in enumerate((1, -1)):
        near = sign * person.skull[2, 0] > -0.1
        at, r = person.keypoints[3 + side], 0.125 * person.shape['head'] * person.scale
        ear = [
            (capsule(at, at, r, r), tone(looks['skin'], 0.7)),
            (capsule(at, at, r * 0.6, r * 0.6), looks['marker']),
        ]
        parts.append((depth + (0.0005 if near else -0.0005), EAR + side, ear))
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
