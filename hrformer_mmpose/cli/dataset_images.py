"""Images of a data set: present, not empty and, in full mode, decoded."""

import os
import os.path as osp
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine import ProgressBar

from ..coco.annotations import Annotations
from ..datasets.files import sizes_of
from ..datasets.image_folder import ImageFolder
from ..datasets.label_sets import LabelSet
from ..datasets.mask_folder import MaskFolder
from ..datasets.masks import read_mask
from ..datasets.mpii import MpiiDataset
from ..errors import DataError
from ..imaging.headers import conversion_note
from ..imaging.images import decode
from .dataset_findings import Split


def check_folder(split: Split, data: ImageFolder | MaskFolder, full: bool) -> None:
    """Check images with classes or masks; raise any error that a run would raise."""
    data.full_init()
    infos = [data.get_data_info(index) for index in range(len(data))]
    classes = len(data.metainfo['classes'])
    split.counts.append(f"'{data.data_prefix['img']}': {len(infos)} images, {classes} classes")
    split.images = {info['img_path'] for info in infos}
    masks = {info['mask_path']: info['labels'] for info in infos if 'mask_path' in info}
    paths = sorted({*split.images, *masks})
    empty = [path for path in paths if not os.path.getsize(path)]
    split.problems += [f"image '{path}' is empty" for path in empty]
    if full:
        _decode(split, sorted(split.images - set(empty)))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            readable = sorted(masks.keys() - set(empty))
            problems = pool.map(lambda path: _mask_problem(path, masks[path]), readable)
            split.problems += filter(None, problems)


def check_samples(split: Split, data: MpiiDataset, full: bool) -> None:
    """Check a data set that checks its files itself; raise any error that a run would raise."""
    data.full_init()
    split.images = {data.get_data_info(index)['img_path'] for index in range(len(data))}
    split.counts.append(f"'{data.ann_file}': {len(data)} persons, {len(split.images)} images")
    if full:
        _decode(split, sorted(split.images))


def check_images(split: Split, ann: Annotations, folder: str, full: bool) -> None:
    """Check that images exist and are not empty; in full mode decode them."""
    rows = {osp.join(folder, name): row for row, name in enumerate(ann.names())}
    sizes = sizes_of(list(rows))
    missing = [path for path in rows if path not in sizes]
    needed = [path for path in missing if path in split.images]
    empty = [path for path in sorted(split.images) if sizes.get(path) == 0]
    split.unusable([f"image '{path}' does not exist" for path in needed])
    split.unusable([f"image '{path}' is empty" for path in empty])
    if len(missing) > len(needed):
        count = len(missing) - len(needed)
        split.note([f"{count} images without persons are not in '{folder}' (not needed)"])
    existing = sorted(split.images - set(needed) - set(empty))
    split.counts.append(f"'{folder}': {len(existing)} of {len(split.images)} images with persons")
    if full:
        _decode(split, existing, rows, ann)


def _decode(
    split: Split,
    paths: list[str],
    rows: dict[str, int] | None = None,
    ann: Annotations | None = None,
) -> None:
    """Decode images and compare their sizes with the annotations.

    Args:
        split: the findings, to add to.
        paths: images to decode.
        rows: row of each image in the annotations.
        ann: annotations; None for data sets without sizes.
    """
    bar = ProgressBar(len(paths))
    forms: dict[str, list[str]] = {}
    unreadable: list[str] = []
    # Decoding releases the GIL, so that threads run in parallel.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, (problem, form, shape) in zip(paths, pool.map(_inspect, paths), strict=True):
            if problem is not None:
                unreadable.append(problem)
            elif ann is not None and (problem := _size_problem(path, shape, rows[path], ann)):
                split.problems.append(problem)
            if form is not None:
                forms.setdefault(form, []).append(f"image '{path}' {form}")
            bar.update()
    print()
    split.unusable(unreadable)
    if split.skips and len(unreadable) == len(paths):
        split.problems.append('no image can be read')
    for lines in forms.values():
        split.note(lines)


def _size_problem(path: str, shape: tuple[int, int], row: int, ann: Annotations) -> str | None:
    expected = int(ann.height[row]), int(ann.width[row])
    if shape == expected:
        return None
    rotation = ': it is turned by its EXIF orientation' if shape == expected[::-1] else ''
    return (
        f"image '{path}' (id {ann.image_id[row]}) is {shape[1]} x {shape[0]}, "
        f'annotated as {expected[1]} x {expected[0]}{rotation}'
    )


def _mask_problem(path: str, labels: LabelSet) -> str | None:
    """Return why a mask cannot be used, if so."""
    try:
        labels.indices(read_mask(path), path)
    except DataError as error:
        return str(error)
    return None


def _inspect(path: str) -> tuple[str | None, str | None, tuple[int, int]]:
    """Return problem and unusual format of an image, if any, and its shape (height, width)."""
    try:
        data = Path(path).read_bytes()
        return None, conversion_note(data), decode(data, path).shape[:2]
    except OSError as error:
        return f"image '{path}' cannot be read: {error.strerror}", None, (0, 0)
    except DataError as error:
        return str(error), None, (0, 0)
