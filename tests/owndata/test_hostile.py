"""Damaged values anywhere in a file end in one line or in a repair, never in a traceback."""

import copy
import json
import random
import re

import numpy as np
import pytest
import yaml

from hrformer_mmpose.errors import UserError
from hrformer_mmpose.owndata import category, flip_pairs, readers
from hrformer_mmpose.owndata.image_files import ImageFolder
from hrformer_mmpose.owndata.repair import repair
from tests.owndata import writers

VALUES = [
    None, True, False, 0, -1, 1, 10**400, 1e308, float('nan'), float('inf'), '', 'x', 'a/b', '..',
    '\0', 'é' * 300, [], [[]], [None], [1], [[1, 2], 3], {}, {'a': 1}, [[]] * 3,
]  # fmt: skip
ROUNDS = 150


def places(tree, path=()):
    """Yield the path of every value in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def damaged(tree, rng: random.Random):
    """Replace, remove or repeat one to three values, the upper levels as often as the lower."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        by_depth: dict = {}
        for path in places(tree):
            by_depth.setdefault(len(path), []).append(path)
        if not by_depth:
            break
        *above, key = rng.choice(by_depth[rng.choice(list(by_depth))])
        parent = tree
        for step in above:
            parent = parent[step]
        action = rng.random()
        if action < 0.2:
            del parent[key]
        elif action < 0.3 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
    return tree


def use(path, images) -> bool:
    """Do what the command does up to the writing; return whether it got there."""
    line = ''
    try:
        source = readers.read(str(path), str(images))
        chosen = category.choose(source, None)
        labels = repair(source, chosen, ImageFolder(str(images)))
        flip_pairs.guess(chosen.names)
    except UserError as error:
        line = str(error)
    if line:
        assert '\n' not in line
        return False
    for a in labels.annotations:
        assert np.isfinite(a['keypoints']).all()
        assert np.isfinite([*a['bbox'], a['area']]).all()
        assert min(a['bbox'][2:]) > 0
        assert a['num_keypoints'] == sum(v > 0 for v in a['keypoints'][2::3])
    assert len({a['id'] for a in labels.annotations}) == len(labels.annotations)
    assert {a['image_id'] for a in labels.annotations} <= {i['id'] for i in labels.images}
    return True


@pytest.fixture
def small(drawn):
    content, images = drawn
    content['images'] = content['images'][:3]
    ids = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in ids]
    return content, images


@pytest.mark.parametrize('tool', ['coco', 'labelme', 'label_studio'])
def test_json(small, tmp_path, tool):
    content, images = small
    path = getattr(writers, tool)(content, tmp_path)
    file = min(path.iterdir()) if path.is_dir() else path
    good = json.loads(file.read_text())
    assert use(path, images)
    rng = random.Random(0)
    outcomes = []
    for _ in range(ROUNDS):
        file.write_text(json.dumps(damaged(good, rng)))
        outcomes.append(use(path, images))
    assert 0 < sum(outcomes) < ROUNDS


def test_cvat(small, tmp_path):
    content, images = small
    path = writers.cvat(content, tmp_path)
    good = path.read_text()
    assert use(path, images)
    rng = random.Random(0)
    spots = [match.span(1) for match in re.finditer(r'(?:"|>)([^"<>]+)(?:"|<)', good)]
    outcomes = []
    for _ in range(ROUNDS):
        start, end = rng.choice(spots)
        value = rng.choice(['', 'x', '-1', 'nan', '1e999', '1,2', '1,2;3', ';', ',', '0', 'é'])
        path.write_text(good[:start] + value + good[end:])
        outcomes.append(use(path, images))
    assert 0 < sum(outcomes) < ROUNDS


def test_yolo(small, tmp_path):
    content, images = small
    path = writers.yolo(content, tmp_path, images, flips=[0, 2, 1, 4, 3])
    good = yaml.safe_load(path.read_text())
    label = min((path.parent / 'labels/train').iterdir())
    lines = label.read_text()
    assert use(path, path.parent)
    rng = random.Random(0)
    outcomes = []
    for _ in range(ROUNDS):
        path.write_text(yaml.safe_dump(damaged(good, rng)))
        outcomes.append(use(path, path.parent))
    path.write_text(yaml.safe_dump(good))
    for _ in range(ROUNDS):
        numbers = lines.split()
        value = rng.choice(['', 'x', '-1', 'nan', 'inf', '7', '1e400'])
        numbers[rng.randrange(len(numbers))] = value
        label.write_text(' '.join(numbers))
        outcomes.append(use(path, path.parent))
    assert 0 < sum(outcomes) < 2 * ROUNDS
