"""MMPose's COCO data set with checks at the start and a detection file relative to the data root.

What a user can get wrong stops the run before it trains, in one line: a data root, annotation file
or detection file that is not there, an annotation list without persons, images that are missing.
"""

import os
import os.path as osp
from collections.abc import Iterable

from mmengine.logging import print_log
from mmpose.datasets.datasets import CocoDataset as _CocoDataset

from ..errors import DataError
from ..registry import DATASETS
from .sampler import ReproducibleSamples

HINT = 'set COCO_ROOT to the folder that holds annotations/, train2017/ and val2017/'


@DATASETS.register_module()
class CocoDataset(ReproducibleSamples, _CocoDataset):
    """`mmpose.CocoDataset`, checked.

    Args:
        bbox_file: person detections in COCO's result format, relative to `data_root`; as in MMPose
            used in test mode only, in place of the annotated boxes.
        kwargs: everything else, as MMPose's class takes it.

    Raises:
        DataError: a file or folder is missing or not what it should be.
    """

    def __init__(self, *args, bbox_file: str | None = None, data_root: str = '', **kwargs):
        if data_root and not osp.isdir(data_root):
            raise DataError(f"data root '{data_root}' is not a folder: {HINT}")
        if bbox_file:
            bbox_file = osp.join(data_root, bbox_file)
        super().__init__(*args, bbox_file=bbox_file, data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read annotations (and detections) and check what they name.

        Returns:
            One dict a person, as MMPose's class makes them.
        """
        _check_json(self.ann_file, 'annotation', dict)
        if self.bbox_file:
            _check_json(self.bbox_file, 'detection', list)
        try:
            data_list = super().load_data_list()
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(self._malformed(error)) from error
        if not data_list:
            source = self.bbox_file or self.ann_file
            raise DataError(f"'{source}' holds no person to {self._use()}")
        _check_images(info['img_path'] for info in data_list)
        return data_list

    def _use(self) -> str:
        return 'test on' if self.test_mode else 'train on (with a box and a labelled keypoint)'

    def _malformed(self, error: Exception) -> str:
        what = f'{type(error).__name__}: {error}'
        if self.bbox_file:
            return (
                f"the detections in '{self.bbox_file}' do not fit the annotations in "
                f"'{self.ann_file}' ({what})"
            )
        return f"'{self.ann_file}' is not in COCO's keypoint format ({what})"


def _check_json(path: str, kind: str, expected: type) -> None:
    if not osp.isfile(path):
        raise DataError(f"{kind} file '{path}' does not exist: {HINT}")
    if osp.getsize(path) == 0:
        raise DataError(f"{kind} file '{path}' is empty")
    start = '{' if expected is dict else '['
    with open(path, encoding='utf-8', errors='replace') as file:
        if not file.read(64).lstrip().startswith(start):
            raise DataError(f"{kind} file '{path}' does not hold a JSON {expected.__name__}")


def _check_images(paths: Iterable[str]) -> None:
    """Every image is there and not empty: one listing a folder, not one look-up an image."""
    paths = sorted(set(paths))
    sizes: dict[str, int] = {}
    for folder in {osp.dirname(path) for path in paths}:
        if not osp.isdir(folder):
            raise DataError(f"image folder '{folder}' does not exist: {HINT}")
        with os.scandir(folder) as entries:
            sizes.update((osp.join(folder, entry.name), entry.stat().st_size) for entry in entries)
    bad = [path for path in paths if not sizes.get(path)]
    if bad:
        state = 'is empty' if bad[0] in sizes else 'does not exist'
        more = f' ({len(bad) - 1} more of {len(paths)} are missing or empty)' if bad[1:] else ''
        raise DataError(f"image '{bad[0]}' {state}{more}")
    print_log(f'found all {len(paths)} images', logger='current')
