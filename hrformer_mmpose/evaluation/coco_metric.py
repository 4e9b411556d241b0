"""OKS evaluation in MMPose's test loop, on arrays throughout.

Data flow: samples of a batch -> `Predictions` (arrays) -> concatenated over batches and processes,
without duplicates -> scores -> suppression -> COCO's metrics (`evaluator`) -> report (`report`).
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from mmengine.dist import broadcast_object_list, collect_results, get_world_size, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, print_log

from ..coco import annotations
from ..coco.checks import finite
from ..coco.layouts import LAYOUTS
from ..errors import ConfigError, DataError
from ..imaging.poses import KEYPOINT_THRESHOLD
from ..registry import METRICS
from . import evaluator, report
from .converters import convert_keypoints, convert_sigmas, parse_converter
from .ground_truth import GroundTruth, prepare_ground_truth
from .outcome import Outcome
from .predictions import (
    NMS_MODES,
    SCORE_MODES,
    Predictions,
    apply_nms,
    concatenate,
    deduplicate,
    from_samples,
    rescore,
    write_json,
)


@METRICS.register_module()
class CocoMetric(BaseMetric):
    """`mmpose.CocoMetric` on arrays, with the same options, metrics and keys.

    Annotations are read once, together with the data set. Each sample counts once, however samples
    are distributed over processes.

    Args:
        ann_file: annotations (default: those of the data set).
        use_area: use the annotated area of a person instead of 0.53 times the area of the box,
            which persons without an annotated area have in any case.
        iou_type: 'keypoints', or 'keypoints_crowd' for CrowdPose's metrics.
        score_mode: score of a prediction: 'bbox', 'keypoint', 'bbox_keypoint' or 'bbox_rle' (see
            `predictions.rescore`).
        keypoint_score_thr: minimum score of the keypoints averaged by 'bbox_keypoint'.
        nms_mode: 'oks_nms', 'soft_oks_nms' or 'none'.
        nms_thr: OKS threshold of the suppression.
        sigmas: (K,) of OKS (default: those of the data set).
        format_only: write predictions without evaluation; needs `outfile_prefix`.
        pred_converter: arguments of MMPose's KeypointConverter for the predictions.
        gt_converter: likewise for the annotations.
        outfile_prefix: write `PREFIX.keypoints.json`, in COCO's result format.
        layout: of the annotations, as of the data set.
        collect_device: as in MMEngine's `BaseMetric`.
        prefix: as in MMEngine's `BaseMetric`.

    Attributes:
        outcome: of the last evaluation, on the first process.

    Raises:
        ConfigError: invalid value of an argument.
        DataError: unusable annotations.
    """

    default_prefix = 'coco'
    fields: Mapping[str, slice] = dict(keypoints=slice(None))  # of results, with their keypoints

    def __init__(
        self,
        ann_file: str | None = None,
        use_area: bool = True,
        iou_type: str = 'keypoints',
        score_mode: str = 'bbox_keypoint',
        keypoint_score_thr: float = KEYPOINT_THRESHOLD,
        nms_mode: str = 'oks_nms',
        nms_thr: float = 0.9,
        sigmas: Sequence[float] | None = None,
        format_only: bool = False,
        pred_converter: dict | None = None,
        gt_converter: dict | None = None,
        outfile_prefix: str | None = None,
        layout: str = 'coco',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        _check_choice('iou_type', iou_type, evaluator.IOU_TYPES)
        _check_choice('score_mode', score_mode, SCORE_MODES)
        _check_choice('nms_mode', nms_mode, tuple(NMS_MODES))
        _check_choice('layout', layout, tuple(LAYOUTS))
        if format_only and outfile_prefix is None:
            raise ConfigError('CocoMetric: format_only=True needs outfile_prefix, where to write')
        self.ann_file = ann_file
        self.use_area = use_area
        self.iou_type = iou_type
        self.score_mode = score_mode
        self.keypoint_score_thr = keypoint_score_thr
        self.nms_mode = nms_mode
        self.nms_thr = nms_thr
        self.sigmas = sigmas
        self.format_only = format_only
        self.pred_converter = parse_converter('pred_converter', pred_converter)
        self.gt_converter = parse_converter('gt_converter', gt_converter)
        self.outfile_prefix = outfile_prefix
        self.layout = layout
        self.outcome: Outcome | None = None
        self._truth: GroundTruth | None = None
        if ann_file is not None and not format_only:
            self._read()  # report an unusable file before the run starts

    def process(self, data_batch: Sequence[dict], data_samples: Sequence[dict]) -> None:
        """Store the predictions of a batch.

        Args:
            data_batch: ignored.
            data_samples: see `predictions.from_samples`.
        """
        if data_samples:
            self.results.append(from_samples(data_samples))

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the metrics of the predictions of all processes.

        Args:
            size: of the data set; ignored, since duplicate samples are recognised by id.

        Returns:
            Value by name, the same on every process.
        """
        own = [concatenate(self.results) if self.results else None]
        self.results.clear()
        parts = collect_results(own, get_world_size(), self.collect_device)
        result: list = [None]
        if is_main_process():
            metrics = self.compute_metrics([part for part in parts if part is not None])
            result = [{f'{self.prefix}/{name}': value for name, value in metrics.items()}]
        broadcast_object_list(result)
        return result[0]

    def compute_metrics(self, results: list[Predictions]) -> dict[str, float]:
        """Compute the metrics of predictions.

        Args:
            results: one `Predictions` for each batch.

        Raises:
            DataError: no predictions, or predictions that do not match the annotations.
        """
        if not results:
            raise DataError('CocoMetric: there are no predictions to evaluate')
        predictions = deduplicate(concatenate(results))
        counts = dict(predicted=len(predictions))
        predictions = self._finite(predictions)
        counts['not_finite'] = counts['predicted'] - len(predictions)
        sigmas = self._oks_sigmas()
        scores = rescore(predictions, self.score_mode, self.keypoint_score_thr)
        selected = apply_nms(predictions, scores, self.nms_mode, self.nms_thr, sigmas)
        predictions, scores = predictions[selected], scores[selected]
        counts['kept'] = len(predictions)
        if self.outfile_prefix is not None:
            self._write(predictions, scores)
        if self.format_only:
            return {}
        if self._truth is None:
            self._read()
        evaluation = evaluator.evaluate(self._truth, predictions, scores, sigmas, self.iou_type)
        entries = dict(settings=self._settings(sigmas), counts=counts) | report.build(
            self._truth, predictions, scores, evaluation, sigmas, self.dataset_meta
        )
        self.outcome = Outcome(self._truth, predictions, scores, evaluation, entries)
        print_log(report.summary(entries), logger='current')
        return dict(evaluation.metrics)

    def _read(self) -> None:
        path = self.ann_file
        if path is None:
            name = self.dataset_meta['dataset_name']
            path = MessageHub.get_current_instance().get_info(f'{name}_ann_file', None)
        if path is None:
            raise DataError('CocoMetric: ann_file is not set, and the data set names none')
        self._truth = prepare_ground_truth(
            annotations.read(path, self.layout), self.iou_type, self.use_area, self.gt_converter
        )

    def _finite(self, predictions: Predictions) -> Predictions:
        """Drop predictions with NaN, and convert the keypoints to those of the annotations."""
        p = predictions
        valid = finite(p.keypoints) & finite(p.keypoint_scores)
        valid &= np.isfinite(p.bbox_score) & np.isfinite(p.crop_area)
        with_boxes = finite(p.bbox)
        if with_boxes.any():
            valid &= with_boxes
        if not valid.all():
            print_log(
                f'{(~valid).sum()} of {len(predictions)} predictions are no numbers (NaN) and '
                'are left out: has the training diverged?',
                logger='current',
                level=logging.WARNING,
            )
            predictions = predictions[valid]
        if self.pred_converter is not None:
            converted = {
                name: convert_keypoints(getattr(predictions, name), *self.pred_converter)
                for name in ('keypoints', 'keypoint_scores')
            }
            predictions = replace(predictions, **converted)
        return predictions

    def _oks_sigmas(self) -> np.ndarray:
        if self.sigmas is not None:
            return np.asarray(self.sigmas, np.float64)
        return convert_sigmas(np.asarray(self.dataset_meta['sigmas']), self.gt_converter)

    def _write(self, predictions: Predictions, scores: np.ndarray) -> None:
        path = f'{self.outfile_prefix}.keypoints.json'
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        write_json(predictions, scores, path, self.fields)
        print_log(f"{len(predictions)} predictions are in '{path}'", logger='current')

    def _settings(self, sigmas: np.ndarray) -> dict:
        return dict(
            ann_file=self._truth.annotations.path,
            boxes=self.dataset_meta.get('boxes'),
            score_mode=self.score_mode,
            keypoint_score_thr=self.keypoint_score_thr,
            nms_mode=self.nms_mode,
            nms_thr=self.nms_thr,
            use_area=self.use_area,
            iou_type=self.iou_type,
            sigmas=np.asarray(sigmas, np.float64).round(6).tolist(),
            own_sigmas=self.sigmas is not None,
        )


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f'CocoMetric: {name}={value!r} is none of {", ".join(allowed)}')
