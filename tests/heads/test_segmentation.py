"""The segmentation head, its data set and its metric."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hrformer_mmpose.errors import DataError
from hrformer_mmpose.heads.segmentation import SegmentationHead, resize

IGNORED = 255  # default of `ignore_index`


@pytest.fixture
def head():
    return SegmentationHead((4, 6), num_classes=3, channels=5).eval()


MAPS = [torch.rand(2, 4, 8, 10), torch.rand(2, 6, 4, 5)]


@torch.no_grad()
def test_lower_maps_are_enlarged_and_concatenated(head):
    large = F.interpolate(MAPS[1], (8, 10), mode='bilinear', align_corners=True)
    expected = head.classifier(head.merge(torch.cat([MAPS[0], large], 1)))
    assert torch.allclose(head(MAPS), expected)
    assert not torch.allclose(resize(MAPS[1], (8, 10), align_corners=False), large)
    head.align_corners = False
    assert not torch.allclose(head(MAPS), expected)


@torch.no_grad()
def test_ignored_pixels_do_not_count(head):
    target = torch.zeros(2, 8, 10, dtype=torch.long)
    target[:, 4:] = IGNORED
    logits = head(MAPS).log_softmax(1)
    expected = -logits[:, 0, :4].mean()
    assert torch.allclose(head.loss(MAPS, target)['loss_seg'], expected)


@torch.no_grad()
def test_an_image_without_valid_pixels_has_no_loss(head):
    """Not NaN, which would stop the training; crops of background have no valid pixels."""
    target = torch.full((2, 8, 10), IGNORED)
    assert head.loss(MAPS, target)['loss_seg'] == 0


def test_iou_by_hand():
    pytest.importorskip('mmpose')
    from hrformer_mmpose.evaluation.iou import IoU

    metric = IoU()
    metric.dataset_meta = dict(classes=('none', 'person', 'never'))
    true = torch.tensor([[0, 0, 1], [1, 1, IGNORED]])
    predicted = torch.tensor([[0, 1, 1], [1, 0, 2]])
    metric.process({}, [dict(gt_mask=true[:1], pred_mask=predicted[:1])])
    metric.process({}, [dict(gt_mask=true[1:], pred_mask=predicted[1:])])
    assert len(metric.results) == 1  # not a matrix for each image
    assert metric.evaluate(1) == pytest.approx(
        {'seg/none': 100 / 3, 'seg/person': 50.0, 'seg/mIoU': (100 / 3 + 50) / 2}
    )


class TestData:
    @pytest.fixture
    def root(self, tmp_path):
        pytest.importorskip('mmpose')
        for folder, suffix in (('img', 'png'), ('mask', 'png')):
            (tmp_path / folder).mkdir()
            image = np.zeros((8, 10), np.uint8)
            image[:, :5] = 1
            cv2.imwrite(str(tmp_path / folder / f'a.{suffix}'), image)
        return tmp_path

    def build(self, root):
        from hrformer_mmpose.datasets.mask_folder import MaskFolder

        return MaskFolder(str(root), dict(img='img', mask='mask'), pipeline=[])

    def test_image_and_mask_belong_together(self, root):
        from hrformer_mmpose.registry import TRANSFORMS

        info = self.build(root).get_data_info(0)
        info['img'] = cv2.imread(info['img_path'])
        loaded = TRANSFORMS.build(dict(type='hrformer_mmpose.LoadMask', size=(4, 6), flip=1.0))(
            info
        )
        assert np.array_equal(loaded['img'][..., 0], loaded['mask'])
        assert loaded['mask'].tolist() == [[0, 0, 0, 1, 1, 1]] * 4
        packed = TRANSFORMS.build(dict(type='hrformer_mmpose.PackMask'))(loaded)
        assert packed['data_samples'].gt_mask.dtype is torch.long

    def test_a_missing_mask_is_named(self, root):
        (root / 'mask' / 'a.png').unlink()
        with pytest.raises(DataError, match='has no mask'):
            self.build(root)

    def test_a_missing_folder_is_named(self, tmp_path):
        pytest.importorskip('mmpose')
        with pytest.raises(DataError, match='does not exist'):
            self.build(tmp_path)

    def test_a_mask_of_another_size_is_named(self, root):
        from hrformer_mmpose.registry import TRANSFORMS

        info = self.build(root).get_data_info(0)
        info['img'] = np.zeros((9, 10, 3), np.uint8)
        with pytest.raises(DataError, match='its image'):
            TRANSFORMS.build(dict(type='hrformer_mmpose.LoadMask', size=(4, 6)))(info)

    def test_a_number_that_is_no_class_is_named(self, root):
        from hrformer_mmpose.registry import TRANSFORMS

        info = self.build(root).get_data_info(0)
        info['img'] = np.zeros((8, 10, 3), np.uint8)
        load = TRANSFORMS.build(dict(type='hrformer_mmpose.LoadMask', size=(4, 6)))
        load(dict(info))
        cv2.imwrite(info['mask_path'], np.full((8, 10), IGNORED, np.uint8))
        load(dict(info))
        cv2.imwrite(info['mask_path'], np.full((8, 10), 2, np.uint8))
        with pytest.raises(DataError, match='holds 2, classes are 0 to 1'):
            load(dict(info))
