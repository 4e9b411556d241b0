"""Poses as people use them: typed records that know how to be written, drawn and handed on.

Shapes: K keypoints of a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from .drawing import draw_poses
from .skeleton import COCO, Skeleton

SURE = 0.2  # keypoints below do not count in a person's score, as in the evaluation's default


@dataclass(frozen=True, eq=False)
class Pose:
    """One person.

    Attributes:
        keypoints: (K, 2) float32, x and y in pixels of the image; (0, 0) is the centre of the first
            pixel. scores: (K,) float32, height of the heatmap's peak, about 0 to 1.
        box: (4,) float32, x0, y0, x1, y1 in pixels: where the person was looked for.
        box_score: the detector's; 1 where none was given.
        skeleton: what the keypoints are.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    box_score: float = 1.0
    skeleton: Skeleton = field(default=COCO, repr=False)

    @property
    def score(self) -> float:
        """Of the person, as COCO's results want it: box score times mean of the sure keypoints."""
        sure = self.scores[self.scores > SURE].astype(np.float64)
        return float(self.box_score * (sure.mean() if len(sure) else 0.0))

    def to_coco(self, image_id: int = 0, category_id: int = 1) -> dict:
        """Entry of COCO's result format: plain numbers, coordinates to 1/10,000 of a pixel."""
        x0, y0, x1, y1 = self.box.astype(np.float64)
        rows = np.column_stack([self.keypoints, self.scores]).astype(np.float64)
        return dict(
            image_id=image_id,
            category_id=category_id,
            keypoints=rows.round(4).ravel().tolist(),
            score=self.score,
            bbox=np.round([x0, y0, x1 - x0, y1 - y0], 4).tolist(),
        )

    def to_dict(self) -> dict:
        """Plain numbers under names, ready for JSON; `from_dict` reads it."""
        return dict(
            keypoints={
                name: [round(float(x), 4), round(float(y), 4), round(float(score), 6)]
                for name, (x, y), score in zip(
                    self.skeleton.names, self.keypoints, self.scores, strict=True
                )
            },
            box=[round(float(value), 4) for value in self.box],
            box_score=round(float(self.box_score), 6),
            score=round(self.score, 6),
        )

    @classmethod
    def from_dict(cls, values: dict, skeleton: Skeleton = COCO) -> 'Pose':
        """What `to_dict` gave."""
        rows = np.array([values['keypoints'][name] for name in skeleton.names], np.float32)
        box = np.array(values['box'], np.float32)
        return cls(rows[:, :2], rows[:, 2], box, values['box_score'], skeleton)

    def draw(self, image: np.ndarray, threshold: float = 0.3) -> np.ndarray:
        """A copy of `image`, (H, W, 3) BGR uint8, with the person drawn into it.

        Args:
            image: which the person is on. threshold: keypoints with a lower score are left out.
        """
        return draw_poses(image, [self], threshold)


def to_supervision(poses: Sequence[Pose]):
    """Poses of an image as `supervision.KeyPoints`.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            'to_supervision needs the package supervision: pip install supervision'
        ) from error
    if not poses:
        return supervision.KeyPoints.empty()
    scores = np.stack([pose.scores for pose in poses]).astype(np.float32)
    if 'keypoint_confidence' in {entry.name for entry in fields(supervision.KeyPoints)}:
        whole = np.array([pose.score for pose in poses], np.float32)
        confidence = dict(keypoint_confidence=scores, detection_confidence=whole)
    else:  # before 0.29
        confidence = dict(confidence=scores)
    return supervision.KeyPoints(
        xy=np.stack([pose.keypoints for pose in poses]).astype(np.float32),
        class_id=np.zeros(len(poses), int),
        **confidence,
    )
