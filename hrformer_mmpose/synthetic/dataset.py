"""Synthetic data set of articulated people with COCO's 17 keypoints.

It needs no download and no licence; demos and tests use it. Each image has its own random
generator, seeded with (seed, split, index), so the same arguments produce the same files. Keypoints
are exact: (x, y) in pixels, with the centre of the first pixel at (0, 0). Boxes and polygons follow
COCO's other convention, in which the first pixel spans 0 to 1.

`python -m hrformer_mmpose.synthetic ROOT` writes a data set.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from .annotating import draw_image
from .coco_files import empty_coco, simulate_detections

# Increase it when the same arguments no longer produce the same data.
VERSION = 1

_SPLITS = ('train2017', 'val2017')
# Fixed, so that ids of val images do not depend on the number of train images.
_FIRST_VAL_ID = 500_001
_MANIFEST = 'synthetic.json'
_STAGE = '.synthetic_people.'  # prefix of the temporary folder
_DETECTIONS = 'person_detection_results/simulated_val2017_person.json'
_OWNED = ('train2017', 'val2017', 'annotations', 'masks', 'person_detection_results')
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 90)


def generate(
    root: str | os.PathLike,
    num_train: int = 400,
    num_val: int = 100,
    seed: int = 0,
    image_size: tuple[int, int] = (320, 256),
    masks: bool = False,
    force: bool = False,
    progress: bool = False,
) -> Path:
    """Write the data set unless the folder already contains it.

    Args:
        root: output folder: missing, empty or with a synthetic data set.
        num_train: number of training images.
        num_val: number of validation images.
        seed: the same seed and arguments produce the same files.
        image_size: typical (width, height) of the images in pixels.
        masks: also write `masks/SPLIT/*.png`, uint8: 1 for people, 0 elsewhere.
        force: replace a synthetic data set with other arguments; nothing else is replaced.
        progress: print progress on stderr.

    Returns:
        The folder.

    Raises:
        ValueError: invalid argument, or a folder that must not be overwritten.
        OSError: the folder cannot be written.
    """
    root = Path(root)
    parameters = _check(num_train, num_val, seed, image_size, masks)
    if _is_current(root, parameters, force):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    # Written to a temporary folder and moved at the end: a run interrupted before changes nothing.
    # An existing folder may be a mount or a link to another file system, where moving would fail.
    place = root if root.exists() else root.parent
    stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=place))
    try:
        _write_all(stage, parameters, progress)
        _install(stage, root, parameters)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return root


def _check(num_train, num_val, seed, image_size, masks) -> dict:
    """Check the arguments and return them in the manifest's form."""
    for name, value, least in (
        ('num_train', num_train, 1),
        ('num_val', num_val, 1),
        ('seed', seed, 0),
    ):
        if int(value) != value or not least <= value:
            raise ValueError(f'{name} must be a whole number of at least {least}, not {value}')
    if num_train >= _FIRST_VAL_ID:
        raise ValueError(f'num_train must be below {_FIRST_VAL_ID}, not {num_train}')
    if len(image_size) != 2 or not all(int(n) == n and 160 <= n <= 2048 for n in image_size):
        raise ValueError(
            f'image_size must be (width, height) of 160 to 2048 pixels, not {image_size}'
        )
    return dict(
        version=VERSION, num_train=int(num_train), num_val=int(num_val), seed=int(seed),
        image_size=[int(n) for n in image_size], masks=bool(masks),
    )  # fmt: skip


def _is_current(root: Path, parameters: dict, force: bool) -> bool:
    """Return whether `root` is already up to date; raise ValueError if it must not be changed."""
    if not root.exists():
        return False
    if root.is_dir() and all(path.name.startswith(_STAGE) for path in root.iterdir()):
        return False
    try:
        manifest = json.loads((root / _MANIFEST).read_text(encoding='utf-8'))
        existing, complete = manifest['synthetic_people'], manifest.get('complete', True)
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f'{root} exists and is not a synthetic data set: choose another folder'
        ) from None
    if existing == parameters and complete and _is_complete(root, parameters):
        return True
    if force:
        return False
    what = 'incomplete' if existing == parameters else 'made with other parameters'
    raise ValueError(
        f'{root} holds a synthetic data set that is {what}: pass force=True (--force) to replace '
        'it or choose another folder'
    )


def _is_complete(root: Path, parameters: dict) -> bool:
    """Return whether the folder has all files of the data set."""
    files = [root / _DETECTIONS, *(_annotation_file(root, split) for split in _SPLITS)]
    counts = [parameters['num_train'], parameters['num_val']]
    folders = [('', '.jpg')] + [('masks', '.png')] * parameters['masks']
    return all(path.is_file() for path in files) and all(
        len(list((root / folder / split).glob(f'*{suffix}'))) == count
        for folder, suffix in folders
        for split, count in zip(_SPLITS, counts, strict=True)
    )


def _annotation_file(root: Path, split: str) -> Path:
    return root / 'annotations' / f'person_keypoints_{split}.json'


def _install(stage: Path, root: Path, parameters: dict) -> None:
    """Move the finished data to `root`, whose manifest says until the end that it is incomplete."""
    incomplete = stage / 'incomplete.json'
    _write_json(incomplete, {'synthetic_people': parameters, 'complete': False})
    root.mkdir(exist_ok=True)
    os.replace(incomplete, root / _MANIFEST)
    for name in _OWNED:
        if (root / name).exists():
            shutil.rmtree(root / name)
        if (stage / name).exists():
            os.replace(stage / name, root / name)
    os.replace(stage / _MANIFEST, root / _MANIFEST)


def _write_all(root: Path, parameters: dict, progress: bool) -> None:
    """Write both splits to the empty folder `root`, the manifest last."""
    done, total = 0, parameters['num_train'] + parameters['num_val']
    for split, name in enumerate(_SPLITS):
        count = parameters['num_val' if split else 'num_train']
        data = empty_coco(parameters)
        for folder in (root / name, root / 'masks' / name)[: 1 + parameters['masks']]:
            folder.mkdir(parents=True)
        for index in range(count):
            _add_image(root, data, split, index, parameters)
            done += 1
            if progress:
                _report(done, total)
        _write_json(_annotation_file(root, name), data)
    _write_json(root / _DETECTIONS, simulate_detections(data, parameters['seed']))
    _write_json(root / _MANIFEST, {'synthetic_people': parameters})


def _add_image(root: Path, data: dict, split: int, index: int, parameters: dict) -> None:
    """Draw and write an image of a split, and add it to the annotations `data`."""
    rng = np.random.default_rng([parameters['seed'], split, index])
    image, annotations, ids = draw_image(rng, parameters['image_size'])
    image_id = index + (_FIRST_VAL_ID if split else 1)
    stem = f'{image_id:012d}'
    _write_image(root / _SPLITS[split] / f'{stem}.jpg', image, _JPEG)
    if parameters['masks']:
        _write_image(root / 'masks' / _SPLITS[split] / f'{stem}.png', (ids > 0).astype(np.uint8))
    height, width = ids.shape
    data['images'].append(
        dict(id=image_id, file_name=f'{stem}.jpg', width=width, height=height, license=1)
    )
    for number, annotation in enumerate(annotations):
        # An image has at most seven people, so ids are unique across the splits, too.
        data['annotations'].append(dict(annotation, id=image_id * 10 + number, image_id=image_id))


def _write_image(path: Path, image: np.ndarray, options=()) -> None:
    """Write an image; unlike cv2.imwrite, raise errors and accept any file name."""
    encoded = cv2.imencode(path.suffix, image, list(options))[1]
    path.write_bytes(encoded.tobytes())


def _write_json(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, separators=(',', ':')), encoding='utf-8')


def _report(done: int, total: int) -> None:
    """Print progress on stderr: in place on a terminal, otherwise every 100 images."""
    last = done == total
    if sys.stderr.isatty():
        print(
            f'\rdrawn {done}/{total} images', end='\n' if last else '', file=sys.stderr, flush=True
        )
    elif last or done % 100 == 0:
        print(f'drawn {done}/{total} images', file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m hrformer_mmpose.synthetic',
        description='Draw a data set of synthetic people in COCO key point layout.',
    )
    parser.add_argument('root', metavar='ROOT', help='the folder to write')
    parser.add_argument('--num-train', type=int, default=400, metavar='N', help='default: 400')
    parser.add_argument('--num-val', type=int, default=100, metavar='N', help='default: 100')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='default: 0')
    parser.add_argument(
        '--image-size', type=int, nargs=2, default=(320, 256), metavar=('W', 'H'),
        help='typical size in pixels; default: 320 256',
    )  # fmt: skip
    parser.add_argument('--masks', action='store_true', help='also write silhouette masks')
    parser.add_argument('--force', action='store_true', help='replace another synthetic data set')
    args = parser.parse_args(argv)
    try:
        root = generate(**vars(args), progress=True)
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(
        f'{args.num_train} training and {args.num_val} validation images with annotations and '
        f'simulated detections are in {root}'
    )
    return 0
