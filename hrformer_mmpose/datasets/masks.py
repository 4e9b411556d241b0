"""Reading masks of classes: PNG files and MATLAB's files of COCO-Stuff 10k."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DataError

MODES = ('L', 'P')  # grey, and palette, whose colours do not matter


def read_mask(path: str | Path) -> np.ndarray:
    """Read the pixel values of a mask, (H, W) uint8.

    Args:
        path: a grey or palette image, or a `.mat` file with the values in the variable `S`.

    Raises:
        DataError: the file is missing or broken, or has colours or values beyond 255.
    """
    if not Path(path).is_file():
        raise DataError(f"mask '{path}' does not exist")
    try:
        values, mode = _read(str(path))
    except Exception as error:  # of any kind, by the file's content
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"mask '{path}' cannot be read: {what}") from error
    if mode not in MODES or values.ndim != 2:
        raise DataError(
            f"mask '{path}' has the mode {mode}: a pixel must be one number, its class "
            '(a grey or palette PNG of 8 bits)'
        )
    return values


def _read(path: str) -> tuple[np.ndarray, str]:
    """Return values and PIL's mode."""
    if path.endswith('.mat'):
        from scipy.io import loadmat

        values = loadmat(path, variable_names=['S'])['S']
        if values.min() < 0 or values.max() > 255:
            raise ValueError(f'S holds values from {values.min()} to {values.max()}')
        return values.astype(np.uint8), 'L'
    with Image.open(path) as image:
        return np.array(image), image.mode
