"""COCO's persons for top-down training and testing.

Data flow: annotation (and detection) file -> arrays (`annotations`) -> checks (`checks`) -> arrays
of samples (`persons`) -> one dictionary for each sample, as MMPose's pipeline expects it.

Invalid data stops the run in one line that names file and id: before training, or at an image that
cannot be decoded. With `on_error='skip'` invalid samples are skipped and reported.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import force_full_init
from mmengine.logging import print_log
from mmpose.datasets.datasets import CocoDataset as _CocoDataset

from ..coco import annotations, checks, persons
from ..coco.layouts import LAYOUTS
from ..coco.metainfo import locate, parse_metainfo
from ..coco.roots import hint
from ..errors import ConfigError, DataError
from ..registry import DATASETS
from .files import check_data_root, check_images, join_data_root
from .pipeline import Pipeline
from .sampler import ReproducibleSamples

METAINFO_OF_A_SAMPLE = (
    'dataset_name', 'upper_body_ids', 'lower_body_ids', 'flip_pairs', 'dataset_keypoint_weights',
    'flip_indices', 'skeleton_links',
)  # fmt: skip


@DATASETS.register_module()
class CocoDataset(ReproducibleSamples, _CocoDataset):
    """`mmpose.CocoDataset` on arrays, with checks.

    Samples, their order and their values are MMPose's, except for the masks: `segmentation` is None
    and `raw_ann_info` has none (no top-down transform reads them). Samples share the meta
    information of the data set, so a transform must not modify it in place.

    Other sets in COCO's format differ in `metainfo` only, and in `layout` where their annotations
    have other fields.

    Args:
        args: arguments of MMPose's class.
        bbox_file: person detections in COCO's result format, in test mode only, instead of the
            annotated boxes. A path that does not exist is relative to `data_root`.
        data_root: folder of the data.
        layout: one of `LAYOUTS`: 'coco', 'coco_wholebody', 'coco_wholebody_hand', 'halpe26'.
        on_error: 'raise' or 'skip'. 'skip' skips, counts and reports unusable persons, detections
            and images. In test mode the next usable sample replaces the sample of a broken image
            (`CocoMetric` counts each sample once).
        serialize_data: ignored; the arrays are shared without serialization.
        kwargs: arguments of MMPose's class.

    Attributes:
        annotations: arrays of the file, in test mode only; the metric uses them, too.

    Raises:
        ConfigError: invalid value of an argument.
        DataError: missing or invalid file or folder.
    """

    METAINFO = locate(_CocoDataset.METAINFO)

    def __init__(
        self,
        *args,
        bbox_file: str | None = None,
        data_root: str = '',
        layout: str = 'coco',
        on_error: str = 'raise',
        serialize_data: bool = True,
        **kwargs,
    ):
        if on_error not in ('raise', 'skip'):
            raise ConfigError(f"on_error={on_error!r} of the data set is not 'raise' or 'skip'")
        if kwargs.get('data_mode', 'topdown') != 'topdown':
            raise ConfigError(
                f'hrformer_mmpose.CocoDataset has no data_mode={kwargs["data_mode"]!r}, only '
                "'topdown'; for others use type='mmpose.CocoDataset'"
            )
        if layout not in LAYOUTS:
            raise ConfigError(f'layout={layout!r} of the data set is none of {", ".join(LAYOUTS)}')
        check_data_root(data_root, kwargs.get('metainfo') or self.METAINFO)
        bbox_file = join_data_root(bbox_file, data_root)
        self.layout = layout
        self.on_error = on_error
        self.annotations: annotations.Annotations | None = None
        self._broken: torch.Tensor | None = None
        self._skipped: list[str] = []
        super().__init__(
            *args, bbox_file=bbox_file, data_root=data_root, serialize_data=False, **kwargs
        )
        self.pipeline = Pipeline(self.pipeline.transforms)

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        return parse_metainfo(cls.METAINFO if metainfo is None else metainfo)

    def load_data_list(self) -> persons.Persons:
        """Read and check annotations, detections and image files.

        Returns:
            The persons, in the order of MMPose's class.
        """
        advice = hint(self.metainfo['dataset_name'])
        ann = annotations.read(self.ann_file, self.layout, advice)
        if self.test_mode:
            self.annotations = ann
        if ann.categories:
            self._metainfo['CLASSES'] = ann.categories
        num_keypoints = self.metainfo['num_keypoints']
        prefix = self.data_prefix['img']
        if self.bbox_file:
            dets = annotations.read_detections(self.bbox_file, advice)
            usable = self._usable(checks.check_detections(dets, ann), 'detection', len(dets.image))
            samples = persons.detected(dets, ann, prefix, usable, num_keypoints)
        else:
            usable = self._usable(
                checks.check_annotations(ann, num_keypoints), 'annotation', len(ann.id)
            )
            samples = persons.annotated(ann, prefix, usable, self.sample_interval)
        if not len(samples):
            use = 'test on' if self.test_mode else 'train on (with a box and a labelled keypoint)'
            raise DataError(f"'{self.bbox_file or self.ann_file}' holds no person to {use}")
        check_images(samples.img_paths(), advice, self.on_error)
        return samples

    def filter_data(self) -> persons.Persons:
        """Select persons whose box score is at least `filter_cfg['bbox_score_thr']`."""
        selected = self.data_list
        threshold = (self.filter_cfg or {}).get('bbox_score_thr')
        if threshold is not None:
            selected = selected[~(selected.score < threshold)]
            if not len(selected):
                raise DataError(
                    f"no box in '{self.bbox_file or self.ann_file}' scores {threshold} or more "
                    '(filter_cfg.bbox_score_thr)'
                )
        self._metainfo['image_folder'] = self.data_prefix['img']
        self._metainfo['boxes'] = dict(
            source=self.bbox_file or 'annotated',
            count=len(selected),
            score_threshold=threshold,
            below_threshold=len(self.data_list) - len(selected),
        )
        if self.on_error == 'skip':
            self._broken = torch.zeros(len(selected), dtype=torch.uint8).share_memory_()
        return selected

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> persons.Persons:
        if isinstance(indices, int):
            indices = slice(indices) if indices >= 0 else slice(indices, None)
        return self.data_list[indices]

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """Return the dictionary of sample `idx`, before the pipeline."""
        info = self.data_list[idx]
        info['sample_idx'] = idx if idx >= 0 else len(self) + idx
        info.update((key, self._metainfo[key]) for key in METAINFO_OF_A_SAMPLE)
        return info

    def prepare_data(self, idx: int) -> Any:
        """Return sample `idx` after the pipeline.

        Args:
            idx: index of the sample.

        Returns:
            The sample. With `on_error='skip'` and a broken image: in test mode the next usable
            sample; in training None, so that MMEngine draws another index.

        Raises:
            DataError: broken image, and `on_error` is 'raise' or no other image is usable.
        """
        if self._broken is None:
            return super().prepare_data(idx)
        for following in range(idx, idx + len(self)):
            index = following % len(self)
            if self._broken[index]:
                continue
            try:
                return super().prepare_data(index)
            except DataError as error:
                self._broken[index] = 1
                print_log(f'sample {index} is left out: {error}', 'current', level=30)
            if not self.test_mode:
                return None
        raise DataError(f"no image of '{self.ann_file}' can be read")

    def skipped(self) -> list[str]:
        """Return one line for each sample that `on_error='skip'` has skipped so far."""
        lines = list(self._skipped)
        if self._broken is not None:
            broken = np.flatnonzero(self._broken.numpy())
            for name, count in Counter(self.data_list.file_name[broken].tolist()).items():
                samples = f'{count} sample{"s" if count > 1 else ""}'
                lines.append(f"image '{name.decode()}' cannot be used ({samples})")
        return lines

    def _usable(self, findings: list[checks.Finding], kind: str, count: int) -> np.ndarray:
        """Return the (count,) mask of rows without a fatal finding, or raise the first finding."""
        lines = [line for finding in findings if finding.fatal for line in finding.lines()]
        if lines and self.on_error == 'raise':
            more = f' ({len(lines) - 1} more problems)' if lines[1:] else ''
            raise DataError(
                f"{lines[0]}{more}: tools/check_dataset.py lists all; on_error='skip' of the data "
                'set leaves them out'
            )
        for line in lines[:10]:
            print_log(f'left out: {line}', 'current', level=30)
        self._skipped = lines
        return checks.usable(findings, kind, count)
