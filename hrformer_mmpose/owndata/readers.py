"""Read the annotations of any supported tool; the file tells which."""

import json
from pathlib import Path
from typing import Any

from ..errors import DataError
from . import coco_file, cvat, label_studio, labelme, yolo_pose
from .source import Source

FORMS = (
    "COCO's keypoints (.json), LabelMe (.json or a folder), CVAT for images 1.1 (.xml), Label "
    'Studio (.json) or YOLO-pose (data.yaml)'
)


def read(annotations: str, images: str | None = None) -> Source:
    """Read annotations.

    Args:
        annotations: file, or folder of LabelMe's or YOLO's files.
        images: folder of the images; only YOLO's paths depend on it.

    Raises:
        DataError: the file does not exist, or is not of a format listed in `FORMS`.
    """
    path = Path(annotations)
    if not path.exists():
        raise DataError(f"annotations '{annotations}' do not exist")
    if path.is_dir() and (path / 'data.yaml').is_file():
        path = path / 'data.yaml'
    suffix = path.suffix.lower()
    if path.is_dir():
        return labelme.read(path)
    if suffix in ('.yaml', '.yml'):
        return yolo_pose.read(path, Path(images).absolute() if images else None)
    if suffix == '.xml':
        return cvat.read(path)
    if suffix == '.zip':
        raise DataError(f"'{path}' is an archive: unpack it, and give the file or folder in it")
    if suffix != '.json':
        raise DataError(f"'{path}' is none of {FORMS}")
    return _of_json(path, _load(path))


def _load(path: Path) -> Any:
    try:
        with open(path, encoding='utf-8-sig') as file:
            return json.load(file, object_hook=coco_file.without_mask)
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not JSON ({error})") from error


def _of_json(path: Path, content: Any) -> Source:
    if labelme.is_labelme(content):
        return labelme.read(path)
    if isinstance(content, dict) and 'annotations' in content:
        return coco_file.read(str(path), content)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        if 'keypoints' in content[0] and 'score' in content[0]:
            raise DataError(f"'{path}' holds results of a network, not annotations")
        return label_studio.read(str(path), content)
    raise DataError(f"'{path}' is none of {FORMS}")
