"""The split by image, and settings that follow from the data."""

import random

import pytest

from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.owndata import schedule
from hrformer_mmpose.owndata.repair import KeypointSet
from hrformer_mmpose.owndata.split import split


def labels(images: int, persons: int = 2, **of_image) -> KeypointSet:
    entries = [dict(id=k, file_name=f'{k:03}.jpg', **of_image) for k in range(images)]
    annotations = [
        dict(id=k, image_id=k // persons, num_keypoints=3, iscrowd=0)
        for k in range(images * persons)
    ]
    return KeypointSet(None, entries, annotations, [])


def test_persons_of_an_image_stay_together_and_the_seed_decides():
    train, val = split(labels(40), 0.25, seed=1)
    assert len(val) == 10
    assert not train & val
    assert train | val == set(range(40))
    shuffled = labels(40)
    random.Random(0).shuffle(shuffled.images)
    assert split(shuffled, 0.25, seed=1) == (train, val), "the file's order is irrelevant"
    assert split(labels(40), 0.25, seed=2) != (train, val)


def test_a_split_in_the_file_is_kept():
    both = labels(10)
    for image in both.images:
        image['split'] = 'val' if image['id'] in (2, 5) else 'train'
    assert split(both, 0.5, 0)[1] == {2, 5}


def test_small_sets():
    assert [len(part) for part in split(labels(2), 0.01, 0)] == [1, 1]
    with pytest.raises(DataError, match='--val FILE'):
        split(labels(1), 0.1, 0)
    with pytest.raises(ConfigError, match='between 0 and 1'):
        split(labels(9), 1.0, 0)


@pytest.mark.parametrize(
    ('width', 'height', 'size'),
    [(60, 80, (192, 256)), (50, 50, (224, 224)), (200, 140, (256, 192)), (10, 40, (128, 384)),
     (300, 100, (384, 128)), (50, 100, (160, 320))],
)  # fmt: skip
def test_the_input_has_the_shape_of_most_boxes(width, height, size):
    boxes = [[0, 0, width, height]] * 3 + [[0, 0, height, width]]
    assert schedule.input_size(boxes) == size


def test_schedule_of_coco_is_the_recipe():
    plan = schedule.schedule(150_000)
    assert (plan.batch_size, plan.epochs, plan.milestones) == (32, 210, (170, 200))
    assert plan.val_interval == 10
    assert plan.warmup == 500


@pytest.mark.parametrize('persons', [1, 7, 60, 300, 999, 5000, 1_000_000, 10**9])
def test_schedules_of_any_size_can_run(persons):
    plan = schedule.schedule(persons)
    iterations = plan.epochs * -(-persons // plan.batch_size)
    assert iterations >= schedule.MIN_ITERATIONS
    assert plan.epochs * persons <= max(schedule.RECIPE_SAMPLES, persons, 4000 * plan.batch_size)
    assert 0 < plan.milestones[0] < plan.milestones[1] <= max(plan.epochs, 2)
    assert 1 <= plan.warmup < iterations
    assert 1 <= plan.val_interval <= plan.epochs
    assert 0 < plan.rate < schedule.RECIPE_RATE


def test_learning_by_heart_is_shorter_and_faster():
    plan, usual = schedule.schedule(300, overfit=True), schedule.schedule(300)
    assert plan.epochs < usual.epochs / 2
    assert plan.rate > 5 * usual.rate
    assert plan.milestones[1] < plan.epochs


def test_epochs_of_the_command_line():
    plan = schedule.schedule(300, epochs=1)
    assert plan.epochs == plan.val_interval == 1
    assert plan.warmup < 300 // plan.batch_size
