"""Canvas with an id map of the front-most person and body part, and the shapes that are drawn."""

import cv2
import numpy as np

# Value of a pixel in the id map: number of the person * PART_BASE + part; 0 without a person.
PART_BASE = 32
HEAD, NECK, TORSO, PELVIS, SKIRT, HAIR = range(1, 7)
EAR, UPPER_ARM, FOREARM, HAND, THIGH, SHIN, FOOT = range(8, 22, 2)  # the right side is + 1
TURN = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_HALF_TURN = np.linspace(-np.pi / 2, np.pi / 2, 7)


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
