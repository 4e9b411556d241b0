"""Images of `helpers`, as files."""

import cv2
import pytest

from .helpers import ARRAYS


@pytest.fixture
def paths(tmp_path) -> list[str]:
    """The images of `ARRAYS`, written as PNG."""
    files = [str(tmp_path / f'{number}.png') for number in range(len(ARRAYS))]
    for path, array in zip(files, ARRAYS, strict=True):
        cv2.imwrite(path, array)
    return files
