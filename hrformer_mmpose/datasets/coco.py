"""COCO's persons for top-down training and testing.

Data flow: annotation (and detection) file -> arrays (`annotations`) -> checks (`checks`) -> arrays
of samples (`persons`) -> one dictionary a sample, as MMPose's pipeline expects it.

What a user can get wrong stops the run before it trains, in one line that names file and id; with
`on_error='skip'` it leaves the sample out, and says how many at the end.
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
from .sampler import ReproducibleSamples

METAINFO_OF_A_SAMPLE = (
    'dataset_name', 'upper_body_ids', 'lower_body_ids', 'flip_pairs', 'dataset_keypoint_weights',
    'flip_indices', 'skeleton_links',
)  # fmt: skip


def _metainfo() -> dict:
    """MMPose's COCO meta information by its full path, for which it does not search and warn."""
    file = _CocoDataset.METAINFO['from_file']
    shipped = osp.join(osp.dirname(mmpose.__file__), '.mim', file)
    return dict(from_file=shipped if osp.isfile(shipped) else file)


@DATASETS.register_module()
class CocoDataset(ReproducibleSamples, _CocoDataset):
    """`mmpose.CocoDataset` on arrays, checked.

    Samples, their order and their values are MMPose's, but for the masks: `segmentation` is None
    and `raw_ann_info` has none (no top-down transform reads them). What a sample takes from the
    data set's meta information is shared, not copied: a transform must not change it in place.

    Args:
        bbox_file: person detections in COCO's result format; as in MMPose used in test mode only,
            in place of the annotated boxes. A path that exists is taken as it is; another one is
            relative to `data_root`.
        on_error: what to do with a person, a detection or an image that cannot be used: 'raise', or
            'skip' to leave it out, count it, and report it. In test mode the place of a broken
            image's sample is taken by the next good one (our metric counts each sample once).
        serialize_data: without a meaning here; the arrays are shared as they are.
        kwargs: everything else, as MMPose's class takes it.

    Attributes:
        annotations: in test mode the file's arrays, so that the metric need not read it again.

    Raises:
        ConfigError: an argument's value.
        DataError: a file or folder is missing or not what it should be.
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
        # MMPose's configs write the data root into this path, which MMPose does not join to it.
        if bbox_file and not (osp.isfile(bbox_file) or bbox_file.startswith(data_root)):
            bbox_file = osp.join(data_root, bbox_file)
        self.on_error = on_error
        self.annotations: annotations.Annotations | None = None
        self._broken: torch.Tensor | None = None
        self._left_out: list[str] = []
        super().__init__(
            *args, bbox_file=bbox_file, data_root=data_root, serialize_data=False, **kwargs
        )

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        return parse_metainfo(cls.METAINFO if metainfo is None else metainfo)

    def load_data_list(self) -> persons.Persons:
        """Read annotations (and detections) and check what they name.

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
            found = persons.detected(dets, ann, prefix, usable, num_keypoints)
        else:
            usable = self._usable(
                checks.check_annotations(ann, num_keypoints), 'annotation', len(ann.id)
            )
            found = persons.annotated(ann, prefix, usable, self.sample_interval)
        if not len(found):
            use = 'test on' if self.test_mode else 'train on (with a box and a labelled keypoint)'
            raise DataError(f"'{self.bbox_file or self.ann_file}' holds no person to {use}")
        self._check_images(found.img_paths())
        return found

    def filter_data(self) -> persons.Persons:
        """Persons whose box scores at least `filter_cfg['bbox_score_thr']`; all by default."""
        kept = self.data_list
        threshold = (self.filter_cfg or {}).get('bbox_score_thr')
        if threshold is not None:
            kept = kept[~(kept.score < threshold)]
            if not len(kept):
                raise DataError(
                    f"no box in '{self.bbox_file or self.ann_file}' scores {threshold} or more "
                    '(filter_cfg.bbox_score_thr)'
                )
        self._metainfo['image_folder'] = self.data_prefix['img']
        self._metainfo['boxes'] = dict(
            source=self.bbox_file or 'annotated',
            count=len(kept),
            score_threshold=threshold,
            below_threshold=len(self.data_list) - len(kept),
        )
        if self.on_error == 'skip':
            self._broken = torch.zeros(len(kept), dtype=torch.uint8).share_memory_()
        return kept

    def _get_unserialized_subset(self, indices: Sequence[int] | int) -> persons.Persons:
        if isinstance(indices, int):
            indices = slice(indices) if indices >= 0 else slice(indices, None)
        return self.data_list[indices]

    @force_full_init
    def get_data_info(self, idx: int) -> dict:
        """The dictionary of sample `idx`, before the pipeline."""
        info = self.data_list[idx]
        info['sample_idx'] = idx if idx >= 0 else len(self) + idx
        info.update((key, self._metainfo[key]) for key in METAINFO_OF_A_SAMPLE)
        return info

    def prepare_data(self, idx: int) -> Any:
        """Sample `idx` after the pipeline; None (another is drawn) if its image is broken.

        Raises:
            DataError: the image is broken, and `on_error` is 'raise' or no other can be used.
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

    def left_out(self) -> list[str]:
        """Return one line for each sample that `on_error='skip'` has skipped so far."""
        lines = list(self._left_out)
        if self._broken is not None:
            broken = np.flatnonzero(self._broken.numpy())
            for name, count in Counter(self.data_list.file_name[broken].tolist()).items():
                samples = f'{count} sample{"s" if count > 1 else ""}'
                lines.append(f"image '{name.decode()}' cannot be used ({samples})")
        return lines

    def _usable(self, findings: list[checks.Finding], kind: str, count: int) -> np.ndarray:
        """(count,) mask of the rows without a fatal finding; or an error that tells the first."""
        lines = [line for finding in findings if finding.fatal for line in finding.lines()]
        if lines and self.on_error == 'raise':
            more = f' ({len(lines) - 1} more problems)' if lines[1:] else ''
            raise DataError(
                f"{lines[0]}{more}: tools/check_dataset.py lists all; on_error='skip' of the data "
                'set leaves them out'
            )
        for line in lines[:10]:
            print_log(f'left out: {line}', 'current', level=30)
        self._left_out = lines
        return checks.usable(findings, kind, count)

    def _check_images(self, paths: list[str]) -> None:
        """Every image is there and not empty: one listing a folder, not one look-up an image."""
        sizes = sizes_of(paths)
        bad = [path for path in paths if not sizes.get(path)]
        if bad and (self.on_error == 'raise' or len(bad) == len(paths)):
            state = 'is empty' if bad[0] in sizes else 'does not exist'
            more = f' ({len(bad) - 1} more of {len(paths)} are missing or empty)' if bad[1:] else ''
            raise DataError(f"image '{bad[0]}' {state}{more}")
        print_log(f'found {len(paths) - len(bad)} of {len(paths)} images', logger='current')


def sizes_of(paths: list[str]) -> dict[str, int]:
    """Bytes of each of `paths` that exists.

    Raises:
        DataError: a folder does not exist.
    """
    sizes: dict[str, int] = {}
    wanted = set(paths)
    for folder in {osp.dirname(path) for path in paths}:
        if not osp.isdir(folder):
            raise DataError(f"image folder '{folder}' does not exist: {HINT}")
        with os.scandir(folder) as entries:
            for entry in entries:
                path = osp.join(folder, entry.name)
                if path in wanted and entry.is_file():  # no folder, no link to nowhere
                    sizes[path] = entry.stat().st_size
    return sizes
