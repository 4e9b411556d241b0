"""Annotation files that extend COCO's format: more keypoints in other fields, or fewer of them.

A layout converts the entries of a file to COCO's, so that one reader, data set and metric serve
them all. Formats: https://github.com/jin-s13/COCO-WholeBody (data_format.md),
https://github.com/Fang-Haoshu/Halpe-FullBody.
"""

from collections.abc import Callable, Iterator

import numpy as np

from .columns import numbers

# Fields of COCO-WholeBody with their numbers of keypoints, in the order of its 133 keypoints.
WHOLE_BODY = dict(keypoints=17, foot_kpts=6, face_kpts=68, lefthand_kpts=21, righthand_kpts=21)
HAND_FIELDS = ('{}hand_valid', '{}hand_box', '{}hand_kpts')
# Lists of numbers, which the reader packs: those of COCO-WholeBody's parts, and all.
PARTS = (*[*WHOLE_BODY][1:], 'face_box', 'lefthand_box', 'righthand_box')
PACKED = ('keypoints', 'bbox', *PARTS)


def _whole_bodies(entries: list[dict]) -> Iterator[dict]:
    """Yield persons with 133 keypoints.

    As in MMPose, any visibility above 0 is at least 1 (faces and hands have fractions), and persons
    without body keypoints are no samples: their `num_keypoints` stays 0.
    """
    for entry in entries:
        keypoints = np.concatenate([_list(entry, field) for field in WHOLE_BODY])
        keypoints[2::3] = np.ceil(keypoints[2::3])
        count = int((keypoints[2::3] > 0).sum()) if entry.get('num_keypoints') else 0
        for field in PARTS:  # to release their memory
            entry.pop(field, None)
        entry.update(keypoints=keypoints, num_keypoints=count)
        yield entry


def _hands(entries: list[dict]) -> Iterator[dict]:
    """Yield the annotated hands of COCO-WholeBody, numbered from 0, with their boxes."""
    count = 0
    for entry in entries:
        for side in () if int(entry.get('iscrowd') or 0) else ('left', 'right'):
            valid, box, keypoints = (_field(entry, name.format(side)) for name in HAND_FIELDS)
            box, keypoints = (numbers(value) for value in (box, keypoints))
            if not (valid and box and keypoints) or max(keypoints) <= 0:
                continue
            if min(box[2:], default=1) <= 0:
                continue
            kept = {key: entry[key] for key in ('image_id', 'category_id')}
            yield dict(kept, id=count, bbox=box, keypoints=keypoints)
            count += 1


def _halpe26(entries: list[dict]) -> Iterator[dict]:
    """Yield persons with the first 26 of Halpe's 136 keypoints: body, head and feet."""
    for entry in entries:
        keypoints = _list(entry, 'keypoints')[: 3 * 26]
        yield dict(entry, keypoints=keypoints, num_keypoints=int((keypoints[2::3] > 0).sum()))


def _list(entry: dict, field: str) -> np.ndarray:
    """Return a list of numbers as float64; NaN for what is no number."""
    values = numbers(_field(entry, field))
    if values is None:
        raise ValueError(f'{field} of annotation {entry.get("id")} is not a list')
    return np.array(values, np.float64)


def _field(entry: dict, field: str):
    if field not in entry:
        raise ValueError(f'annotation {entry.get("id")} has no {field}')
    return entry[field]


# By name, what yields COCO's entries; None for COCO's own format.
LAYOUTS: dict[str, Callable[[list[dict]], Iterator[dict]] | None] = dict(
    coco=None, coco_wholebody=_whole_bodies, coco_wholebody_hand=_hands, halpe26=_halpe26
)
