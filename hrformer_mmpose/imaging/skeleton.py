"""Names, links and mirror images of a set of keypoints."""

from collections.abc import Mapping
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

    @classmethod
    def from_metainfo(cls, metainfo: Mapping, num_keypoints: int | None = None) -> 'Skeleton':
        """Create the skeleton of MMPose's parsed metainfo.

        Args:
            metainfo: output of `parse_pose_metainfo`.
            num_keypoints: K, if keypoints were converted since; if the metainfo has another number,
                they are numbered and have neither links nor mirror images.
        """
        names = metainfo.get('keypoint_id2name', {})
        K = len(names) if num_keypoints is None else num_keypoints
        if len(names) != K:
            return cls(tuple(map(str, range(K))), (), tuple(range(K)))
        links = tuple((int(a), int(b)) for a, b in metainfo['skeleton_links'])
        flip_indices = tuple(map(int, metainfo['flip_indices']))
        return cls(tuple(names[k] for k in range(K)), links, flip_indices)

    def category(self) -> dict:
        """Return COCO's entry of a category 1 with these keypoints; its links count from 1."""
        links = [[a + 1, b + 1] for a, b in self.links]
        return dict(id=1, name='person', keypoints=list(self.names), skeleton=links)

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
