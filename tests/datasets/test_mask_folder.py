"""Segmentation data: the layouts of the published sets, labels, augmentation."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmpose')
from hrformer_mmpose.datasets.label_sets import LABEL_SETS
from hrformer_mmpose.datasets.mask_folder import LoadMask, MaskFolder, PackMask
from hrformer_mmpose.datasets.mask_transforms import (
    RandomBrightness,
    RandomScaleCrop,
    ResizeShorterSide,
)
from hrformer_mmpose.datasets.masks import read_mask
from hrformer_mmpose.errors import ConfigError, DataError
from tests.datasets import segmentation_data as sets

IGNORED = 255
TRAIN_IDS = dict(
    classes='cityscapes_train_ids',
    data_prefix=dict(img='leftImg8bit/val', mask='gtFine/val'),
    img_suffix='_leftImg8bit.png',
    mask_suffix='_gtFine_labelTrainIds.png',
)
VOC = dict(
    data_prefix=dict(img='JPEGImages', mask='SegmentationClassContext'),
    img_suffix='.jpg',
    ann_file='ImageSets/SegmentationContext/val.txt',
)
COCO_10K = dict(
    classes='coco_stuff_10k',
    data_prefix=dict(img='images', mask='annotations'),
    img_suffix='.jpg',
    mask_suffix='.mat',
    ann_file='imageLists/test.txt',
)
AUTHORS = dict(img='val/image', mask='val/label')
# A function that writes the set; arguments; pixel value -> class, by hand from the sets' tables.
LAYOUTS = {
    'cityscapes': (
        sets.cityscapes,
        dict(TRAIN_IDS, classes='cityscapes', mask_suffix='_gtFine_labelIds.png'),
        {7: 'road', 33: 'bicycle', 11: 'building', 0: None, 4: None, 255: None},
    ),
    'cityscapes_train_ids': (
        sets.cityscapes,
        TRAIN_IDS,
        {0: 'road', 18: 'bicycle', 2: 'building', 255: None},
    ),
    'pascal_context': (
        sets.pascal_context,
        dict(VOC, classes='pascal_context'),
        {0: None, 1: 'aeroplane', 59: 'wood', 7: 'bird'},
    ),
    'pascal_context_60': (
        sets.pascal_context,
        dict(VOC, classes='pascal_context_60'),
        {0: 'background', 1: 'aeroplane', 59: 'wood', 7: 'bird'},
    ),
    'coco_stuff_10k': (
        sets.coco_stuff_10k,
        COCO_10K,
        {0: None, 1: 'person', 182: 'wood', 13: 'stop sign'},
    ),
    'coco_stuff_164k': (
        sets.coco_stuff_164k,
        dict(
            classes='coco_stuff_164k',
            data_prefix=dict(img='val2017', mask='stuffthingmaps/val2017'),
            img_suffix='.jpg',
        ),
        {0: 'person', 181: 'wood', 12: 'stop sign', 255: None},
    ),
}


def build(root, **settings) -> MaskFolder:
    return MaskFolder(data_root=str(root), pipeline=[], **settings)


def loaded(data: MaskFolder, index: int, transform=None) -> dict:
    info = data.get_data_info(index)
    info['img'] = cv2.imread(info['img_path'])
    return (transform or LoadMask())(info)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_published_layout(layout, tmp_path):
    write, settings, classes = LAYOUTS[layout]
    data = build(write(tmp_path), **settings)
    assert len(data) == 2
    names = data.metainfo['classes']
    for index in range(2):
        sample = loaded(data, index)
        raw = read_mask(sample['mask_path'])
        assert set(np.unique(raw)) == set(classes)
        for value, name in classes.items():
            expected = IGNORED if name is None else names.index(name)
            assert set(sample['mask'][raw == value]) == {expected}
        assert sample['img'].shape[:2] == sample['mask'].shape


@pytest.mark.parametrize('labels', ['cityscapes', 'pascal_context', 'coco_stuff_10k'])
def test_the_layout_that_the_authors_scripts_make(labels, tmp_path):
    data = build(sets.prepared(tmp_path, labels), classes=labels, data_prefix=AUTHORS)
    assert len(data) == 2
    assert IGNORED in loaded(data, 0)['mask']


def test_numbers_of_classes():
    counts = {name: len(labels.classes) for name, labels in LABEL_SETS.items()}
    assert counts == dict(
        cityscapes=19,
        cityscapes_train_ids=19,
        pascal_context=59,
        pascal_context_60=60,
        coco_stuff_10k=171,
        coco_stuff_164k=171,
    )
    for labels in LABEL_SETS.values():
        assert len(set(labels.classes)) == len(labels.values) == len(set(labels.values))
        assert not {*labels.values} & {*labels.ignored}


def test_subfolders_and_a_mask_of_its_own(tmp_path):
    for name in ('a', 'deep/b'):
        for folder, suffix in (('img', 'JPG'), ('mask', 'png')):
            path = tmp_path / folder / f'{name}.{suffix}'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.ones((8, 10), np.uint8))
    data = build(tmp_path, data_prefix=dict(img='img', mask='mask'))
    names = [data.get_data_info(i)['mask_path'] for i in range(len(data))]
    assert names == [str(tmp_path / 'mask' / name) for name in ('a.png', 'deep/b.png')]


@pytest.mark.parametrize(
    ('damage', 'settings', 'message'),
    [
        ('gtFine/val', TRAIN_IDS, r"folder '.*gtFine/val' does not exist"),
        (None, dict(TRAIN_IDS, img_suffix='_rightImg8bit.png'), r"holds no '\*_rightImg8bit.png'"),
        (None, dict(TRAIN_IDS, mask_suffix='.png'), r"has no mask '.*lindau_000000_000019.png'"),
        (None, dict(TRAIN_IDS, classes='citiscapes'), "'citiscapes' is not one of cityscapes, "),
        (None, dict(TRAIN_IDS, classes=()), '0 classes, not 1 to 255'),
        (None, dict(TRAIN_IDS, ann_file='val.txt'), r"list '.*val.txt' cannot be read: No such"),
        (None, dict(TRAIN_IDS, ann_file='x', img_suffix=''), "ann_file='x' needs img_suffix"),
    ],
)
def test_a_wrong_layout_is_one_line(damage, settings, message, tmp_path):
    sets.cityscapes(tmp_path)
    if damage:
        (tmp_path / damage).rename(tmp_path / 'elsewhere')
    with pytest.raises((ConfigError, DataError), match=message) as error:
        build(tmp_path, **settings)
    assert '\n' not in str(error.value)


def test_images_that_a_list_names_and_the_folder_lacks(tmp_path):
    sets.pascal_context(tmp_path)
    (tmp_path / 'JPEGImages/2008_000005.jpg').unlink()
    with pytest.raises(DataError, match=r"2008_000005.jpg', which does not exist \(1 of 2 images"):
        build(tmp_path, classes='pascal_context', **VOC)
    (tmp_path / VOC['ann_file']).write_text('\n')
    with pytest.raises(DataError, match=r"val.txt' holds no '\*.jpg'"):
        build(tmp_path, classes='pascal_context', **VOC)


@pytest.mark.parametrize(
    ('layout', 'value', 'known'),
    [
        ('cityscapes', 34, '0-33, 255'),
        ('cityscapes_train_ids', 19, '0-18, 255'),
        ('pascal_context', 60, '0-59, 255'),
        ('coco_stuff_164k', 11, '0-10, 12-24, 26-27, 30-43, '),
    ],
)
def test_an_unknown_label_is_named(layout, value, known, tmp_path):
    write, settings, _ = LAYOUTS[layout]
    data = build(write(tmp_path), **settings)
    path = data.get_data_info(0)['mask_path']
    mask = read_mask(path).copy()
    mask[3, 4] = value
    cv2.imwrite(path, mask)
    message = f'holds {value}, which is no label of {layout}: they are {known}'
    with pytest.raises(DataError, match=message):
        loaded(data, 0)


def test_broken_masks_are_named(tmp_path):
    data = build(sets.coco_stuff_10k(tmp_path), **COCO_10K)
    path = tmp_path / 'annotations/COCO_train2014_000000000004.mat'
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"mask '.*4.mat' cannot be read"):
        loaded(data, 0)
    path.unlink()
    with pytest.raises(DataError, match='does not exist'):
        loaded(data, 0)


@pytest.mark.parametrize('mode', ['RGB', '1', 'I;16'])
def test_a_mask_that_is_no_map_of_numbers_is_named(mode, tmp_path):
    Image.new(mode, (4, 4)).save(tmp_path / 'mask.png')
    with pytest.raises(DataError, match=f'has the mode {mode}: a pixel must be one number'):
        read_mask(tmp_path / 'mask.png')


def test_the_colours_of_a_palette_do_not_matter(tmp_path):
    """VOC's masks are palette images; decoded as grey they are other numbers."""
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(values, 'P')
    image.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    image.save(tmp_path / 'mask.png')
    assert np.array_equal(read_mask(tmp_path / 'mask.png'), values)
    assert not np.array_equal(cv2.imread(str(tmp_path / 'mask.png'), cv2.IMREAD_GRAYSCALE), values)


class TestTransforms:
    """Image and mask hold the same numbers, so that they can be compared after a transform."""

    @pytest.fixture
    def sample(self):
        mask = np.kron(np.arange(12, dtype=np.uint8).reshape(3, 4), np.ones((10, 10), np.uint8))
        return dict(img=np.repeat(mask[..., None], 3, 2) * 10 + 50, mask=mask, img_path='a')

    def agree(self, image: np.ndarray, mask: np.ndarray) -> float:
        return float(np.mean(abs(image[..., 0] - (mask * 10.0 + 50)) < 2))

    def test_crops_and_flips_of_both_belong_together(self, sample):
        np.random.seed(0)
        shapes, flips, crops = set(), 0, set()
        for _ in range(60):
            result = RandomScaleCrop((24, 28), pad_value=(1, 2, 3))(dict(sample))
            image, mask = result['img'], result['mask']
            assert image.shape == (24, 28, 3)
            assert mask.shape == (24, 28)
            inside = mask != IGNORED
            assert (image[~inside] == (1, 2, 3)).all()
            rows, columns = inside.any(1), inside.any(0)
            assert np.array_equal(inside, rows[:, None] & columns)
            assert self.agree(image[inside][:, None], mask[inside][:, None]) > 0.5
            row = mask[rows][0][columns]
            flips += int(row[0]) > int(row[-1])
            shapes.add((int(rows.sum()), int(columns.sum())))
            crops.add(mask.tobytes())
        assert 20 < flips < 40
        assert len(shapes) > 5
        assert len(crops) > 50
        assert max(shapes) == (24, 28)
        assert min(shapes)[0] <= 18  # 30 rows by at least 0.5, padded

    def test_without_chance_it_is_the_image_itself(self, sample):
        same = RandomScaleCrop((30, 40), (1.0, 1.0), (1.0, 1.0), flip=0.0)(dict(sample))
        assert np.array_equal(same['img'], sample['img'])
        assert np.array_equal(same['mask'], sample['mask'])
        flipped = RandomScaleCrop((30, 40), (1.0, 1.0), (1.0, 1.0), flip=1.0)(dict(sample))
        assert np.array_equal(flipped['img'], sample['img'][:, ::-1])

    def test_the_aspect_changes_and_the_area_does_not(self, sample):
        sizes = []
        np.random.seed(0)
        for _ in range(200):
            result = RandomScaleCrop((60, 80), (1.0, 1.0), (0.9, 1.1))(dict(sample))
            inside = result['mask'] != IGNORED
            sizes.append((inside.any(1).sum(), inside.any(0).sum()))
        sizes = np.array(sizes)
        aspect = sizes[:, 1] / sizes[:, 0] / (40 / 30)
        assert 0.85 < aspect.min() < 0.93
        assert 1.07 < aspect.max() < 1.15
        assert np.allclose(sizes.prod(1), 1200, rtol=0.06)

    def test_the_aspect_is_width_by_height(self, sample):
        result = RandomScaleCrop((60, 80), (1.0, 1.0), (1.44, 1.44))(dict(sample))
        inside = result['mask'] != IGNORED
        assert (inside.any(1).sum(), inside.any(0).sum()) == (25, 48)

    def test_a_small_image_is_padded_on_all_sides(self, sample):
        crop = RandomScaleCrop((60, 80), (1.0, 1.0), (1.0, 1.0))
        inside = [crop(dict(sample))['mask'] != IGNORED for _ in range(60)]
        tops = {int(mask.any(1).argmax()) for mask in inside}
        lefts = {int(mask.any(0).argmax()) for mask in inside}
        assert min(len(tops), len(lefts)) > 15
        assert max(tops) <= 30
        assert max(lefts) <= 40
        assert all(mask.sum() == 1200 for mask in inside)

    @pytest.mark.parametrize(
        'settings',
        [dict(size=(4,)), dict(size=(0, 4)), dict(scale=(2.0, 1.0)), dict(aspect=(0.0, 1.0))],
    )
    def test_a_wrong_range_is_named(self, settings):
        with pytest.raises(ConfigError, match=f'RandomScaleCrop: {next(iter(settings))}='):
            RandomScaleCrop(**{'size': (4, 4), **settings})

    def test_the_shorter_side(self, sample):
        both = ResizeShorterSide(15)(dict(sample))
        assert both['img'].shape == (15, 20, 3)
        assert both['mask'].shape == (15, 20)
        assert self.agree(both['img'], both['mask']) > 0.5
        image = ResizeShorterSide(60, with_mask=False)(dict(sample))
        assert image['img'].shape == (60, 80, 3)
        assert image['mask'].shape == (30, 40)
        packed = PackMask()(image)['data_samples']
        assert packed.metainfo['img_shape'] == (60, 80)
        assert packed.metainfo['mask_shape'] == (30, 40)
        assert packed.gt_mask.dtype is torch.long

    def test_brightness_shifts_all_values_alike_and_ends_at_the_limits(self):
        np.random.seed(0)
        image = np.full((2, 2, 3), (0, 100, 255), np.uint8)
        image.setflags(write=False)  # as `LoadImage` gives it
        shifts = set()
        for _ in range(300):
            result = RandomBrightness(10)(dict(img=image))['img']
            shift = int(result[0, 0, 1]) - 100
            assert result[0, 0].tolist() == [max(shift, 0), 100 + shift, min(255 + shift, 255)]
            shifts.add(shift)
        assert shifts == set(range(-10, 11))


class TestOwnData:
    @pytest.fixture
    def root(self, tmp_path):
        for folder, suffix in (('img', 'png'), ('mask', 'png')):
            (tmp_path / folder).mkdir()
            image = np.zeros((8, 10), np.uint8)
            image[:, :5] = 1
            cv2.imwrite(str(tmp_path / folder / f'a.{suffix}'), image)
        return tmp_path

    def build(self, root):
        return build(root, data_prefix=dict(img='img', mask='mask'))

    def test_image_and_mask_belong_together(self, root):
        info = self.build(root).get_data_info(0)
        info['img'] = cv2.imread(info['img_path'])
        loaded = LoadMask(size=(4, 6), flip=1.0)(info)
        assert np.array_equal(loaded['img'][..., 0], loaded['mask'])
        assert loaded['mask'].tolist() == [[0, 0, 0, 1, 1, 1]] * 4
        packed = PackMask()(loaded)
        assert packed['data_samples'].gt_mask.dtype is torch.long

    def test_a_missing_mask_is_named(self, root):
        (root / 'mask' / 'a.png').unlink()
        with pytest.raises(DataError, match='has no mask'):
            self.build(root)

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(DataError, match='does not exist'):
            self.build(tmp_path)

    def test_a_mask_of_another_size_is_named(self, root):
        info = self.build(root).get_data_info(0)
        info['img'] = np.zeros((9, 10, 3), np.uint8)
        with pytest.raises(DataError, match='its image'):
            LoadMask(size=(4, 6))(info)

    def test_a_number_that_is_no_class_is_named(self, root):
        info = self.build(root).get_data_info(0)
        info['img'] = np.zeros((8, 10, 3), np.uint8)
        load = LoadMask(size=(4, 6))
        load(dict(info))
        cv2.imwrite(info['mask_path'], np.full((8, 10), IGNORED, np.uint8))
        load(dict(info))
        cv2.imwrite(info['mask_path'], np.full((8, 10), 2, np.uint8))
        with pytest.raises(
            DataError, match='holds 2, which is no label of the classes: they are 0-1, 255'
        ):
            load(dict(info))
