"""OKS evaluation of MMPose's test loop, on arrays from end to end.

Data flow: samples of a batch -> `Predictions` (arrays) -> joined over batches and processes, each
sample once -> scores -> suppression -> COCO's figures (`evaluator`) -> report (`report`).
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mmengine.dist import (
    broadcast_object_list,
    collect_results,
    get_world_size,
    is_main_process,
)
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub, print_log

from ..coco import annotations
from ..coco.checks import finite
from ..errors import ConfigError, DataError
from ..imaging.poses import KEYPOINT_THRESHOLD
from ..registry import METRICS
from . import evaluator, report
from .predictions import (
    NMS_MODES,
    SCORE_MODES,
    Predictions,
    concatenate,
    from_samples,
    rescore,
    suppress,
    unique,
    write_json,
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """An evaluation with all that led to it, for reports and pictures.

    Attributes:
        truth, evaluation: of `evaluator`. predictions: after suppression. scores: (P,).
        report: of `report.build`.
    """

    truth: evaluator.Truth
    predictions: Predictions
    scores: np.ndarray
    evaluation: evaluator.Evaluation
    report: dict


@METRICS.register_module()
class CocoMetric(BaseMetric):
    """`mmpose.CocoMetric` with the same options, figures and keys, and without its waste.

    Annotations are read once (with the data set), predictions stay arrays and each sample is
    counted once, however samples were divided among processes.

    Args:
        ann_file: annotations; by default those of the data set.
        use_area: take the annotated area of a person; if False, 0.53 times the box's.
        iou_type: 'keypoints', or 'keypoints_crowd' for CrowdPose's figures.
        score_mode: what a prediction's score is: 'bbox', 'keypoint', 'bbox_keypoint', 'bbox_rle'
            (see `predictions.rescore`).
        keypoint_score_thr: keypoints above it count for 'bbox_keypoint'.
        nms_mode: 'oks_nms', 'soft_oks_nms' or 'none'. nms_thr: OKS threshold of either.
        sigmas: (K,) of OKS; by default the data set's.
        format_only: write predictions and evaluate nothing; needs `outfile_prefix`.
        pred_converter, gt_converter: dict(num_keypoints, mapping) of MMPose's KeypointConverter.
        outfile_prefix: write `PREFIX.keypoints.json`, in COCO's result format.
        collect_device, prefix: as in MMEngine's `BaseMetric`.

    Attributes:
        outcome: the last evaluation's, on the first process.

    Raises:
        ConfigError: a value is none of those above. DataError: the annotations cannot be used.
    """

    default_prefix = 'coco'

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
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix)
        _one_of('iou_type', iou_type, evaluator.IOU_TYPES)
        _one_of('score_mode', score_mode, SCORE_MODES)
        _one_of('nms_mode', nms_mode, tuple(NMS_MODES))
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
        self.pred_converter = _mapping('pred_converter', pred_converter)
        self.gt_converter = _mapping('gt_converter', gt_converter)
        self.outfile_prefix = outfile_prefix
        self.outcome: Outcome | None = None
        self._truth: evaluator.Truth | None = None
        if ann_file is not None and not format_only:
            self._read()  # a wrong file stops the run at its start

    def process(self, data_batch: Sequence[dict], data_samples: Sequence[dict]) -> None:
        """Keep a batch's predictions.

        Args:
            data_batch: not looked at. data_samples: see `predictions.from_samples`.
        """
        if data_samples:
            self.results.append(from_samples(data_samples))

    def evaluate(self, size: int) -> dict[str, float]:
        """Join all processes' predictions and compute the figures, for all of them.

        Args:
            size: of the data set; without a meaning here, since samples are told apart by id.
        """
        mine = [concatenate(self.results) if self.results else None]
        self.results.clear()
        parts = collect_results(mine, get_world_size(), self.collect_device)
        answer: list = [None]
        if is_main_process():
            figures = self.compute_metrics([part for part in parts if part is not None])
            answer = [{f'{self.prefix}/{name}': value for name, value in figures.items()}]
        broadcast_object_list(answer)
        return answer[0]

    def compute_metrics(self, results: list[Predictions]) -> dict[str, float]:
        """Figures of predictions of one process or all.

        Args:
            results: one `Predictions` a batch.

        Raises:
            DataError: there are none, or they do not fit the annotations.
        """
        if not results:
            raise DataError('CocoMetric: there are no predictions to evaluate')
        predictions = unique(concatenate(results))
        counts = dict(predicted=len(predictions))
        predictions = self._usable(predictions)
        counts['not_finite'] = counts['predicted'] - len(predictions)
        sigmas = self._sigmas_of_data()
        scores = rescore(predictions, self.score_mode, self.keypoint_score_thr)
        kept = suppress(predictions, scores, self.nms_mode, self.nms_thr, sigmas)
        predictions, scores = predictions[kept], scores[kept]
        counts['kept'] = len(predictions)
        if self.outfile_prefix is not None:
            self._write(predictions, scores)
        if self.format_only:
            return {}
        if self._truth is None:
            self._read()
        found = evaluator.evaluate(self._truth, predictions, scores, sigmas, self.iou_type)
        summary = report.build(self._truth, predictions, scores, found, sigmas, self.dataset_meta)
        summary = dict(settings=self._settings(sigmas), counts=counts) | summary
        self.outcome = Outcome(self._truth, predictions, scores, found, summary)
        print_log(report.summary(summary), logger='current')
        return dict(found.figures)

    def _read(self) -> None:
        path = self.ann_file
        if path is None:
            name = self.dataset_meta['dataset_name']
            path = MessageHub.get_current_instance().get_info(f'{name}_ann_file', None)
        if path is None:
            raise DataError('CocoMetric: ann_file is not set, and the data set names none')
        self._truth = evaluator.truth(
            annotations.read(path), self.iou_type, self.use_area, self.gt_converter
        )

    def _usable(self, predictions: Predictions) -> Predictions:
        """Predictions of numbers, with the keypoints that the annotations have."""
        p = predictions
        numbers = finite(p.keypoints) & finite(p.keypoint_scores)
        numbers &= np.isfinite(p.bbox_score) & np.isfinite(p.crop_area)
        with_boxes = finite(p.bbox)
        if with_boxes.any():
            numbers &= with_boxes
        if not numbers.all():
            print_log(
                f'{(~numbers).sum()} of {len(predictions)} predictions are no numbers (NaN) and '
                'are left out: has the training diverged?',
                logger='current',
                level=logging.WARNING,
            )
            predictions = predictions[numbers]
        if self.pred_converter is not None:
            predictions = replace(
                predictions,
                keypoints=evaluator.converted(predictions.keypoints, *self.pred_converter),
                keypoint_scores=evaluator.converted(
                    predictions.keypoint_scores, *self.pred_converter
                ),
            )
        return predictions

    def _sigmas_of_data(self) -> np.ndarray:
        if self.sigmas is not None:
            return np.asarray(self.sigmas, np.float64)
        sigmas = np.asarray(self.dataset_meta['sigmas'])
        if self.gt_converter is None:
            return sigmas
        count, sources, targets = self.gt_converter
        result = np.ones(count, sigmas.dtype)
        result[targets] = sigmas[sources]
        return result

    def _write(self, predictions: Predictions, scores: np.ndarray) -> None:
        path = f'{self.outfile_prefix}.keypoints.json'
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        write_json(predictions, scores, path)
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


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f'CocoMetric: {name}={value!r} is none of {", ".join(allowed)}')


def _mapping(name: str, converter: dict | None) -> tuple[int, np.ndarray, np.ndarray] | None:
    """(number of keypoints, sources, targets) of a config of MMPose's KeypointConverter."""
    if converter is None:
        return None
    try:
        pairs = np.array(converter['mapping'], np.intp).reshape(-1, 2)
        return int(converter['num_keypoints']), pairs[:, 0], pairs[:, 1]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'CocoMetric: {name} is not dict(num_keypoints=..., mapping=[(from, to), ...])'
        ) from error
