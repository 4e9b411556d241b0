"""Input size, batch size and length of training for a set of persons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Width and height of inputs of about equal area; multiples of 32 have whole maps on all branches.
INPUT_SIZES = (
    (128, 384), (160, 320), (192, 256), (224, 224), (256, 192), (320, 160), (384, 128),
)  # fmt: skip
BATCH_SIZES = ((1000, 32), (100, 16), (0, 8))  # persons at least, samples in a batch
# The authors train 210 epochs on COCO's 150,000 persons, with 5e-4 for 256 samples in a batch.
RECIPE_EPOCHS, RECIPE_SAMPLES = 210, 210 * 150_000
RECIPE_RATE, RECIPE_BATCH = 5e-4, 256
RECIPE_STEPS = (170 / 210, 200 / 210)
MIN_ITERATIONS = 4000  # of a small set
# Learning by heart, without augmentation: in 42 epochs HRFormer-T reaches an AP of 0.958 on
# the 299 persons of 168 images of COCO (five keypoints, 128x96), 0.916 after 30.
OVERFIT_EPOCHS, OVERFIT_ITERATIONS, OVERFIT_RATE = 60, 600, 1e-3
MAX_WARMUP = 500  # iterations
VALIDATIONS, OVERFIT_VALIDATIONS = 21, 4  # the recipe: every 10 of 210 epochs


@dataclass(frozen=True)
class Schedule:
    """Length and rate of a training.

    Attributes:
        batch_size: samples of one process.
        epochs: times that each person is seen.
        val_interval: epochs between validations.
        milestones: epochs after which the rate falls to a tenth.
        warmup: iterations.
        rate: learning rate.
    """

    batch_size: int
    epochs: int
    val_interval: int
    milestones: tuple[int, int]
    warmup: int
    rate: float


def input_size(boxes: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Return the (width, height) of `INPUT_SIZES` that is nearest in shape to most boxes, xywh."""
    sides = np.array(boxes, float)[:, 2:]
    shape = float(np.median(np.log(sides[:, 0] / sides[:, 1])))
    return min(INPUT_SIZES, key=lambda size: abs(math.log(size[0] / size[1]) - shape))


def schedule(persons: int, epochs: int | None = None, overfit: bool = False) -> Schedule:
    """Choose batch size, epochs and rate by the number of persons to train on.

    The recipe's 210 epochs, more for a small set (`MIN_ITERATIONS`), fewer for one larger than
    COCO. The rate falls with the square root of the batch size, the rule for Adam.

    Args:
        persons: number of samples in an epoch.
        epochs: overrides the choice.
        overfit: a short training at a high rate, to learn the persons by heart.
    """
    batch_size = next(size for least, size in BATCH_SIZES if persons >= least)
    iterations = math.ceil(persons / batch_size)
    rate = RECIPE_RATE * math.sqrt(batch_size / RECIPE_BATCH)
    chosen = max(RECIPE_EPOCHS, math.ceil(MIN_ITERATIONS / iterations))
    chosen = max(1, min(chosen, RECIPE_SAMPLES // persons))
    if overfit:
        chosen, rate = max(OVERFIT_EPOCHS, math.ceil(OVERFIT_ITERATIONS / iterations)), OVERFIT_RATE
    epochs = epochs or chosen
    first, second = (max(1, round(epochs * step)) for step in RECIPE_STEPS)
    return Schedule(
        batch_size=batch_size,
        epochs=epochs,
        val_interval=max(1, epochs // (OVERFIT_VALIDATIONS if overfit else VALIDATIONS)),
        milestones=(first, max(first + 1, second)),
        warmup=min(MAX_WARMUP, max(1, epochs * iterations // 20)),
        rate=float(f'{rate:.2g}'),
    )
