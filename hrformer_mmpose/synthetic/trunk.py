"""Neck, torso and pelvis of a synthetic person."""

import numpy as np

from .canvas import NECK, PELVIS, SKIRT, TORSO, TURN, capsule
from .limbs import limb
from .looks import tone
from .people import Person


def _ring(person: Person, height: float, wider: float = 1.0) -> np.ndarray:
    """Return (N, 3) points around the trunk; `height` is 0 at the hips, 1 at the neck."""
    shape = person.shape
    hip, shoulder, stout = shape['hip'] + 0.03, shape['shoulder'], shape['stout']
    width = np.interp(
        height, (0, 0.45, 0.88, 1), (hip, hip * 0.92, shoulder * 1.08, shoulder * 0.8)
    )
    depth = np.interp(height, (0, 0.45, 0.8, 1), (0.06, 0.056, 0.066, 0.045)) * stout
    local = np.stack([width * np.cos(TURN), 0 * TURN, depth * np.sin(TURN)], axis=1) * wider
    mix = float(np.clip(height, 0, 1))
    center = person.pelvis + (person.neck - person.pelvis) * height
    return center + local @ ((1 - mix) * person.body + mix * person.chest).T


def _band(person: Person, low: float, high: float, wider: float = 1.0) -> np.ndarray:
    """Return (N, 2) pixels around the trunk at two heights."""
    return person.project(np.concatenate([_ring(person, low, wider), _ring(person, high, wider)]))


def trunk_parts(person: Person) -> list:
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
    neck = limb(person, (base_of_neck, chin), (0.036, 0.034), tone(looks['skin'], 0.86))
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
