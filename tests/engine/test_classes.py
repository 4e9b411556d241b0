"""Head and data sets must have the same classes: labels of others would be taken for their own."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose.datasets.image_folder import ImageFolder
from hrformer_mmpose.engine.hooks import ClassesHook
from hrformer_mmpose.errors import ConfigError, DataError


@pytest.fixture
def loader(tmp_path):
    def make(split: str, *classes: str):
        for name in classes:
            (tmp_path / split / name).mkdir(parents=True)
            image = np.zeros((4, 4, 3), np.uint8)
            cv2.imwrite(str(tmp_path / split / name / '0.png'), image)
        data = ImageFolder(str(tmp_path), dict(img=split), pipeline=[])
        return SimpleNamespace(dataset=data)

    return make


def runner(num_classes: int | None, train, val=None):
    head = SimpleNamespace() if num_classes is None else SimpleNamespace(num_classes=num_classes)
    return SimpleNamespace(
        model=SimpleNamespace(head=head),
        train_dataloader=train,
        val_dataloader=val,
        test_dataloader=val,
        val_loop=val,
    )


def test_equal_classes_pass(loader):
    ClassesHook().before_train(runner(2, loader('train', 'a', 'b'), loader('val', 'a', 'b')))


def test_another_number_than_the_heads(loader):
    train, val = loader('train', 'a', 'b'), loader('val', 'a')
    for call in ('before_val', 'before_test'):
        with pytest.raises(ConfigError, match=r"num_classes=2, but '.*val' has 1 classes"):
            getattr(ClassesHook(), call)(runner(2, train, val))
    with pytest.raises(ConfigError, match=r"num_classes=3, but '.*train' has 2 classes"):
        ClassesHook().before_train(runner(3, train))


def test_other_names_in_validation(loader):
    with pytest.raises(DataError, match="do not have the same classes: 'b' is in one"):
        ClassesHook().before_train(runner(2, loader('train', 'a', 'b'), loader('val', 'a', 'c')))


def test_heads_without_classes_are_left_alone(loader):
    ClassesHook().before_train(runner(None, loader('train', 'a'), loader('val', 'b')))
