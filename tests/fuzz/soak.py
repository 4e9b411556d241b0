"""10,000 images through `PoseEstimator` in one process: python -m tests.fuzz.soak [--images N].

Prints the resident memory after each tenth; status 1 if it grows by more than 3 % after the first.
"""

import argparse
import itertools
import random
import sys
import tempfile
from pathlib import Path

import cv2
import torch

from hrformer_mmpose import PoseEstimator

from .materials import Materials, picture, quiet
from .worker import memory

GROWTH = 0.03


def main() -> int:
    """Predict, print, and return the status."""
    parser = argparse.ArgumentParser(description='Memory of a long prediction')
    parser.add_argument('--images', type=int, default=10_000, help='in all (%(default)s)')
    count = parser.parse_args().images
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix='soak-') as folder:
        with quiet():
            materials = Materials(Path(folder), exported=False)
            estimator = PoseEstimator(materials.config, materials.checkpoint, 'cpu', batch_size=16)
        paths = _images(Path(folder))
        images = itertools.islice(itertools.cycle(paths), count)
        boxes = itertools.repeat([[2, 2, 40, 44], [10, 1, 60, 40]], count)
        sizes = []
        stream = estimator.stream(images, boxes)
        for number, found in enumerate(stream, start=1):
            assert len(found.poses) == 2
            if number % (count // 10) == 0:
                sizes.append(memory('VmRSS'))
                print(f'{number} images: {sizes[-1] / 2**20:.1f} MiB', flush=True)
    growth = max(sizes) / sizes[0] - 1
    print(f'growth after the first {count // 10} images: {growth:.2%}')
    return int(growth > GROWTH)


def _images(folder: Path, count: int = 50) -> list[str]:
    """Images of different sizes and formats."""
    paths = []
    for number in range(count):
        rng = random.Random(number)
        path = folder / f'{number}.{rng.choice(("jpg", "png", "webp"))}'
        cv2.imwrite(str(path), picture(rng, rng.randint(64, 400), rng.randint(48, 300)))
        paths.append(str(path))
    return paths


if __name__ == '__main__':
    sys.exit(main())
