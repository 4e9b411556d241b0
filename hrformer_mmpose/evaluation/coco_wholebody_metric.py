"""OKS evaluation of 133 keypoints, and of body, feet, face and hands on their own."""

from dataclasses import replace

import numpy as np

from ..coco.layouts import WHOLE_BODY
from ..registry import METRICS
from . import evaluator
from .coco_metric import CocoMetric
from .ground_truth import GroundTruth, prepare_ground_truth
from .predictions import Predictions

_STOPS = np.cumsum([*WHOLE_BODY.values()]).tolist()
FIELDS = {
    name: slice(stop - count, stop)
    for (name, count), stop in zip(WHOLE_BODY.items(), _STOPS, strict=True)
}
PARTS = dict(zip(('body', 'foot', 'face', 'lefthand', 'righthand'), FIELDS.values(), strict=True))
PART_METRICS = [f'{key} ({part})' for part in PARTS for key in ('AP', 'AR')]


@METRICS.register_module()
class CocoWholeBodyMetric(CocoMetric):
    """`mmpose.CocoWholeBodyMetric` on arrays, with AP and AR of each part.

    MMPose prints the metrics of the parts; here they are metrics, too: 'AP (body)', 'AR (face)'.
    A person counts in the evaluation of a part if it has labelled keypoints of that part.

    Args:
        args: arguments of `CocoMetric`.
        kwargs: likewise, except `layout`.
    """

    default_prefix = 'coco-wholebody'
    fields = FIELDS

    def __init__(self, *args, **kwargs):
        self._parts: dict[str, GroundTruth] = {}
        super().__init__(*args, layout='coco_wholebody', **kwargs)

    def compute_metrics(self, results: list[Predictions]) -> dict[str, float]:
        """Compute the metrics of predictions; see `CocoMetric.compute_metrics`."""
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        outcome, sigmas = self.outcome, self._oks_sigmas()
        for name, part in PARTS.items():
            p = outcome.predictions
            p = replace(
                p, keypoints=p.keypoints[:, part], keypoint_scores=p.keypoint_scores[:, part]
            )
            values = evaluator.evaluate(self._parts[name], p, outcome.scores, sigmas[part]).metrics
            metrics |= {f'{key} ({name})': values[key] for key in ('AP', 'AR')}
        return metrics

    def _read(self) -> None:
        super()._read()
        whole = self._truth.annotations
        for name, part in PARTS.items():
            annotations = replace(whole, keypoints=whole.keypoints[:, part])
            self._parts[name] = prepare_ground_truth(annotations, use_area=self.use_area)

    def _finite(self, predictions: Predictions) -> Predictions:
        """Replace the boxes by the extents of the 17 body keypoints.

        The area of a prediction without a match decides whether it counts among medium or large
        persons; xtcocotools takes it from the body.
        """
        predictions = super()._finite(predictions)
        body = predictions.keypoints[:, PARTS['body']].astype(np.float64)
        return replace(
            predictions, bbox=np.concatenate([body.min(1), np.ptp(body, axis=1)], axis=1)
        )
