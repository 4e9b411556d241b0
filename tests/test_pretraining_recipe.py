"""The ImageNet configs against the authors' recipe, worked out from their code."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmpose.registry import MODELS

from hrformer_mmpose import zoo
from hrformer_mmpose.datasets.image_transforms import CenterCrop, RandomResizedCrop

CONFIG = zoo.find('hrformer_tiny_imagenet_224')


@pytest.fixture
def cfg() -> Config:
    init_default_scope('mmpose')
    return Config.fromfile(CONFIG)


def authors_rate(step: float, steps: int, warmup: int) -> float:
    """5e-4, 5e-7 and 5e-6 for 512 images, scaled to 8 x 128; timm's cosine spans the warm-up."""
    peak, first, last = (2 * rate for rate in (5e-4, 5e-7, 5e-6))
    if step < warmup:
        return first + step * (peak - first) / warmup
    return last + (peak - last) / 2 * (1 + math.cos(math.pi * step / steps))


def test_the_rate_is_the_authors_at_every_iteration(cfg):
    """To 0.1 %, and to 1.2 % in the warm-up, where the cosine has already begun."""
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 1024
    iterations = 10
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(
            {**scheduler, 'epoch_length': iterations}, default_args=dict(optimizer=optimizer)
        )
        for scheduler in cfg.param_scheduler
    ]
    steps, warmup = 300 * iterations, 20 * iterations
    for step in range(steps):
        expected = authors_rate(step, steps, warmup)
        tolerance = 0.012 if step < warmup else 0.001
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=tolerance), step
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_what_decays_is_what_the_authors_decay(cfg):
    """Everything but biases and vectors: their rule for this network."""
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {id(g['params'][0]): g['weight_decay'] for g in wrapper.optimizer.param_groups}
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim == 1 or name.endswith('.bias')
        assert decay[id(parameter)] == (0 if exempt else 0.05), name


def test_batch_norm_is_plain(cfg):
    assert cfg.model.backbone.norm_cfg == cfg.model.head.norm_cfg == dict(type='BN')


def bicubic(image: np.ndarray, length: int) -> np.ndarray:
    """Antialiased bicubic interpolation (a = -0.5) along axis 0, in float64."""
    scale = max(len(image) / length, 1)
    center = (np.arange(length) + 0.5) * len(image) / length
    x = np.abs(np.arange(len(image)) + 0.5 - center[:, None]) / scale
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    weights /= weights.sum(1, keepdims=True)
    return np.tensordot(weights, image, 1)


def resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Columns, then rows, each result cut to 8 bits, as PIL does."""
    columns = bicubic(image.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return bicubic(columns.clip(0, 255).round(), height).clip(0, 255)


@pytest.mark.parametrize('shape', [(375, 500), (501, 333), (768, 1024)])
def test_evaluation_crops_are_the_authors(shape):
    """The shorter side to 256 with antialiasing, sizes and offsets as torchvision takes them."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    rows, columns = (int(256 * side / min(shape)) for side in shape)
    top, left = round((rows - 224) / 2), round((columns - 224) / 2)
    expected = resized(image, columns, rows)[top : top + 224, left : left + 224]
    crop = CenterCrop(224).transform(dict(img=image))['img']
    assert crop.shape == (224, 224, 3)
    assert np.abs(crop - expected).max() < 2


def test_training_crops_are_resized_likewise():
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    step = RandomResizedCrop(224, area=(1, 1), ratio=(4 / 3, 4 / 3), flip=0.0)
    crop = step.transform(dict(img=image))['img']
    assert np.abs(crop - resized(image, 224, 224)).max() < 2
