"""Arms and legs of a synthetic person."""

import numpy as np

from .canvas import FOOT, FOREARM, HAND, SHIN, THIGH, UPPER_ARM, capsule
from .looks import tone
from .people import Person


def limb(person: Person, ends, radii, color, stop: float = 1.0) -> list:
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
    layers = [] if stop >= 1 else limb(person, ends, radii, person.looks['skin'])
    if stop > 0:
        wide = radii if stop >= 1 else (radii[0] * 1.08, radii[1] * 1.12)
        layers += limb(person, ends, wide, cloth, min(stop, 1.0))
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


def arm_parts(person: Person, side: int) -> list:
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
            limb(person, hand, (r * 0.6, r * 0.8), looks['skin']),
        ),
    ]


def leg_parts(person: Person, side: int) -> list:
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
    foot = limb(person, (heel, toes), (r * 0.46, r * 0.42), looks['shoes'])
    return [
        ((hip + knee)[2] / 2, THIGH + side, upper),
        (_hip_depth(person, side), THIGH + side, _marker(person, 11 + side)),
        ((knee + ankle)[2] / 2 + 0.002, SHIN + side, lower),
        ((knee + ankle)[2] / 2 + 0.001, FOOT + side, foot),
    ]
