"""Checks that data, head and metrics of a config have the same keypoints."""

import warnings
from collections.abc import Mapping
from typing import Any

from mmpose.datasets.datasets.base import BaseCocoStyleDataset
from mmpose.registry import DATASETS, METRICS

from ..coco.metainfo import parse_metainfo
from ..errors import ConfigError
from ..evaluation.coco_wholebody_metric import PART_METRICS
from ..evaluation.evaluator import NAMES

# Of MMPose's evaluators without OKS; the metrics of others are not known before a validation.
METRIC_NAMES = dict(
    PCKAccuracy=('PCK', 'PCKh', 'tPCK'),
    MpiiPCKAccuracy=('PCK', 'PCK@0.1'),
    AUC=('AUC',),
    EPE=('EPE',),
)
OKS_METRICS = 'CocoMetric', 'CocoWholeBodyMetric'
LAYOUTS_OF_METRICS = dict(CocoWholeBodyMetric='coco_wholebody')
CODECS = ('MSRAHeatmap', 'UDPHeatmap', 'MegviiHeatmap', 'CoordinateLabel')
OUTPUTS = dict(HeatmapHead='out_channels', PRTRHead='num_joints')  # by head, what keypoints decide


def check_keypoints(cfg: Mapping, uses: list[str]) -> None:
    """Check that head and metrics have as many keypoints as the data, and the same layout of files.

    Combined data sets and conversions between sets of keypoints are not checked.

    Args:
        cfg: config whose loaders and evaluators are complete.
        uses: loops that will run: 'train', 'val', 'test'.

    Raises:
        ConfigError: the numbers differ, or a metainfo file cannot be used.
    """
    for use in uses:
        dataset = cfg[f'{use}_dataloader']['dataset']
        metainfo = _metainfo(dataset)
        if metainfo is not None:
            _check_head(cfg, use, metainfo['num_keypoints'])
            for metric in _metrics(cfg, use):
                _check_sigmas(metric, f'{use}_evaluator', metainfo)
                _check_layout(metric, dataset, use)
            for metric in as_list(cfg.get(f'{use}_evaluator')):
                _check_first_pixel(metric, dataset, use)
    if 'train' in uses and 'val' in uses:
        _check_save_best(cfg)


def _metainfo(dataset: Mapping) -> dict | None:
    """Return the metainfo of a data set's samples; None if it depends on the pipeline."""
    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if not (isinstance(kind, type) and issubclass(kind, BaseCocoStyleDataset)):
        return None
    metainfo = dataset.get('metainfo', kind.METAINFO)
    steps = [_name(step) for step in dataset.get('pipeline') or ()]
    if not metainfo or 'KeypointConverter' in steps:
        return None
    with warnings.catch_warnings():  # MMPose warns if it falls back to its own file
        warnings.simplefilter('ignore')
        return parse_metainfo(metainfo)


def _check_head(cfg: Mapping, use: str, count: int) -> None:
    head, test_cfg = cfg['model'].get('head') or {}, cfg['model'].get('test_cfg') or {}
    decoder = head.get('decoder') or {}
    name = OUTPUTS.get(_name(head), '')
    outputs = head.get(name)
    if _name(decoder) not in CODECS or outputs is None:
        return
    if use != 'train' and test_cfg.get('output_keypoint_indices'):
        return
    if any(metric.get('pred_converter') for metric in _metrics(cfg, use)):
        return
    needed = 3 * count if decoder.get('heatmap_type') == 'combined' else count
    if outputs != needed:
        raise ConfigError(
            f'model.head.{name}={outputs}, but the data of {use}_dataloader have {count} '
            f'keypoints: set it to {needed}'
        )


def _check_sigmas(metric: Mapping, name: str, metainfo: Mapping) -> None:
    count, sigmas = metainfo['num_keypoints'], metric.get('sigmas')
    if sigmas is None:
        sigmas = metainfo['sigmas']
    else:
        count = (metric.get('gt_converter') or {}).get('num_keypoints', count)
    if len(sigmas) != count:
        raise ConfigError(f'{name} has {len(sigmas)} sigmas for {count} keypoints')


def _check_layout(metric: Mapping, dataset: Mapping, use: str) -> None:
    """Check that this package's metric reads the annotations as the data set does."""
    if not is_own_metric(metric) or dataset['type'] != 'hrformer_mmpose.CocoDataset':
        return
    of_metric = LAYOUTS_OF_METRICS.get(_name(metric), 'coco')
    layout, expected = metric.get('layout', of_metric), dataset.get('layout', 'coco')
    if layout != expected:
        raise ConfigError(
            f'{use}_evaluator reads layout={layout!r}, {use}_dataloader.dataset has '
            f'layout={expected!r}: they must be equal'
        )


def _check_first_pixel(metric: Any, dataset: Mapping, use: str) -> None:
    """Check that MPII's data set and metric count pixels from the same number."""
    if (_name(dataset), _name(metric)) != ('MpiiDataset', 'MpiiPCKAccuracy'):
        return
    if dataset['type'].rpartition('.')[0] != metric['type'].rpartition('.')[0]:
        raise ConfigError(
            f'{use}_evaluator is {metric["type"]}, {use}_dataloader.dataset {dataset["type"]}: '
            'take both from hrformer_mmpose (pixels count from 0) or both from MMPose (from 1)'
        )


def _check_save_best(cfg: Mapping) -> None:
    """Check that `save_best` is a metric; the run would fail after its first validation."""
    save_best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get(
        'save_best'
    ) or 'auto'
    groups = [_metric_names(metric) for metric in as_list(cfg['val_evaluator'])]
    names = [name for group in groups for name in group]
    if not all(groups):
        return
    for name in as_list(save_best):
        if name != 'auto' and name not in names:
            raise ConfigError(
                f'default_hooks.checkpoint.save_best={name!r} is not one of the metrics of '
                f'val_evaluator: {", ".join(names)}'
            )


def _metric_names(metric: Mapping) -> list[str]:
    """Return the names of an evaluator's metrics; none if they are not known here."""
    names = METRIC_NAMES.get(_name(metric), ())
    if metric in _oks_metrics([metric]):
        names = NAMES.get(metric.get('iou_type', 'keypoints'), ())
        with_parts = is_own_metric(metric) and _name(metric) == 'CocoWholeBodyMetric'
        names = (*names, *PART_METRICS * with_parts)
    if not names:
        return []
    prefix = metric.get('prefix') or getattr(METRICS.get(metric['type']), 'default_prefix', None)
    return [f'{prefix}/{name}' if prefix else name for name in names]


def _metrics(cfg: Mapping, use: str) -> list[Mapping]:
    """Return the evaluators of type `CocoMetric` and `CocoWholeBodyMetric`."""
    return _oks_metrics(as_list(cfg.get(f'{use}_evaluator')))


def _oks_metrics(evaluators: list) -> list[Mapping]:
    return [item for item in evaluators if _name(item) in OKS_METRICS]


def is_own_metric(evaluator: Any) -> bool:
    """Return whether settings are of this package's `CocoMetric` or `CocoWholeBodyMetric`."""
    return evaluator.get('type') in [f'hrformer_mmpose.{name}' for name in OKS_METRICS]


def as_list(value: Any) -> list:
    """Return a list or tuple as a list, any other value as a list of length one."""
    return [*value] if isinstance(value, list | tuple) else [value]


def _name(settings: Any) -> str:
    """Return the class name in `type`, without its scope."""
    return str(settings.get('type') if isinstance(settings, Mapping) else '').rpartition('.')[2]
