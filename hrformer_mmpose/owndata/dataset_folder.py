"""The folder of a new data set: written whole or not at all, never over another."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ConfigError
from ..imaging.skeleton import Skeleton
from .repair import KeypointSet

UNUSABLE = '\'"\\{}\n\r'  # in the path of a config: it stands in a string of the config


def check_name(out: str) -> Path:
    """Return the absolute path of a folder that does not exist yet.

    Raises:
        ConfigError: it exists, or its name cannot stand in a config.
    """
    path = Path(out).absolute()
    if path.exists() or path.is_symlink():
        raise ConfigError(f"--out '{out}' exists, and nothing is overwritten: give a new name")
    if bad := [c for c in UNUSABLE if c in str(path)]:
        raise ConfigError(f'--out {out!r}: the path of a config cannot hold {bad[0]!r}')
    return path


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Create a folder.

    Yields:
        A folder beside it, which is renamed on exit and removed after an error.

    Raises:
        ConfigError: it cannot be created.
    """
    partial = path.with_name(f'{path.name}.{secrets.token_hex(4)}.partial')
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"--out '{path}': nothing can be written there ({error.strerror})") from (
            error
        )
    try:
        yield partial
        os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def annotation_file(labels: KeypointSet, skeleton: Skeleton) -> str:
    """Return COCO's file of a set, with `skeleton` as its only category."""
    images = [{k: v for k, v in image.items() if k != 'split'} for image in labels.images]
    person = dict(skeleton.category(), name=labels.category.name)
    content = dict(images=images, annotations=labels.annotations, categories=[person])
    return json.dumps(content, ensure_ascii=False)
