"""An evaluation with its inputs, to be repeated with one of them changed.

Legend: N annotations, P predictions, K keypoints.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .evaluator import Evaluation, evaluate
from .ground_truth import GroundTruth
from .pairs import Pairs, nearest
from .predictions import Predictions

LOW_AP = 0.8  # from here on, nothing is explained
GAIN = 0.1  # of AP without a cause, from which it is named


@dataclass(frozen=True, eq=False)
class Case:
    """An evaluation and its inputs.

    Attributes:
        truth: annotated persons.
        predictions: P predictions, sorted by image.
        scores: (P,).
        evaluation: of these predictions.
        sigmas: (K,) of OKS.
        meta: meta information of the data set.
    """

    truth: GroundTruth
    predictions: Predictions
    scores: np.ndarray
    evaluation: Evaluation
    sigmas: np.ndarray
    meta: dict

    @property
    def ap(self) -> float:
        """AP of the evaluation."""
        return self.evaluation.metrics['AP']

    @cached_property
    def counted(self) -> np.ndarray:
        """Rows of the persons that count."""
        return self.truth.rows[~self.truth.ignored[self.truth.rows]]

    @cached_property
    def pairs(self) -> Pairs:
        """Persons with their nearest predictions."""
        return nearest(self.truth, self.predictions, self.evaluation.evaluated)

    def names(self) -> list[str]:
        """Return the names of the keypoints; numbers after a conversion."""
        names, K = self.meta.get('keypoint_id2name', {}), self.truth.keypoints.shape[1]
        return [names[k] if len(names) == K else str(k) for k in range(K)]

    def mirror(self) -> np.ndarray:
        """Return the (K,) mirror images of the keypoints; themselves after a conversion."""
        K = self.truth.keypoints.shape[1]
        mirror = np.asarray(self.meta.get('flip_indices', range(K)))
        return mirror if len(mirror) == K else np.arange(K)

    def ap_with(self, **changes) -> float:
        """Return the AP with another `truth`, `predictions` or `sigmas`."""
        case = replace(self, **changes)
        iou_type = self.evaluation.iou_type
        arguments = case.truth, case.predictions, case.scores, case.sigmas
        return evaluate(*arguments, iou_type).metrics['AP']
