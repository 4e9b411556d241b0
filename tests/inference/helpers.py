"""A network whose answer is known: it finds the brightest pixel of a crop. Images for it."""

import itertools
import threading

import numpy as np

from hrformer_mmpose.imaging.crops import BOX_PADDING
from hrformer_mmpose.imaging.skeleton import COCO

SPREAD = 0.25  # pixels of the input between one keypoint and the next


class Brightest:
    """All keypoints at the brightest pixel of the crop, in a row; its value / 255 is the score."""

    input_size = (48, 64)
    padding = BOX_PADDING
    udp = False
    skeleton = COCO

    def __init__(self):
        self.batches: list[int] = []

    def predict(self, batch):
        assert batch.dtype == np.uint8
        assert batch.shape[1:] == (64, 48, 3)
        self.batches.append(len(batch))
        grey = batch.max(3).reshape(len(batch), -1)
        y, x = np.divmod(grey.argmax(1), 48)
        keypoints = np.stack([x, y], 1)[:, None] + SPREAD * np.arange(17)[None, :, None]
        scores = np.repeat(grey.max(1, keepdims=True) / 255, 17, 1)
        return keypoints.astype(np.float32), scores.astype(np.float32)


# A box of 38.4 x 51.2 becomes, padded, the input's 48 x 64: pixels are those of the image.
HALF = np.array([19.2, 25.6])


def scene(*persons: tuple[int, int], size=(120, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Black with one bright pixel for each person, off the middle of its box; and the boxes."""
    image = np.zeros((*size, 3), np.uint8)
    boxes = []
    for number, (x, y) in enumerate(persons):
        image[y, x] = 255 - number
        middle = np.array([x + 3, y - 5])
        boxes.append([*(middle - HALF), *(middle + HALF), 0.9 - 0.1 * number])
    return image, np.array(boxes, np.float32).reshape(-1, 5)


SCENES = [
    scene((30, 40)),
    scene(),
    scene((40, 30), (110, 80), (70, 60), size=(128, 192)),
    scene((100, 50), (25, 90)),
    scene(),
    scene((60, 60)),
    scene((35, 35), (90, 60), (35, 100), (145, 35)),
]
ARRAYS, BOXES = ([part[i] for part in SCENES] for i in (0, 1))
WHERE = [
    [(30, 40)], [], [(40, 30), (110, 80), (70, 60)], [(100, 50), (25, 90)], [], [(60, 60)],
    [(35, 35), (90, 60), (35, 100), (145, 35)],
]  # fmt: skip


def where(poses) -> list[tuple[int, int]]:
    """The first keypoint of each; the others have to be in their row."""
    for pose in poses:
        steps = pose.keypoints - pose.keypoints[0]
        np.testing.assert_allclose(steps, SPREAD * np.arange(17)[:, None] * [1, 1], atol=1e-3)
    return [tuple(pose.keypoints[0].round(2).tolist()) for pose in poses]


class Counted:
    """Endless images that count how many were asked for."""

    def __init__(self, *kinds):
        self.kinds, self.asked = itertools.cycle(kinds), 0

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        return next(self.kinds)


def readers() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith('hrformer-reader')]
