"""Classification data: folders, augmentation, accuracy."""

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.registry import DefaultScope

from hrformer_mmpose.datasets import image_transforms
from hrformer_mmpose.datasets.image_folder import ImageFolder
from hrformer_mmpose.errors import DataError
from hrformer_mmpose.evaluation.accuracy import Accuracy
from hrformer_mmpose.imaging import images
from hrformer_mmpose.registry import TRANSFORMS


@pytest.fixture
def root(tmp_path):
    for name, count in (('b', 2), ('a', 1)):
        folder = tmp_path / 'train' / name
        folder.mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / f'{i}.png'), np.full((30, 40, 3), 100, np.uint8))
    (tmp_path / 'train' / 'a' / 'notes.txt').write_text('no image')
    return tmp_path


@pytest.fixture(autouse=True)
def _scope():
    DefaultScope.get_instance('classification', scope_name='mmpose')


def test_classes_are_the_folders_in_alphabetical_order(root):
    pipeline = [dict(type='hrformer_mmpose.LoadImage'), dict(type='hrformer_mmpose.PackImage')]
    data = ImageFolder(str(root), dict(img='train'), pipeline=pipeline)
    assert data.metainfo['classes'] == ('a', 'b')
    assert [data.get_data_info(i)['gt_label'] for i in range(len(data))] == [0, 1, 1]
    sample = data[0]
    assert sample['inputs'].shape == (3, 30, 40)
    assert sample['data_samples'].gt_label == 0


@pytest.mark.parametrize(('prefix', 'says'), [('val', 'does not exist'), ('empty', 'no images')])
def test_missing_and_empty_folders_are_named(root, prefix, says):
    (root / 'empty').mkdir()
    with pytest.raises(DataError, match=says) as caught:
        ImageFolder(str(root), dict(img=prefix), pipeline=[])
    assert str(root / prefix) in str(caught.value)


def test_a_class_without_images_is_named(root):
    (root / 'train' / 'c').mkdir()
    with pytest.raises(DataError, match="c' holds no images"):
        ImageFolder(str(root), dict(img='train'), pipeline=[])


def test_every_kind_of_image_is_found(root):
    for suffix in images.SUFFIXES:
        (root / 'train' / 'a' / f'x{suffix.upper()}').touch()
    data = ImageFolder(str(root), dict(img='train'), pipeline=[])
    assert len(data) == 3 + len(images.SUFFIXES)


def test_hidden_folders_are_no_class(root):
    (root / 'train' / '.thumbnails').mkdir()
    data = ImageFolder(str(root), dict(img='train'), pipeline=[])
    assert data.metainfo['classes'] == ('a', 'b')


def apply(kind: str, image: np.ndarray, **settings) -> np.ndarray:
    transform = TRANSFORMS.build(dict(type=f'hrformer_mmpose.{kind}', **settings))
    return transform(dict(img=image))['img']


def test_the_crop_of_a_test_is_the_middle():
    image = np.zeros((60, 100, 3), np.uint8)
    image[10:50, 30:70] = 255
    cropped = apply('CenterCrop', image, size=40, share=40 / 60)
    assert cropped.shape == (40, 40, 3)
    assert (cropped == 255).all()


@pytest.mark.parametrize('shape', [(50, 80), (8, 200), (200, 5)])
def test_random_crops_have_the_size_whatever_the_image(shape):
    np.random.seed(0)
    image = np.random.randint(0, 255, (*shape, 3), np.uint8)
    for _ in range(20):
        assert apply('RandomResizedCrop', image, size=32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ('shape', 'box'), [((30, 600), (0, 280, 30, 40)), ((400, 30), (180, 0, 40, 30))]
)
def test_the_crop_of_a_very_long_image_is_its_middle(shape, box):
    """Where no random box fits: the largest of the allowed forms, 3:4 to 4:3."""
    crop = image_transforms.RandomResizedCrop(32, area=(0.9, 1.0))
    assert crop._box(*shape) == box


def test_the_ratio_of_a_random_crop_is_width_by_height():
    crop = image_transforms.RandomResizedCrop(32, area=(0.2, 0.3), ratio=(2.0, 2.0))
    for _ in range(10):
        top, left, height, width = crop._box(100, 100)
        assert width == pytest.approx(2 * height, abs=1)
        assert 0.19 < height * width / 100**2 < 0.31
        assert top + height <= 100
        assert left + width <= 100


def test_operations_of_strength_0_and_1():
    image = np.random.randint(0, 256, (20, 30, 3), np.uint8)
    _, _, _, rotate, posterize, *others = image_transforms._OPERATIONS
    for operation in (rotate, *others):
        assert np.array_equal(operation(image.copy(), 0.0), image)
        assert not np.array_equal(operation(image.copy(), 1.0), image)
    for strength, bits in ((0.0, 4), (0.5, 2), (1.0, 1)):
        assert len(np.unique(posterize(image, strength))) == 2**bits


@pytest.mark.parametrize(('magnitude', 'expected'), [(0, 0.0), (4, 0.4), (10, 1.0)])
def test_the_strength_is_a_tenth_of_the_magnitude(monkeypatch, magnitude, expected):
    strengths = []
    operations = [lambda image, m: strengths.append(m) or image]
    monkeypatch.setattr(image_transforms, '_OPERATIONS', operations)
    image = np.zeros((4, 4, 3), np.uint8)
    apply('RandAugment', image, magnitude=magnitude, spread=0, probability=1.0)
    assert strengths == [expected] * 2


@pytest.mark.parametrize('operation', image_transforms._OPERATIONS)
def test_every_operation_keeps_form_and_type(operation):
    np.random.seed(1)
    image = np.random.randint(0, 255, (20, 30, 3), np.uint8)
    for strength in (0.0, 0.5, 1.0):
        out = operation(image, strength)
        assert out.shape == image.shape
        assert out.dtype == np.uint8


def test_augmentation_changes_images_and_erasing_its_share():
    np.random.seed(2)
    image = np.random.randint(0, 255, (40, 40, 3), np.uint8)
    changed = [not np.array_equal(apply('RandAugment', image), image) for _ in range(20)]
    assert any(changed)
    flat = np.zeros((40, 40, 3), np.uint8)
    shares = [(apply('RandomErasing', flat, probability=1.0).any(2)).mean() for _ in range(20)]
    assert min(shares) > 0.01
    assert max(shares) < 0.4
    assert not flat.any()
    assert apply('RandomErasing', flat, probability=0.0) is flat


def test_accuracy_by_hand():
    metric = Accuracy(topk=(1, 2))
    for label, scores in ((0, [0.5, 0.3, 0.2]), (1, [0.5, 0.3, 0.2]), (2, [0.4, 0.4, 0.2])):
        metric.process({}, [dict(gt_label=label, pred_scores=torch.tensor(scores))])
    figures = metric.evaluate(3)
    assert figures['accuracy/top1'] == pytest.approx(100 / 3)
    assert figures['accuracy/top2'] == pytest.approx(200 / 3)
    metric.process({}, [dict(gt_label=0, pred_scores=torch.ones(3) / 3)])
    assert metric.evaluate(1)['accuracy/top1'] == 0
    for scores in ([np.nan] * 3, [np.nan, 1.0, 0.5]):
        metric.process({}, [dict(gt_label=0, pred_scores=torch.tensor(scores))])
        assert metric.evaluate(1)['accuracy/top2'] == 0
