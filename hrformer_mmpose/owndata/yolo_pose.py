"""YOLO-pose: data.yaml and a text file of normalised numbers beside each image.

A line is `class cx cy w h x1 y1 v1 ...`; without v, a point at (0, 0) is not labelled.

Legend: K keypoints.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from ..errors import DataError
from ..imaging import skeleton
from ..imaging.images import SUFFIXES
from .image_files import upright_size
from .source import VISIBLE, Source, reading


def read(path: Path, images: Path | None) -> Source:
    """Read the data set of a data.yaml.

    Args:
        path: data.yaml.
        images: folder that the file's paths are relative to, if it is not the file's own.

    Raises:
        DataError: no pose data set, or a malformed label.
    """
    data = _settings(path)
    with reading(f"'{path}' is no data.yaml of a pose data set"):
        K, numbers = _shape(path, data)
        source = Source(str(path), 'YOLO-pose', categories=_categories(path, data, K))
        files = [(s, f) for s in ('train', 'val') for f in _images(path, data, images, s)]
    if not files:
        raise DataError(f"'{path}': no images in its folders 'train' and 'val'")
    if len({split for split, _ in files}) == 1:
        files = [(None, file) for _, file in files]  # to be split
    for split, file in files:
        _add_image(source, file, split, images, numbers)
    return source


def _add_image(
    source: Source, file: Path, split: str | None, images: Path | None, numbers: int
) -> None:
    size = upright_size(file)
    if size is None:
        raise DataError(f"image '{file}' cannot be read")
    number = len(source.images) + 1
    name = str(file.relative_to(images) if images and images in file.parents else file)
    image = dict(id=number, file_name=name, width=size[0], height=size[1], split=split)
    source.images.append(image)
    _add_labels(source, file, number, size, numbers)


def _settings(path: Path) -> dict:
    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, ValueError) as error:
        raise DataError(f"'{path}' is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or not data.get('kpt_shape'):
        raise DataError(f"'{path}' has no kpt_shape: it is no data.yaml of a pose data set")
    return data


def _shape(path: Path, data: dict) -> tuple[int, int]:
    match data['kpt_shape']:
        case [int(K), 2 | 3 as numbers] if K > 0:
            return K, numbers
    raise DataError(f"'{path}': kpt_shape {data['kpt_shape']} is not [K, 2] or [K, 3]")


def _categories(path: Path, data: dict, K: int) -> list[dict]:
    """Return a category for each class. Keypoints are COCO's if number and flips are."""
    flips = data.get('flip_idx')
    if flips is not None and sorted(flips) != list(range(K)):
        raise DataError(f"'{path}': flip_idx is no order of the numbers 0 to {K - 1}")
    is_coco = tuple(flips or ()) == skeleton.COCO.flip_indices
    default = list(skeleton.COCO.names) if is_coco else [f'keypoint_{k}' for k in range(K)]
    edges = [[a + 1, b + 1] for a, b in skeleton.COCO.links] if is_coco else []
    classes, keypoints = _numbered(data.get('names') or ['object']), data.get('kpt_names') or {}
    keypoints = {number: list(names) for number, names in _numbered(keypoints).items()}
    for number, names in keypoints.items():
        if len(names) != K:
            raise DataError(f"'{path}': kpt_names of class {number} are {len(names)}, not {K}")
    return [
        dict(
            id=number + 1,
            name=str(name),
            keypoints=keypoints.get(number, default),
            skeleton=edges,
            **(dict(flip_indices=list(flips)) if flips else {}),
        )
        for number, name in classes.items()
    ]


def _numbered(values: Any) -> dict[int, Any]:
    return values if isinstance(values, dict) else dict(enumerate(values))


def _images(path: Path, data: dict, images: Path | None, split: str) -> list[Path]:
    """List the images of a split: folders, or text files that list images."""
    entries = data.get(split) or []
    files: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        place = _place(path, data, images, str(entry))
        if place.is_dir():
            files += sorted(f for f in place.rglob('*') if f.suffix.lower() in SUFFIXES)
        else:
            lines = place.read_text(encoding='utf-8-sig').splitlines()
            files += [_absolute(place.parent / line.strip()) for line in lines if line.strip()]
    return files


def _place(path: Path, data: dict, images: Path | None, entry: str) -> Path:
    roots = [images] if images else []
    roots += [path.parent / str(data.get('path') or ''), path.parent]
    for root in roots:
        if os.path.exists(root / entry):
            return _absolute(root / entry)
    raise DataError(f"'{path}': '{entry}' is neither in '{roots[0]}' nor in '{path.parent}'")


def _absolute(path: Path) -> Path:
    """Return a path without . and .., links unresolved: labels lie beside a link of an image."""
    return Path(os.path.abspath(path))


def _label_file(image: Path) -> Path:
    """Return the label file: `images` becomes `labels` in the path, at its last occurrence."""
    parts = list(image.with_suffix('.txt').parts)
    if 'images' in parts:
        place = len(parts) - 1 - parts[::-1].index('images')
        parts[place] = 'labels'
    return Path(*parts)


def _add_labels(
    source: Source, image: Path, number: int, size: tuple[int, int], numbers: int
) -> None:
    file = _label_file(image)
    if not os.path.isfile(file):
        return
    for row, line in enumerate(file.read_text(encoding='utf-8-sig').splitlines(), 1):
        if not line.strip():
            continue
        with reading(f"'{file}', line {row}: not a class and numbers"):
            kind, cx, cy, w, h, *points = map(float, line.split())
            category = int(kind) + 1
            if len(points) % numbers:
                raise ValueError(f'{len(points)} numbers of points')
        keypoints = _keypoints(points, size, numbers)
        box = [(cx - w / 2) * size[0], (cy - h / 2) * size[1], w * size[0], h * size[1]]
        source.annotations.append(
            dict(
                id=len(source.annotations) + 1, image_id=number, category_id=category,
                bbox=box, keypoints=keypoints, iscrowd=0,
            )
        )  # fmt: skip


def _keypoints(points: list[float], size: tuple[int, int], numbers: int) -> list[float]:
    """Return x, y, visibility of each point in pixels; without visibility, (0, 0) is no point."""
    keypoints: list[float] = []
    for start in range(0, len(points), numbers):
        x, y, v = [*points[start : start + numbers], VISIBLE][:3]
        labelled = v > 0 and (x, y) != (0, 0)
        keypoints += [x * size[0], y * size[1], v] if labelled else [0.0, 0.0, 0.0]
    return keypoints
