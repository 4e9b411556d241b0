"""Time the input pipeline of classification beside timm's: `tools/benchmark_data.py images`.

Both read the same files in one process with one thread and end with the normalized float32 batch.
timm normalizes and erases in the loading worker; here the data preprocessor normalizes, in a
training on the GPU, so that its time here is an upper bound.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TypeVar

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmpose.registry import MODELS
from PIL import Image

from .. import zoo
from ..datasets.collate import pseudo_collate
from ..datasets.image_transforms import CenterCrop, RandAugment, RandomErasing, RandomResizedCrop
from ..datasets.pipeline import Pipeline
from ..errors import ConfigError, DataError, first_line
from ..imaging.images import SUFFIXES
from ..seeding import seed_all
from ..synthetic import shapes
from . import report
from .isolation import use_one_thread
from .timing import Timer, line, time_in_turns

OURS, TIMM = 'hrformer_mmpose', 'timm'
# Height, width and JPEG quality of generated images. Files of 100 kB, as ImageNet's, whose training
# archive of 138 GB holds 1.28 million.
GENERATED = (375, 500, 95)
COLUMNS = ('pipeline', 'images/s', '(slowest to fastest)', 'times timm', '(lowest to highest)')
Transform = TypeVar('Transform')


def time_images(
    folder: str | None, config: str, images: int, rounds: int, timer: Timer | None = None
) -> list[str]:
    """Time the training and the test pipeline of a config in turns with timm's.

    Args:
        folder: images, also in folders of it; None to generate some of ImageNet's size.
        config: config of a classifier, a path or a name.
        images: images a round.
        rounds: number of timed rounds.
        timer: clock; by default the CPU's.

    Returns:
        The lines of the printed table.

    Raises:
        ConfigError: the config is not one of a classifier.
        DataError: the folder holds fewer than two images, or one of them cannot be read.
    """
    use_one_thread()
    seed_all(0)
    cfg = zoo.read_config(config)
    create_transform, problem = _timm()
    with TemporaryDirectory() as generated:
        paths = _paths(folder, images) if folder else _generate(generated, images)
        cells = []
        for name, is_training in (('training', True), ('test', False)):
            steps = {OURS: _our_step(cfg, config, paths, is_training)}
            if create_transform:
                settings = _timm_settings(cfg, config, is_training)
                steps[TIMM] = _timm_step(create_transform(**settings), paths, _batch(cfg))
            rows = time_in_turns(
                f'{name}, {len(paths)} images',
                steps,
                rounds,
                timer or Timer(torch.device('cpu')),
                warm_up=1,
                reference=TIMM if create_transform else OURS,
            )
            print('\n'.join(map(line, rows)))
            cells += [_cells(name, row, len(paths), create_transform is not None) for row in rows]
    table = report.table(COLUMNS, cells)
    print('\n' + '\n'.join(table))
    if problem:
        print(problem)
    return table


def _timm() -> tuple[Callable | None, str | None]:
    """Return timm's `create_transform`, or None and the line that says why."""
    try:
        from timm.data import create_transform
    # A torchvision of another build of PyTorch raises a RuntimeError.
    except (ImportError, RuntimeError) as error:
        reason = first_line(error)
        return None, f"timm's pipeline: not timed ({reason}): pip install timm torchvision"
    return create_transform, None


def _paths(folder: str, images: int) -> list[str]:
    """Return random images of a folder."""
    paths = sorted(p for p in Path(folder).rglob('*') if p.suffix.lower() in SUFFIXES)
    if len(paths) < 2:  # LoadImage would decode a single one once for all rounds
        raise DataError(f"'{folder}' holds {len(paths)} images: name a folder with two or more")
    order = np.random.default_rng(0).permutation(len(paths))
    return [str(paths[index]) for index in order[:images]]


def _generate(folder: str, images: int) -> list[str]:
    height, width, quality = GENERATED
    paths = []
    for index in range(max(images, 2)):
        rng = np.random.default_rng(index)
        image = shapes.draw(shapes.CLASSES[index % len(shapes.CLASSES)], rng, width)
        paths.append(str(Path(folder, f'{index:05d}.jpg')))
        cv2.imwrite(paths[-1], image[:height], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return paths


def _pipeline(cfg: Config, is_training: bool) -> Pipeline:
    loader = cfg.train_dataloader if is_training else cfg.test_dataloader
    return Pipeline(loader.dataset.pipeline)


def _batch(cfg: Config) -> int:
    return cfg.train_dataloader.batch_size


def _our_step(cfg: Config, config: str, paths: Sequence[str], is_training: bool) -> Callable:
    if not cfg.get('model', {}).get('type', '').endswith('ImageClassifier'):
        raise ConfigError(f"'{config}' trains no classifier: name a config of configs/imagenet")
    pipeline = _pipeline(cfg, is_training)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)

    def step() -> None:
        for batch in _batches(paths, _batch(cfg)):
            samples = [pipeline(dict(img_path=path, gt_label=0)) for path in batch]
            preprocessor(pseudo_collate(samples), is_training)

    return step


def _timm_step(transform: Callable, paths: Sequence[str], batch_size: int) -> Callable:
    def step() -> None:
        for batch in _batches(paths, batch_size):
            torch.stack([transform(_read(path)) for path in batch])

    return step


def _batches(paths: Sequence[str], size: int) -> list[Sequence[str]]:
    return [paths[first : first + size] for first in range(0, len(paths), size)]


def _read(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert('RGB')


def _timm_settings(cfg: Config, config: str, is_training: bool) -> dict:
    """Return the arguments of `create_transform` that correspond to a config's pipeline."""
    pipeline, statistics = _pipeline(cfg, is_training), cfg.model.data_preprocessor
    settings = dict(
        is_training=is_training,
        interpolation='bicubic',
        mean=[value / 255 for value in statistics.mean],
        std=[value / 255 for value in statistics.std],
    )
    kind = RandomResizedCrop if is_training else CenterCrop
    crop = _transform(pipeline, kind)
    if crop is None:
        raise ConfigError(
            f"'{config}': a pipeline has no {kind.__name__}, which timm's begins with"
        )
    settings['input_size'] = crop.size
    if not is_training:
        return settings | dict(crop_pct=crop.share)
    settings |= dict(scale=crop.area, ratio=crop.ratio, hflip=crop.flip, color_jitter=None)
    if augment := _transform(pipeline, RandAugment):
        settings['auto_augment'] = (
            f'rand-m{augment.magnitude}-n{augment.operations}-p{augment.probability}'
            f'-mstd{augment.spread}-inc1'
        )
    if erasing := _transform(pipeline, RandomErasing):
        settings |= dict(re_prob=erasing.probability, re_mode='pixel')
    return settings


def _transform(pipeline: Pipeline, kind: type[Transform]) -> Transform | None:
    return next((step for step in pipeline.transforms if isinstance(step, kind)), None)


def _cells(name: str, row: dict, images: int, has_timm: bool) -> list[str]:
    seconds, ratios = row['seconds'], row['ratios']
    return [
        f'{name}, {row["network"]}',
        f'{images / row["median_s"]:.1f}',
        f'({images / max(seconds):.1f} to {images / min(seconds):.1f})',
        f'{median(ratios):.2f}' if has_timm else '',
        f'({ratios[0]:.2f} to {ratios[-1]:.2f})' if has_timm else '',
    ]
