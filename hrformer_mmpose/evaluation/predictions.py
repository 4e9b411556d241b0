"""Predictions as arrays: collected from the model's samples, rescored, suppressed, written.

Legend: P predictions, K keypoints.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ..io import replacing
from . import oks

SCORE_MODES = ('bbox', 'bbox_keypoint', 'bbox_rle', 'keypoint')
NMS_MODES = {'oks_nms': oks.hard_nms, 'soft_oks_nms': oks.soft_nms, 'none': None}


@dataclass(frozen=True, eq=False)
class Predictions:
    """Poses of many images.

    Attributes:
        id: (P,) of the sample, -1 for samples with several poses.
        image: (P,) ids.
        category: (P,) ids.
        keypoints: (P, K, 2) image pixels.
        keypoint_scores: (P, K).
        bbox: (P, 4) xywh in pixels, NaN if missing.
        bbox_score: (P,).
        crop_area: (P,) square pixels of the padded box or, if missing, of the keypoints' extent;
            MMPose's suppression uses it as the person's area.
    """

    id: np.ndarray
    image: np.ndarray
    category: np.ndarray
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    bbox: np.ndarray
    bbox_score: np.ndarray
    crop_area: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, index) -> 'Predictions':
        """Select predictions by any index that NumPy accepts."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def area(self) -> np.ndarray:
        """Return the (P,) areas of the boxes or, without boxes, of the keypoints' extents."""
        if len(self) and np.isfinite(self.bbox[0]).all():
            return self.bbox[:, 2:].astype(np.float64).prod(1)
        return np.ptp(self.keypoints.astype(np.float64), axis=1).prod(1)


def from_samples(samples: Sequence[dict]) -> Predictions:
    """Collect the predictions of a batch.

    Args:
        samples: output of the model as dictionaries: `id`, `img_id`, `pred_instances` with
            `keypoints` (N, K, 2) and `keypoint_scores` (N, K), and `gt_instances`.

    Raises:
        ValueError: a sample has no predictions.
    """
    return concatenate([_from_sample(sample) for sample in samples])


def _from_sample(sample: dict) -> Predictions:
    if 'pred_instances' not in sample:
        raise ValueError('`pred_instances` are missing: the model predicted nothing to evaluate')
    predicted, annotated = sample['pred_instances'], sample.get('gt_instances', {})
    keypoints = np.asarray(predicted['keypoints'])
    count = len(keypoints)
    if 'bbox_scores' in predicted:
        bbox_score = predicted['bbox_scores']
    else:
        bbox_score = annotated.get('bbox_scores', ())
        if len(bbox_score) != count:  # a bottom-up model
            bbox_score = np.ones(count)
    if 'bboxes' in predicted:
        bbox = np.array(predicted['bboxes'])[:, :4]
        bbox[:, 2:] -= bbox[:, :2]
    else:
        bbox = np.full((count, 4), np.nan, np.float32)
    if len(annotated.get('bbox_scales', ())) == count:
        crop_area = np.prod(np.asarray(annotated['bbox_scales']), axis=1)
    else:
        crop_area = np.ptp(keypoints, axis=1).prod(1)
    number = sample['id'] if isinstance(sample['id'], int | np.integer) else -1
    return Predictions(
        id=np.full(count, number, np.int64),
        image=np.full(count, sample['img_id'], np.int64),
        category=np.full(count, sample.get('category_id', 1), np.int64),
        keypoints=keypoints,
        keypoint_scores=np.asarray(predicted['keypoint_scores']),
        bbox=bbox,
        bbox_score=np.asarray(bbox_score),
        crop_area=crop_area,
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate one or more sets of predictions."""
    return Predictions(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Predictions)}
    )


def deduplicate(predictions: Predictions) -> Predictions:
    """Sort by image and id, and select the first prediction of each id."""
    order = np.lexsort((predictions.id, predictions.image))
    predictions = predictions[order]
    same = (np.diff(predictions.image) == 0) & (np.diff(predictions.id) == 0)
    first = np.concatenate([[True], ~same])
    return predictions[first | (predictions.id < 0)]


def rescore(predictions: Predictions, mode: str, keypoint_threshold: float) -> np.ndarray:
    """Compute the scores of predictions.

    Args:
        predictions: P predictions.
        mode: 'bbox': score of the box. 'keypoint': mean score of the keypoints. 'bbox_keypoint':
            score of the box times the mean score of the keypoints above the threshold.
            'bbox_rle': sum of the box score and the mean and maximum of the keypoint scores.
        keypoint_threshold: for 'bbox_keypoint'.

    Returns:
        (P,) float64.
    """
    box, scores = predictions.bbox_score, predictions.keypoint_scores
    if mode == 'bbox':
        return box.astype(np.float64)
    if mode == 'keypoint':
        return scores.mean(1).astype(np.float64)
    if mode == 'bbox_rle':
        return (box + scores.mean(1) + scores.max(1)).astype(np.float64)
    scores = scores.astype(np.float64)
    confident = scores > keypoint_threshold
    mean = np.where(confident, scores, 0).sum(1) / np.maximum(confident.sum(1), 1)
    return box * mean


def apply_nms(
    predictions: Predictions, scores: np.ndarray, mode: str, threshold: float, sigmas: np.ndarray
) -> np.ndarray:
    """Apply non-maximum suppression to each image.

    Args:
        predictions: sorted by image.
        scores: (P,).
        mode: key of `NMS_MODES`.
        threshold: of OKS.
        sigmas: (K,) of OKS.

    Returns:
        Indices of the selected predictions.
    """
    nms = NMS_MODES[mode]
    if nms is None or not len(predictions):
        return np.arange(len(predictions))
    starts = np.flatnonzero(np.diff(predictions.image, prepend=predictions.image[0] - 1))
    selected = []
    for start, stop in zip(starts, [*starts[1:], len(predictions)], strict=True):
        part = slice(start, stop)
        similarity = oks.pairwise(predictions.keypoints[part], predictions.crop_area[part], sigmas)
        selected.append(start + nms(similarity, scores[part], threshold))
    return np.concatenate(selected)


def write_json(
    predictions: Predictions, scores: np.ndarray, path: str, fields: Mapping[str, slice]
) -> None:
    """Write COCO's result format atomically, with coordinates rounded to 1e-4 pixels.

    Args:
        predictions: P predictions.
        scores: (P,).
        path: of the file.
        fields: names of the fields of keypoints, and the keypoints in each.
    """
    with replacing(path) as partial, open(partial, 'w', encoding='utf-8') as file:
        separator = '['
        for start in range(0, len(predictions), 1000):
            part = slice(start, start + 1000)
            rows = _results(predictions[part], scores[part], fields)
            file.write(separator + json.dumps(rows, separators=(',', ':'))[1:-1])
            separator = ','
        file.write(']' if len(predictions) else '[]')


def _results(
    predictions: Predictions, scores: np.ndarray, fields: Mapping[str, slice]
) -> list[dict]:
    p = predictions
    keypoints = np.concatenate([p.keypoints, p.keypoint_scores[..., None]], 2)
    keypoints = keypoints.astype(np.float64).round(4)
    columns = [rows_of_numbers(keypoints[:, part]) for part in fields.values()]
    rows = [
        dict(image_id=image, category_id=category, score=score)
        | dict(zip(fields, numbers, strict=True))
        for image, category, score, *numbers in zip(
            p.image.tolist(), p.category.tolist(), scores.tolist(), *columns, strict=True
        )
    ]
    if len(p) and np.isfinite(p.bbox[0]).all():
        for row, box in zip(rows, p.bbox.astype(np.float64).round(4).tolist(), strict=True):
            row['bbox'] = box
    return rows


def rows_of_numbers(keypoints: np.ndarray) -> list[list[float]]:
    """Flatten (P, K, 3) keypoints to P lists of 3 K numbers, COCO's format."""
    return keypoints.astype(np.float64).reshape(len(keypoints), 3 * keypoints.shape[1]).tolist()
