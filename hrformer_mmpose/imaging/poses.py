"""Poses as records, with conversion to COCO, JSON, `supervision` and pictures.

Shapes: K keypoints of a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from .drawing import DRAW_THRESHOLD, draw_poses
from .skeleton import COCO, Skeleton

# Keypoints with a higher score are detected: they count in a person's score. Default of MMPose's
# and our CocoMetric (`keypoint_score_thr`).
KEYPOINT_THRESHOLD = 0.2


@dataclass(frozen=True, eq=False)
class Pose:
    """Pose of one person.

    Attributes:
        keypoints: (K, 2) float32, x and y in pixels of the image; (0, 0) is the center of the first
            pixel.
        scores: (K,) float32, maximum of each heatmap, about 0 to 1.
        box: (4,) float32, x0, y0, x1, y1 in pixels: the person's box, as given.
        box_score: detection score; 1 if none was given.
        skeleton: definition of the keypoints.
        track_id: identity in a video; None if people are not tracked.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    box: np.ndarray
    box_score: float = 1.0
    skeleton: Skeleton = field(default=COCO, repr=False)
    track_id: int | None = None

    @property
    def score(self) -> float:
        """Score for COCO's results: box score times mean score of the detected keypoints."""
        detected = self.scores[self.scores > KEYPOINT_THRESHOLD].astype(np.float64)
        return float(self.box_score * (detected.mean() if len(detected) else 0.0))

    def to_coco(self, image_id: int = 0, category_id: int = 1) -> dict:
        """Convert to an entry of COCO's result format, coordinates rounded to 1/10,000 pixel."""
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
        """Convert to a dictionary of plain numbers for JSON; `from_dict` is the inverse."""
        identity = {} if self.track_id is None else dict(track_id=self.track_id)
        return dict(
            identity,
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
    def from_annotation(
        cls, keypoints: np.ndarray, bbox: Sequence[float], skeleton: Skeleton = COCO
    ) -> 'Pose':
        """Create a pose from a COCO annotation; the score of a labelled keypoint is 1, else 0.

        Args:
            keypoints: (K, 3), x and y in pixels and visibility.
            bbox: x0, y0, width, height in pixels.
            skeleton: definition of the keypoints.
        """
        x, y, width, height = bbox
        box = np.array([x, y, x + width, y + height], np.float32)
        scores = (keypoints[:, 2] > 0).astype(np.float32)
        return cls(keypoints[:, :2], scores, box, skeleton=skeleton)

    @classmethod
    def from_dict(cls, values: dict, skeleton: Skeleton = COCO) -> 'Pose':
        """Create a pose from the output of `to_dict`."""
        rows = np.array([values['keypoints'][name] for name in skeleton.names], np.float32)
        box = np.array(values['box'], np.float32)
        identity = values.get('track_id')
        return cls(rows[:, :2], rows[:, 2], box, values['box_score'], skeleton, identity)

    def draw(self, image: np.ndarray, threshold: float = DRAW_THRESHOLD) -> np.ndarray:
        """Return a copy of `image` with the person drawn into it.

        Args:
            image: (H, W, 3) BGR uint8.
            threshold: keypoints with a lower score are not drawn.
        """
        return draw_poses(image, [self], threshold)


def to_supervision(poses: Sequence[Pose]):
    """Convert the poses of an image to `supervision.KeyPoints`.

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
