"""Names, links and mirror images of a set of keypoints."""

from dataclasses import dataclass

from . import sides


@dataclass(frozen=True)
class Skeleton:
    """Definition of K keypoints.

    Attributes:
        names: K names.
        links: pairs of keypoint indices, drawn as limbs.
        flip_indices: index of each keypoint's mirror image.
    """

    names: tuple[str, ...]
    links: tuple[tuple[int, int], ...]
    flip_indices: tuple[int, ...]

    def side(self, keypoint: int) -> str:
        """Return 'left', 'right' or 'middle': the keypoint's side of the person."""
        return sides.side(self.names[keypoint], self.names[self.flip_indices[keypoint]])


COCO = Skeleton(
    names=(
        'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder',
        'right_shoulder', 'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip',
        'right_hip', 'left_knee', 'right_knee', 'left_ankle', 'right_ankle',
    ),
    links=(
        (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11),
        (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
    ),
    flip_indices=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
)  # fmt: skip
