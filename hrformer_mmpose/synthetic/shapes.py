"""Small image-folder data set of drawn shapes, one folder for each class.

It replaces ImageNet in demos and tests. Each image has its own random generator, seeded with (seed,
split, class, index). Size, position, rotation, colours and noise vary; shape and pattern determine
the class, so that a network learns it within minutes.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from ..errors import DataError

# Corners as (angle in turns, radius).
_POLYGONS = {
    'square': [(i / 4, 1.0) for i in range(4)],
    'star': [(i / 10, 1.0 if i % 2 == 0 else 0.4) for i in range(10)],
    'triangle': [(i / 3, 1.0) for i in range(3)],
}
CLASSES = ('circle', 'cross', *_POLYGONS)
# Masks of the pixels (y, x) of a shape that have its second colour.
_PATTERNS = {
    'circle': lambda y, x: np.zeros_like(y, dtype=bool),
    'cross': lambda y, x: y % 8 < 4,
    'square': lambda y, x: (y % 12 < 6) ^ (x % 12 < 6),
    'star': lambda y, x: (y % 6 < 3) & (x % 6 < 3),
    'triangle': lambda y, x: x % 8 < 4,
}


def draw(kind: str, rng: np.random.Generator, size: int = 96) -> np.ndarray:
    """Draw an image.

    Args:
        kind: one of `CLASSES`.
        rng: random generator.
        size: height and width in pixels.

    Returns:
        (size, size, 3) BGR uint8.
    """
    low, high = rng.integers(0, 256, (2, 3))
    ramp = np.linspace(0, 1, size)[:, None, None]
    image = np.broadcast_to(low * (1 - ramp) + high * ramp, (size, size, 3)).astype(np.uint8).copy()
    color = (image[size // 2, 0].astype(int) + rng.integers(80, 176, 3)) % 256
    mask = np.zeros((size, size), np.uint8)
    radius = size * rng.uniform(0.25, 0.42)
    center = rng.uniform(radius, size - radius, 2)
    turn = rng.uniform()
    if kind == 'circle':
        cv2.circle(mask, tuple(center.astype(int).tolist()), int(radius), 1, -1)
    elif kind == 'cross':
        for quarter in (0, 0.25):
            arm = radius * _direction(turn + quarter)
            ends = [tuple((center + sign * arm).astype(int).tolist()) for sign in (-1, 1)]
            cv2.line(mask, *ends, 1, max(2, int(radius / 2)))
    else:
        corners = [center + radius * r * _direction(turn + a) for a, r in _POLYGONS[kind]]
        cv2.fillPoly(mask, [np.array(corners).round().astype(np.int32)], 1)
    image[mask > 0] = color
    image[(mask > 0) & _PATTERNS[kind](*np.mgrid[:size, :size])] = 255 - color
    return (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def _direction(turn: float) -> np.ndarray:
    return np.array([np.sin(2 * np.pi * turn), -np.cos(2 * np.pi * turn)])


def generate(root: str | Path, num_train: int = 160, num_val: int = 20, seed: int = 0) -> Path:
    """Write `root`/train/CLASS/*.jpg and `root`/val/CLASS/*.jpg unless they exist.

    Args:
        root: output folder.
        num_train: training images of each class.
        num_val: validation images of each class.
        seed: of the random generators.

    Raises:
        DataError: `root` contains other files.
    """
    root = Path(root)
    if root.exists() and any(root.iterdir()):
        counts = {split: len([*root.glob(f'{split}/*/*.jpg')]) for split in ('train', 'val')}
        expected = {'train': num_train * len(CLASSES), 'val': num_val * len(CLASSES)}
        if counts != expected:
            raise DataError(f"'{root}' holds other files: name another folder, or remove it")
        return root
    for split, (name, number) in enumerate((('train', num_train), ('val', num_val))):
        for label, kind in enumerate(CLASSES):
            folder = root / name / kind
            folder.mkdir(parents=True)
            for index in range(number):
                rng = np.random.default_rng((seed, split, label, index))
                cv2.imwrite(str(folder / f'{index:04d}.jpg'), draw(kind, rng))
    return root


if __name__ == '__main__':
    flags = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    flags.add_argument('folder')
    args = flags.parse_args()
    print(f"shapes are in '{generate(args.folder)}'")
