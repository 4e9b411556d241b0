"""Files and folders of a data set: found from its data root, present, not empty."""

import os
import os.path as osp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ..coco.metainfo import parse_metainfo
from ..coco.roots import HINT, hint
from ..errors import DataError


def check_data_root(data_root: str, metainfo: Mapping[str, Any]) -> None:
    """Check that the data root, if there is one, is a folder.

    Args:
        data_root: of the data set.
        metainfo: of the data set, whose name decides the advice.

    Raises:
        DataError: missing folder.
    """
    if data_root and not osp.isdir(data_root):
        advice = hint(parse_metainfo(metainfo)['dataset_name'])
        raise DataError(f"data root '{data_root}' is not a folder: {advice}")


def join_data_root(path: str | None, data_root: str) -> str | None:
    """Return a path that does not exist relative to the data root.

    In MMPose's configs the paths of further files include the data root, and MMPose does not join
    them.
    """
    if path and not (osp.isfile(path) or Path(path).is_relative_to(data_root)):
        return osp.join(data_root, path)
    return path


def check_images(paths: list[str], advice: str, on_error: str = 'raise') -> None:
    """Check that no image is missing or empty, by one listing of each folder.

    Args:
        paths: unique, one or more.
        advice: on a missing folder.
        on_error: 'raise', or 'skip' to accept images that are missing or empty.

    Raises:
        DataError: an image is missing or empty, with 'skip' all of them, or a folder is missing.
    """
    sizes = sizes_of(paths, advice)
    bad = [path for path in paths if not sizes.get(path)]
    if bad and (on_error == 'raise' or len(bad) == len(paths)):
        state = 'is empty' if bad[0] in sizes else 'does not exist'
        more = f' ({len(bad) - 1} more of {len(paths)} are missing or empty)' if bad[1:] else ''
        raise DataError(f"image '{bad[0]}' {state}{more}")
    print_log(f'found {len(paths) - len(bad)} of {len(paths)} images', logger='current')


def sizes_of(paths: list[str], advice: str = HINT) -> dict[str, int]:
    """Return the size in bytes of each existing file.

    Args:
        paths: files in any number of folders.
        advice: on a missing folder.

    Raises:
        DataError: missing folder.
    """
    files = {osp.split(path) for path in paths}
    sizes: dict[tuple[str, str], int] = {}
    for folder in {folder for folder, _ in files}:
        if not osp.isdir(folder or '.'):
            raise DataError(f"image folder '{folder}' does not exist: {advice}")
        with os.scandir(folder or '.') as entries:
            for entry in entries:
                file = folder, entry.name
                if file in files and entry.is_file():  # neither a folder nor a broken link
                    sizes[file] = entry.stat().st_size
    return {path: sizes[file] for path in paths if (file := osp.split(path)) in sizes}
