"""Small segmentation data sets of drawn rectangles, in the layouts of the published sets."""

from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

VALUES = dict(  # of pixels; some of classes, some that do not count
    cityscapes=(7, 33, 11, 0, 4, 255),
    cityscapes_train_ids=(0, 18, 2, 255),
    pascal_context=(0, 1, 59, 7),
    coco_stuff_10k=(0, 1, 182, 13),
    coco_stuff_164k=(0, 181, 12, 255),
)


def picture(values: tuple[int, ...], size: tuple[int, int], seed: int) -> tuple:
    """An image (H, W, 3) and its mask (H, W): rectangles, each of a value and a colour of it."""
    rng = np.random.default_rng(seed)
    mask = np.full(size, values[seed % len(values)], np.uint8)
    for value in values:
        top, left = (int(rng.integers(n // 2)) for n in size)
        mask[top : top + size[0] // 2, left : left + size[1] // 3] = value
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    return colours[mask], mask


def _write(image: Path, mask: Path, labels: str, size: tuple[int, int], seed: int) -> None:
    values = VALUES[labels]
    pixels, target = picture(values, size, seed)
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), pixels)
    if mask.suffix == '.mat':
        savemat(mask, dict(S=target.astype(np.uint16), names=['unlabeled', 'person']))
    else:
        cv2.imwrite(str(mask), target)


def cityscapes(root: Path, size: tuple[int, int] = (64, 128)) -> Path:
    """Two cities to train, one to validate, with both kinds of labels."""
    for split, cities in dict(train=('aachen', 'bochum'), val=('lindau',)).items():
        for seed, city in enumerate(cities):
            for i in range(2):
                name = f'{city}_00000{i}_000019'
                image = root / f'leftImg8bit/{split}/{city}/{name}_leftImg8bit.png'
                folder = root / f'gtFine/{split}/{city}'
                for kind, labels in (
                    ('labelIds', 'cityscapes'),
                    ('labelTrainIds', 'cityscapes_train_ids'),
                ):
                    mask = folder / f'{name}_gtFine_{kind}.png'
                    _write(image, mask, labels, size, 2 * seed + i)
                (folder / f'{name}_gtFine_polygons.json').write_text('{}')
    return root


def pascal_context(root: Path, sizes: tuple = ((60, 80), (80, 60))) -> Path:
    """Images of all splits in one folder, and lists; some images in no list."""
    lists = root / 'ImageSets/SegmentationContext'
    lists.mkdir(parents=True)
    for seed in range(7):
        name = f'2008_{seed:06d}'
        image = root / f'JPEGImages/{name}.jpg'
        mask = root / f'SegmentationClassContext/{name}.png'
        _write(image, mask, 'pascal_context', sizes[seed % len(sizes)], seed)
    (lists / 'train.txt').write_text(''.join(f'2008_{seed:06d}\n' for seed in range(4)))
    (lists / 'val.txt').write_text('2008_000004\n2008_000005')
    return root


def coco_stuff_10k(root: Path, sizes: tuple = ((60, 80), (80, 60))) -> Path:
    """Images and MATLAB's files of all splits in one folder, and lists."""
    lists = root / 'imageLists'
    lists.mkdir(parents=True)
    for seed in range(6):
        name = f'COCO_train2014_{seed:012d}'
        image, mask = root / f'images/{name}.jpg', root / f'annotations/{name}.mat'
        _write(image, mask, 'coco_stuff_10k', sizes[seed % len(sizes)], seed)
        with open(lists / ('train.txt' if seed < 4 else 'test.txt'), 'a') as file:
            file.write(f'{name}\n')
    return root


def coco_stuff_164k(root: Path, size: tuple[int, int] = (60, 80)) -> Path:
    """COCO 2017's images and stuffthingmaps."""
    for split, count in dict(train2017=4, val2017=2).items():
        for seed in range(count):
            image = root / f'{split}/{seed:012d}.jpg'
            mask = root / f'stuffthingmaps/{split}/{seed:012d}.png'
            _write(image, mask, 'coco_stuff_164k', size, seed)
    return root


def prepared(root: Path, labels: str, size: tuple[int, int] = (60, 80)) -> Path:
    """What the authors' scripts make of a data set."""
    for split, count in dict(train=4, val=2).items():
        for seed in range(count):
            image, mask = (root / split / part / f'{seed}.png' for part in ('image', 'label'))
            _write(image, mask, labels, size, seed)
    return root
