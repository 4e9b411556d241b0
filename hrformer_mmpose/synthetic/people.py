"""Articulated people for the synthetic data set: body, pose and clothes.

A person is a three-dimensional body, posed by forward kinematics and seen in parallel projection.
Axes: x to the right, y down, z towards the viewer. At zero yaw a person faces the viewer, so the
person's left is at larger x. Body lengths are in units of the standing height. Image coordinates
are in pixels, with the centre of the first pixel at (0, 0), as in COCO's keypoints and OpenCV's
drawing functions.

Left and right can be distinguished as on real people: face, neckline, buckle and feet show the
front or the back, and nearer limbs cover farther, darker ones. Colours do not depend on the side,
because training and testing flip images and swap the labels. Joints carry markers, as in motion
capture, of one colour for each person, so that they can be learnt from scratch in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .looks import random_looks

KEYPOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
)  # fmt: skip

# Probability; ranges of abduction, flexion and bend of the elbow in degrees; largest weights of the
# forearm's direction (inwards, upwards, forwards).
_ARM_STYLES = (
    (0.28, (5, 22), (-18, 22), (0, 35), (0.2, 0.1, 1.0)),  # hanging
    (0.11, (6, 32), (-12, 40), (45, 120), (1.0, 0.8, 1.0)),  # bent
    (0.19, (55, 100), (-15, 20), (0, 45), (0.2, 1.0, 0.6)),  # to the side
    (0.19, (125, 170), (-10, 15), (0, 60), (1.0, 0.6, 0.3)),  # raised
    (0.11, (40, 90), (-5, 15), (60, 115), (0.1, 1.0, 0.1)),  # waving
    (0.08, (32, 50), (-25, -5), (75, 105), (1.0, 0.0, 0.2)),  # on the hips
    (0.04, (4, 25), (35, 85), (0, 60), (0.3, 1.0, 0.3)),  # reaching forwards
)
# Probability; ranges of abduction, flexion and bend of the knee in degrees, for each leg.
_LEG_STYLES = (
    (0.35, ((2, 10), (-6, 8), (0, 10)), ((2, 10), (-6, 8), (0, 10))),  # standing
    (0.24, ((14, 32), (-5, 12), (0, 15)), ((10, 30), (-5, 12), (0, 15))),  # legs apart
    (0.22, ((2, 8), (12, 38), (5, 30)), ((2, 8), (-28, -8), (5, 50))),  # walking
    (0.06, ((4, 24), (62, 92), (65, 100)), ((4, 24), (62, 92), (65, 100))),  # sitting
    (0.04, ((15, 38), (40, 75), (70, 110)), ((15, 38), (40, 75), (70, 110))),  # squatting
    (0.05, ((4, 25), (45, 75), (50, 90)), ((2, 20), (-30, -10), (20, 60))),  # lunging
    (0.04, ((8, 45), (20, 80), (0, 40)), ((2, 8), (-6, 6), (0, 10))),  # kicking
)

_WALKING = 2  # index of `_LEG_STYLES`


def _rotation(axis: int, degrees: float) -> np.ndarray:
    """Return the (3, 3) rotation about axis 0 (x), 1 (y) or 2 (z)."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


@dataclass
class Person:
    """Posed person.

    Attributes:
        joints: (17, 3) keypoints in standing heights.
        ends: (4, 3) left hand, right hand, left toes, right toes.
        shape: lengths and radii of the body in standing heights.
        looks: colours and types of clothes.
        pelvis: (3,) centre.
        neck: (3,) centre.
        head: (3,) centre.
        body: (3, 3) frame; the columns are left, down and forwards.
        chest: (3, 3) frame.
        skull: (3, 3) frame.
        scale: pixels of one standing height.
        offset: (2,) pixel of the origin (the pelvis).
    """

    joints: np.ndarray
    ends: np.ndarray
    shape: dict
    looks: dict
    pelvis: np.ndarray
    neck: np.ndarray
    head: np.ndarray
    body: np.ndarray
    chest: np.ndarray
    skull: np.ndarray
    scale: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project (..., 3) points to (..., 2) pixels."""
        return points[..., :2] * self.scale + np.asarray(self.offset)

    @property
    def keypoints(self) -> np.ndarray:
        """(17, 2) keypoints in pixels."""
        return self.project(self.joints)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the approximate minimum and maximum (x, y) of the drawn body in pixels."""
        points = np.concatenate([self.joints, self.ends])[:, :2]
        crown = self.head[:2] - self.skull[:2, 1] * self.shape['head'] * 0.5
        points = np.concatenate([points, crown[None]]) * self.scale + np.asarray(self.offset)
        margin = 0.035 * self.scale
        return points.min(0) - margin, points.max(0) + margin


def _random_shape(rng: np.random.Generator) -> dict:
    """Return random proportions, in standing heights."""
    stout = rng.uniform(0.98, 1.34)
    ranges = dict(
        head=(0.18, 0.22), neck=(0.025, 0.04), torso=(0.265, 0.305), shoulder=(0.105, 0.13),
        hip=(0.056, 0.07), upper_arm=(0.15, 0.178), forearm=(0.13, 0.158), thigh=(0.225, 0.255),
        shin=(0.21, 0.245), foot=(0.075, 0.095), hand=(0.045, 0.055),
    )  # fmt: skip
    shape = {name: rng.uniform(*span) for name, span in ranges.items()}
    shape.update(stout=stout, arm_radius=0.039 * stout, leg_radius=0.057 * stout)
    return shape


def _arm(rng: np.random.Generator, side: int, style) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions (3,) of upper arm and forearm in the frame of the chest."""
    _, abduction, flexion, bend, towards = style
    a, b = np.deg2rad(rng.uniform(*abduction)), np.deg2rad(rng.uniform(*bend))
    upper = _rotation(0, rng.uniform(*flexion)) @ np.array([side * np.sin(a), np.cos(a), 0.0])
    goal = np.array([-side, -1.0, 1.0]) * np.array(towards) * rng.uniform(0.2, 1.0, 3)
    goal = goal - goal @ upper * upper
    goal /= np.linalg.norm(goal) + 1e-6
    return upper, upper * np.cos(b) + goal * np.sin(b)


def _leg(rng: np.random.Generator, side: int, style) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directions (3,) of thigh, shin and foot in the frame of the body."""
    a, bend = np.deg2rad(rng.uniform(*style[0])), np.deg2rad(rng.uniform(*style[2]))
    thigh = _rotation(0, rng.uniform(*style[1])) @ np.array([side * np.sin(a), np.cos(a), 0.0])
    # A knee bends backwards: towards the thigh rotated by 90 degrees about the body's x axis.
    back = np.array([0.0, thigh[2], -thigh[1]])
    back /= np.linalg.norm(back)
    shin = thigh * np.cos(bend) + back * np.sin(bend)
    foot = np.array([side * rng.uniform(0.0, 0.6), -shin[2] + 0.15, shin[1]])
    return thigh, shin, foot / np.linalg.norm(foot)


def random_yaw(rng: np.random.Generator) -> float:
    """Return a random yaw in degrees: mostly front views, then side and back views."""
    kind = rng.random()
    sign = 1 if rng.random() < 0.5 else -1
    if kind < 0.92:
        return sign * rng.uniform(0, 32)
    if kind < 0.97:
        return sign * rng.uniform(35, 80)
    return 180 + sign * rng.uniform(0, 35)


def make_person(rng: np.random.Generator, yaw: float | None = None) -> Person:
    """Create a person of random shape, clothes and pose, without position.

    Args:
        rng: random generator.
        yaw: rotation of the body in degrees; 0: front view, 180: back view, None: random.
    """
    shape = _random_shape(rng)
    legs_style = int(rng.choice(len(_LEG_STYLES), p=[s[0] for s in _LEG_STYLES]))
    looks = random_looks(rng, legs_style)
    return _pose(rng, shape, looks, legs_style, random_yaw(rng) if yaw is None else yaw)


def make_poses(rng: np.random.Generator, count: int, yaw: float) -> list[Person]:
    """Create one walking person in several random poses, without position.

    Args:
        rng: random generator.
        count: number of poses.
        yaw: rotation of the body in degrees, see `make_person`.
    """
    shape, looks = _random_shape(rng), random_looks(rng, _WALKING)
    return [_pose(rng, shape, looks, _WALKING, yaw) for _ in range(count)]


def blend(a: Person, b: Person, weight: float) -> Person:
    """Return a person between two poses of the same body.

    Joints move on straight lines, so limbs are somewhat shorter on the way.

    Args:
        a, b: poses of one body; position and size are those of `a`.
        weight: 0 gives `a`, 1 gives `b`.
    """

    def mix(name: str) -> np.ndarray:
        return (1 - weight) * getattr(a, name) + weight * getattr(b, name)

    frames = {}
    for name in ('body', 'chest', 'skull'):
        u, _, vh = np.linalg.svd(mix(name))  # the nearest rotation
        frames[name] = u @ vh
    points = {name: mix(name) for name in ('joints', 'ends', 'pelvis', 'neck', 'head')}
    return replace(a, **points, **frames)


def _pose(rng, shape: dict, looks: dict, legs_style: int, yaw: float) -> Person:
    """Return a person of given shape and clothes in a random pose."""
    body = _rotation(2, rng.normal(0, 4)) @ _rotation(0, -rng.uniform(2, 14)) @ _rotation(1, yaw)
    chest = body @ _rotation(2, rng.normal(0, 6)) @ _rotation(0, -rng.uniform(-6, 22))
    chest = chest @ _rotation(1, rng.normal(0, 6))
    skull = chest @ _rotation(1, rng.normal(0, 16)) @ _rotation(0, rng.uniform(-8, 20))
    skull = skull @ _rotation(2, rng.normal(0, 8))
    pelvis = np.zeros(3)
    neck = pelvis - chest[:, 1] * shape['torso']
    head = neck - skull[:, 1] * (shape['neck'] + shape['head'] * 0.5) + skull[:, 2] * 0.012
    joints, ends = np.zeros((17, 3)), np.zeros((4, 3))
    _pose_head(joints, head, skull, shape)
    _pose_limbs(rng, joints, ends, (pelvis, neck, body, chest), shape, legs_style)
    return Person(joints, ends, shape, looks, pelvis, neck, head, body, chest, skull)


def _pose_head(joints: np.ndarray, head: np.ndarray, skull: np.ndarray, shape: dict) -> None:
    """Set nose, eyes and ears, on the ellipsoid of the head."""
    local = np.array(
        [[0, 0.14, 1.1], [0.42, -0.1, 0.87], [-0.42, -0.1, 0.87], [1.1, 0.04, -0.06],
         [-1.1, 0.04, -0.06]]
    )  # fmt: skip
    joints[:5] = head + (local * head_radii(shape)) @ skull.T


def head_radii(shape: dict) -> np.ndarray:
    """Return the half axes (left, down, forwards) of the head in standing heights."""
    return shape['head'] * np.array([0.38, 0.5, 0.43])


def _pose_limbs(rng, joints, ends, trunk, shape: dict, legs_style: int) -> None:
    """Set the joints and ends of arms and legs."""
    pelvis, neck, body, chest = trunk
    weights = [s[0] for s in _ARM_STYLES]
    styles = rng.choice(len(_ARM_STYLES), 2, p=weights)
    if rng.random() < 0.5:
        styles[1] = styles[0]
    legs = _LEG_STYLES[legs_style][1:]
    lead = int(rng.integers(2))
    for i, side in enumerate((1, -1)):
        upper, lower = _arm(rng, side, _ARM_STYLES[styles[i]])
        shoulder = neck + chest @ np.array([side * shape['shoulder'], 0.022, 0.0])
        elbow = shoulder + chest @ upper * shape['upper_arm']
        wrist = elbow + chest @ lower * shape['forearm']
        thigh, shin, foot = _leg(rng, side, legs[(i + lead) % 2])
        hip = pelvis + body @ np.array([side * shape['hip'], 0.0, 0.0])
        knee = hip + body @ thigh * shape['thigh']
        ankle = knee + body @ shin * shape['shin']
        joints[[5 + i, 7 + i, 9 + i]] = shoulder, elbow, wrist
        joints[[11 + i, 13 + i, 15 + i]] = hip, knee, ankle
        ends[i] = wrist + chest @ lower * shape['hand']
        ends[2 + i] = ankle + body @ foot * shape['foot']
