"""MPII's persons (http://human-pose.mpi-inf.mpg.de), from the JSON files that MMPose publishes."""

import json
import os.path as osp
from typing import Any

import numpy as np
from mmpose.datasets.datasets import MpiiDataset as _MpiiDataset
from scipy.io import loadmat

from ..coco.metainfo import locate, parse_metainfo
from ..coco.roots import hint
from ..errors import DataError
from ..registry import DATASETS
from .files import check_data_root, check_images, join_data_root
from .pipeline import Pipeline
from .sampler import ReproducibleSamples

HEADS = 'headboxes_src'  # variable of mpii_gt_val.mat, (2, 2, number of annotations)


@DATASETS.register_module()
class MpiiDataset(ReproducibleSamples, _MpiiDataset):
    """`mmpose.MpiiDataset` whose keypoints count pixels from 0, with checks.

    MPII counts pixels from 1. MMPose subtracts 1 from the centre of a person but not from the
    keypoints, so that its networks learn keypoints that are a pixel off in x and y.

    Args:
        args: arguments of MMPose's class.
        headbox_file: MPII's `mpii_gt_val.mat`, for PCKh; in test mode only. A path that does not
            exist is relative to `data_root`.
        data_root: folder of the data.
        kwargs: arguments of MMPose's class.

    Raises:
        DataError: missing or invalid file or folder.
    """

    METAINFO = locate(_MpiiDataset.METAINFO)

    def __init__(self, *args, headbox_file: str | None = None, data_root: str = '', **kwargs):
        check_data_root(data_root, kwargs.get('metainfo') or self.METAINFO)
        headbox_file = join_data_root(headbox_file, data_root)
        super().__init__(*args, headbox_file=headbox_file, data_root=data_root, **kwargs)
        self.pipeline = Pipeline(self.pipeline.transforms)

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        return parse_metainfo(cls.METAINFO if metainfo is None else metainfo)

    def _load_annotations(self) -> tuple[list[dict], list[dict]]:
        advice = hint(self.metainfo['dataset_name'])
        entries = _read_annotations(self.ann_file, self.metainfo['num_keypoints'], advice)
        if self.headbox_file:
            _check_heads(self.headbox_file, self.ann_file, len(entries), advice)
        instances, images = super()._load_annotations()
        for instance in instances:
            instance['keypoints'] -= 1
        check_images(sorted({instance['img_path'] for instance in instances}), advice)
        return instances, images


def _read_annotations(path: str, num_keypoints: int, advice: str) -> list[dict]:
    """Read and check the entries of an annotation file."""
    if not osp.isfile(path):
        raise DataError(f"annotation file '{path}' does not exist: {advice}")
    try:
        with open(path, encoding='utf-8') as file:
            entries = json.load(file)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not MPII's JSON file ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"'{path}' is not MPII's JSON file: it must hold a list of persons")
    for number, entry in enumerate(entries):
        if problem := _problem(entry, num_keypoints):
            raise DataError(f"person {number} in '{path}' {problem}")
    return entries


def _problem(entry: Any, num_keypoints: int) -> str | None:
    """Return what is wrong with a person, if anything."""
    if not isinstance(entry, dict):
        return 'is no JSON object'
    image = entry.get('image')
    if not isinstance(image, str) or not image.partition('.')[0].isdecimal():
        return f"has image={str(image)[:40]!r}: the names of MPII's images are numbers"
    shapes = dict(center=(2,), scale=(), joints=(num_keypoints, 2), joints_vis=(num_keypoints,))
    for key, shape in shapes.items():
        if key not in entry:
            return f'has no {key} (mpii_test.json has no keypoints, the others have)'
        if not _is_finite(entry[key], shape):
            return f'has {key} that are no numbers of shape {shape}'
    return None


def _is_finite(values: Any, shape: tuple[int, ...]) -> bool:
    try:
        array = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        return False
    return array.shape == shape and bool(np.isfinite(array).all())


def _check_heads(path: str, ann_file: str, count: int, advice: str) -> None:
    """Check that the file of head boxes belongs to the annotations."""
    if not osp.isfile(path):
        raise DataError(f"head boxes '{path}' do not exist: PCKh needs them; {advice}")
    try:
        shape = loadmat(path)[HEADS].shape
    except Exception as error:  # SciPy's reader has no common class of errors
        what = f'{type(error).__name__}: {error}'.splitlines()[0]
        raise DataError(f"'{path}' holds no head boxes ({HEADS}) of MPII ({what})") from error
    if shape != (2, 2, count):
        raise DataError(
            f"'{path}' holds {HEADS} of shape {shape}, but '{ann_file}' {count} persons: it is "
            'of mpii_val.json'
        )
