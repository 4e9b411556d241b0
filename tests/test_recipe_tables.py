"""The tables of recipes in docs/data.md against the configs and the published recipe."""

import functools
import re
from ast import literal_eval
from itertools import zip_longest
from typing import Any

import pytest

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmpose.registry import TRANSFORMS

from hrformer_mmpose import zoo
from tests.conftest import ROOT

POSE = [
    f'hrformer_{arch}_coco_{size}' for arch in ('small', 'base') for size in ('256x192', '384x288')
]
IMAGENET = [f'hrformer_{arch}_imagenet_224' for arch in ('tiny', 'small', 'base')]


def table(title: str) -> list[list[str]]:
    """Return the cells of the rows below a title."""
    text = (ROOT / 'docs/data.md').read_text().split(f'**{title}, line by line.**')[1]
    rows = re.search(r'(\|.*\n)+', text)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip('|').split('|')] for row in rows]


TABLES = {'Pose': POSE, 'Pre-training': IMAGENET}
ROWS = [
    pytest.param(title, *row, id=f'{title}: {row[0]}') for title in TABLES for row in table(title)
]
read = functools.cache(lambda name: Config.fromfile(zoo.find(name)))


def value_at(cfg: Config, key: str) -> Any:
    """Value of a dotted key; that of the built transform in a pipeline; None if absent."""
    name, *path = key.split('.')
    if name.endswith('pipeline'):
        step = TRANSFORMS.build({**cfg[name][int(path[0])], '_scope_': 'mmpose'})
        return getattr(step, path[1])
    if key == 'model.backbone.with_rpe':
        return cfg.model.backbone.get('with_rpe', True)
    value = cfg[name]
    for part in path:
        value = value[int(part)] if part.isdigit() else value.get(part)
    return value


def literal(cell: str) -> Any:
    """Number, tuple, ... of a cell; other cells are text."""
    try:
        value = literal_eval(cell)
        return tuple(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError):
        return cell


@pytest.mark.parametrize(('title', 'setting', 'authors', 'here', 'key', 'difference'), ROWS)
def test_a_line(title, setting, authors, here, key, difference):
    """The config says what the line says; a difference is stated."""
    assert authors == here or difference or not key
    if not key:
        return
    values = [literal(cell) for cell in here.split(' / ')]
    assert len(values) in (1, len(TABLES[title]))
    for name, expected in zip_longest(TABLES[title], values, fillvalue=values[0]):
        value = value_at(read(name), key.strip('`'))
        assert (tuple(value) if isinstance(value, list | tuple) else value) == expected, name


def test_the_authors_values_are_the_published_ones(shared):
    """Compare those that the collection of published recipes has."""
    facts = (shared / 'paper.md').read_text()
    rows = {title: {row[0]: row[1] for row in table(title)} for title in TABLES}
    for title, setting, pattern in (
        ('Pose', 'optimizer', r'optimiser \| (\w+)'),
        ('Pose', 'learning rate', r'optimiser \| AdamW, lr ([\de-]+)'),
        ('Pose', 'betas', r'betas (\([\d., ]+\))'),
        ('Pose', 'weight decay', r'weight decay ([\d.]+), none on the relative-position'),
        ('Pose', 'epochs', r'(\d+) epochs, x0.1'),
        ('Pose', 'warm-up, iterations', r'linear warm-up (\d+) iterations'),
        ('Pose', 'flip, probability', r'augmentation \| flip ([\d.]+)'),
        ('Pose', 'half body, probability', r'half body ([\d.]+)'),
        ('Pose', 'rotation, probability', r'rotation with probability ([\d.]+)'),
        ('Pose', 'rotation, largest', r'N\(0, 40 deg\) clipped to (\d+)'),
        ('Pose', 'shift, probability', r'shift ([\d.]+), \+-20 %'),
        ('Pre-training', 'epochs', r'ImageNet-1K: (\d+) epochs'),
        ('Pre-training', 'learning rate for 1024 images', r'peak \*\*([\de-]+)\*\*'),
        ('Pre-training', 'label smoothing', r'label smoothing ([\d.]+)'),
        ('Pre-training', 'warm-up, epochs', r'(\d+) warm-up epochs'),
        ('Pre-training', 'weight decay', r'warm-up epochs, weight decay ([\d.]+)'),
        ('Pre-training', 'gradient clipping', r'clip ([\d.]+)'),
        ('Pre-training', 'RandAugment, magnitude', r'RandAugment m(\d+)'),
        ('Pre-training', 'mixup', r'mixup ([\d.]+)'),
        ('Pre-training', 'CutMix, every second batch', r'cutmix ([\d.]+)'),
        ('Pre-training', 'erasing, probability', r'erasing ([\d.]+)'),
    ):
        published = re.search(pattern, facts)[1]
        assert literal(rows[title][setting]) == literal(published), setting
    pose, imagenet = rows['Pose'], rows['Pre-training']
    small, base, large = re.search(
        r'drop path \| S ([\d.]+), B-256x192 ([\d.]+), \*\*B-384x288 ([\d.]+)', facts
    ).groups()
    assert pose['drop path'] == f'{small} / {small} / {base} / {large}'
    small, base, large = re.search(
        r'S (\d+) \(both sizes\), B-256x192 (\d+), \*\*B-384x288 (\d+)', facts
    ).groups()
    assert pose['images on 8 GPUs'] == f'{small} / {small} / {base} / {large}'
    rates = re.search(r'drop path T (\S+) / S (\S+) / B (\S+) \|', facts).groups()
    assert [literal(cell) for cell in imagenet['drop path'].split(' / ')] == [*map(literal, rates)]
    epochs = re.search(r'x0.1 at (\d+) and (\d+)', facts).groups()
    assert literal(pose['learning rate / 10 at epochs']) == tuple(map(int, epochs))
