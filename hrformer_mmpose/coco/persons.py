"""Samples of a top-down data set as arrays; a sample's dictionary is built on access.

MMPose keeps a pickled dictionary for each person, including the raw annotation and its polygons.
Here a person takes about 300 bytes, which worker processes share.

Legend: P persons, K keypoints.
"""

import os.path as osp
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from .annotations import Annotations, Detections

BOX_TO_PERSON_AREA = 0.53  # share of a box that a person covers, in MMPose and xtcocotools


@dataclass(frozen=True, eq=False)
class Persons(Sequence):
    """Persons of a data set as arrays: image and box of each.

    Attributes:
        prefix: folder of the images.
        K: number of keypoints.
        file_name: (P,) bytes.
        image: (P,) id of the image.
        id: (P,).
        size: (P, 2) height and width of the image in pixels.
        bbox: (P, 4) x1, y1, x2, y2 in pixels, float32.
        score: (P,) score of the box, float32.
    """

    prefix: str
    K: int
    file_name: np.ndarray
    image: np.ndarray
    id: np.ndarray
    size: np.ndarray
    bbox: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.id)

    def __getitem__(self, index):
        """Return the sample at an index, or the persons of a slice, list or mask."""
        if not isinstance(index, int | np.integer):
            return self.take(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)}')
        return self._sample(index)

    def take(self, index) -> 'Persons':
        """Select persons by any index that NumPy accepts."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        arrays = {name: a[index] for name, a in arrays.items() if isinstance(a, np.ndarray)}
        return replace(self, **arrays)

    def img_path(self, index: int) -> str:
        """Return the path of a person's image."""
        return osp.join(self.prefix, self.file_name[index].decode())

    def img_paths(self) -> list[str]:
        """Return the unique image paths, sorted."""
        return [osp.join(self.prefix, name.decode()) for name in np.unique(self.file_name).tolist()]


class RawAnnotation(dict):
    """Annotation that belongs to one sample, so that packing the sample need not copy it."""

    def __deepcopy__(self, memo: dict) -> 'RawAnnotation':
        return self


@dataclass(frozen=True, eq=False)
class AnnotatedPersons(Persons):
    """Persons with keypoints.

    Attributes:
        keypoints: (P, K, 3) x, y, visibility, float32.
        area: (P,) square pixels.
        raw_area: (P,) area in the file, NaN where missing.
        raw_bbox: (P, 4) xywh in pixels, float64.
        category_id: (P,).
        num_keypoints: (P,).
        crowd_index: (P,), NaN where missing.
    """

    keypoints: np.ndarray
    area: np.ndarray
    raw_area: np.ndarray
    raw_bbox: np.ndarray
    category_id: np.ndarray
    num_keypoints: np.ndarray
    crowd_index: np.ndarray

    def _sample(self, i: int) -> dict:
        keypoints = self.keypoints[i : i + 1] if i >= 0 else self.keypoints[[i]]
        sample = dict(
            img_id=int(self.image[i]),
            img_path=self.img_path(i),
            bbox=self.bbox[[i]],
            bbox_score=self.score[[i]],
            num_keypoints=int(self.num_keypoints[i]),
            keypoints=keypoints[..., :2].copy(),
            keypoints_visible=np.minimum(1, keypoints[..., 2]),
            area=np.array(self.area[i]),
            iscrowd=0,
            segmentation=None,
            id=int(self.id[i]),
            category_id=np.array(self.category_id[i]),
            raw_ann_info=self._raw(i),
        )
        if np.isfinite(self.crowd_index[i]):
            sample['crowd_index'] = float(self.crowd_index[i])
        return sample

    def _raw(self, i: int) -> dict:
        """Return the annotation as in the file, without its mask."""
        raw = RawAnnotation(
            num_keypoints=int(self.num_keypoints[i]),
            iscrowd=0,
            keypoints=self.keypoints[i].ravel().tolist(),
            image_id=int(self.image[i]),
            bbox=self.raw_bbox[i].tolist(),
            category_id=int(self.category_id[i]),
            id=int(self.id[i]),
        )
        if np.isfinite(self.raw_area[i]):
            raw['area'] = float(self.raw_area[i])
        return raw


@dataclass(frozen=True, eq=False)
class DetectedPersons(Persons):
    """Boxes of a detector; keypoints are zeros, as in MMPose."""

    def _sample(self, i: int) -> dict:
        return dict(
            img_id=int(self.image[i]),
            img_path=self.img_path(i),
            img_shape=tuple(self.size[i].tolist()),
            bbox=self.bbox[[i]],
            bbox_score=self.score[[i]],
            keypoints=np.zeros((1, self.K, 2), np.float32),
            keypoints_visible=np.ones((1, self.K), np.float32),
            id=int(self.id[i]),
        )


def annotated(a: Annotations, prefix: str, usable: np.ndarray, interval: int = 1) -> Persons:
    """Return the persons with a box and labelled keypoints, in the order of MMPose's data set.

    Args:
        a: annotations.
        prefix: folder of the images.
        usable: (N,) mask of annotations that may be samples.
        interval: keep only images whose id is a multiple of it.
    """
    place = a.rows_of(a.image)
    width, height = a.width[place], a.height[place]
    start = a.bbox[:, :2]
    last = np.stack([width - 1, height - 1], 1)
    corners = [np.clip(start, 0, last), np.clip(start + a.bbox[:, 2:], 0, last)]
    bbox = np.concatenate(corners, 1).astype(np.float32)
    keypoints = a.keypoints.astype(np.float32)
    sides = corners[1] - corners[0]
    area = np.where(np.isnan(a.area), np.maximum(sides.prod(1) * BOX_TO_PERSON_AREA, 1), a.area)
    counted = (keypoints[..., :2].max(2) != 0).sum(1)  # what MMPose counts where the file does not
    num_keypoints = np.where(a.num_keypoints >= 0, a.num_keypoints, counted)

    sample = usable & (place >= 0) & ~a.iscrowd & (num_keypoints != 0)
    sample &= (bbox[:, 2:] - bbox[:, :2] > 0).all(1)
    sample &= keypoints[..., :2].max((1, 2)) > 0
    sample &= a.image % interval == 0
    rows = np.flatnonzero(sample)
    rows = rows[np.argsort(place[rows], kind='stable')]
    return AnnotatedPersons(
        prefix=prefix,
        K=keypoints.shape[1],
        file_name=a.file_name[place[rows]],
        image=a.image[rows],
        id=a.id[rows],
        size=np.stack([height, width], 1)[rows],
        bbox=bbox[rows],
        score=np.ones(len(rows), np.float32),
        keypoints=keypoints[rows],
        area=area[rows].astype(np.float32),
        raw_area=a.area[rows],
        raw_bbox=a.bbox[rows],
        category_id=a.category_id[rows],
        num_keypoints=num_keypoints[rows],
        crowd_index=a.crowd_index[place[rows]],
    )


def detected(d: Detections, a: Annotations, prefix: str, usable: np.ndarray, K: int) -> Persons:
    """Return the detections of category 1 (person) in file order; `id` counts these.

    Args:
        d: detections.
        a: annotations of their images.
        prefix: folder of the images.
        usable: (D,) mask of detections that may be samples.
        K: number of keypoints.
    """
    person = np.flatnonzero(d.category_id == 1)
    rows, number = person[usable[person]], np.flatnonzero(usable[person])
    place = a.rows_of(d.image[rows])
    bbox = d.bbox[rows].astype(np.float32)
    bbox[:, 2:] += bbox[:, :2]
    return DetectedPersons(
        prefix=prefix,
        K=K,
        file_name=a.file_name[place],
        image=d.image[rows],
        id=number,
        size=np.stack([a.height, a.width], 1)[place],
        bbox=bbox,
        score=d.score[rows].astype(np.float32),
    )
