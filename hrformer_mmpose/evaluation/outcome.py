"""Inputs and results of an evaluation."""

from dataclasses import dataclass

import numpy as np

from .evaluator import Evaluation
from .ground_truth import GroundTruth
from .predictions import Predictions


@dataclass(frozen=True, eq=False)
class Outcome:
    """Inputs and results of an evaluation, for reports and pictures.

    Attributes:
        truth: annotated persons.
        predictions: P predictions after suppression.
        scores: (P,).
        evaluation: precision and recall.
        report: from `report.build`.
    """

    truth: GroundTruth
    predictions: Predictions
    scores: np.ndarray
    evaluation: Evaluation
    report: dict
