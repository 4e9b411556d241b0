"""Visibility of keypoints, from the id map of the finished image."""

import numpy as np

from .canvas import (
    EAR,
    FOOT,
    FOREARM,
    HAND,
    HEAD,
    PART_BASE,
    PELVIS,
    SHIN,
    SKIRT,
    THIGH,
    TORSO,
    UPPER_ARM,
)  # fmt: skip
from .head import shows_face
from .people import Person

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
