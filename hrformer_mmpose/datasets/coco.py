"""COCO's persons for top-down training and testing.

Data flow: annotation (and detection) file -> arrays (`annotations`) -> checks (`checks`) -> arrays
of samples (`persons`) -> one dictionary for each sample, as MMPose's pipeline expects it.

Invalid data stops the run in one line that names file and id: before training, or at an image that
cannot be decoded. With `on_error='skip'` invalid samples are skipped and reported.
"""

import os
import os.path as osp
from collections import Counter
from collections.abc import Sequence
from typing import Any

import mmpose
import numpy as np
import torch
from mmengine.dataset import force_full_init
from mmengine.logging import print_log
from mmpose.datasets.datasets import CocoDataset as _CocoDataset

from ..coco import annotations, checks, persons
from ..coco.annotations import HINT
from ..coco.metainfo import parse_metainfo
from ..errors import ConfigError, DataError
from ..registry import DATASETS
from .pipeline import Pipeline
from .sampler import ReproducibleSamples

METAINFO_OF_A_SAMPLE = (
    'dataset_name', 'upper_body_ids', 'lower_body_ids', 'flip_pairs', 'dataset_keypoint_weights',
    'flip_indices', 'skeleton_links',
)  # fmt: skip


def _metainfo() -> dict:
    """Return the full path of MMPose's COCO meta information, which is read without a warning."""
    file = _CocoDataset.METAINFO['from_file']
    shipped = osp.join(osp.dirname(mmpose.__file__), '.mim', file)
    return dict(from_file=shipped if osp.isfile(shipped) else file)


@DATASETS.register_module()
class CocoDataset(ReproducibleSamples, _CocoDataset):
    """`mmpose.CocoDataset` on arrays, with checks.

    Samples, their order and their values are MMPose's, except for the masks: `segmentation` is None
    and `raw_ann_info` has none (no top-down transform reads them). Samples share the meta
    information of the data set, so a transform must not modify it in place.

    Args:
        args: arguments of MMPose's class.
        bbox_file: person detections in COCO's result format, in test mode only, instead of the
            annotated boxes. A path that does not exist is relative to `data_root`.
        data_root: folder of the data.
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

    METAINFO = _metainfo()

    def __init__(
        self,
        *args,
        bbox_file: str | None = None,
        data_root: str = '',
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
        if data_root and not osp.isdir(data_root):
            raise DataError(f"data root '{data_root}' is not a folder: {HINT}")
        # In MMPose's configs this path includes the data root, and MMPose does not join them.
        if bbox_file and not (osp.isfile(bbox_file) or bbox_file.startswith(data_root)):
            bbox_file = osp.join(data_root, bbox_file)
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
        ann = annotations.read(self.ann_file)
        if self.test_mode:
            self.annotations = ann
        if ann.categories:
            self._metainfo['CLASSES'] = ann.categories
        num_keypoints = self.metainfo['num_keypoints']
        prefix = self.data_prefix['img']
        if self.bbox_file:
            dets = annotations.read_detections(self.bbox_file)
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
        self._check_images(samples.img_paths())
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

    def _check_images(self, paths: list[str]) -> None:
        """Check that no image is missing or empty, by one listing of each folder."""
        sizes = sizes_of(paths)
        bad = [path for path in paths if not sizes.get(path)]
        if bad and (self.on_error == 'raise' or len(bad) == len(paths)):
            state = 'is empty' if bad[0] in sizes else 'does not exist'
            more = f' ({len(bad) - 1} more of {len(paths)} are missing or empty)' if bad[1:] else ''
            raise DataError(f"image '{bad[0]}' {state}{more}")
        print_log(f'found {len(paths) - len(bad)} of {len(paths)} images', logger='current')


def sizes_of(paths: list[str]) -> dict[str, int]:
    """Return the size in bytes of each existing file.

    Args:
        paths: files in any number of folders.

    Raises:
        DataError: missing folder.
    """
    sizes: dict[str, int] = {}
    files = set(paths)
    for folder in {osp.dirname(path) for path in paths}:
        if not osp.isdir(folder):
            raise DataError(f"image folder '{folder}' does not exist: {HINT}")
        with os.scandir(folder) as entries:
            for entry in entries:
                path = osp.join(folder, entry.name)
                if path in files and entry.is_file():  # neither a folder nor a broken link
                    sizes[path] = entry.stat().st_size
    return sizes
