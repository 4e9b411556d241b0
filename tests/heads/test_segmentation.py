"""The segmentation head and its metric."""

import pytest
import torch
import torch.nn.functional as F

from hrformer_mmpose.heads.segmentation import SegmentationHead, resize

IGNORED = 255  # default of `ignore_index`


@pytest.fixture
def head():
    return SegmentationHead((4, 6), num_classes=3, channels=5).eval()


@pytest.fixture
def maps():
    return [torch.rand(2, 4, 8, 10), torch.rand(2, 6, 4, 5)]


@torch.no_grad()
def test_lower_maps_are_enlarged_and_concatenated(head, maps):
    large = F.interpolate(maps[1], (8, 10), mode='bilinear', align_corners=True)
    expected = head.classifier(head.merge(torch.cat([maps[0], large], 1)))
    assert torch.allclose(head(maps), expected)
    assert not torch.allclose(resize(maps[1], (8, 10), align_corners=False), large)
    head.align_corners = False
    assert not torch.allclose(head(maps), expected)


@torch.no_grad()
def test_ignored_pixels_do_not_count(head, maps):
    target = torch.zeros(2, 8, 10, dtype=torch.long)
    target[:, 4:] = IGNORED
    logits = head(maps).log_softmax(1)
    expected = -logits[:, 0, :4].mean()
    assert torch.allclose(head.loss(maps, target)['loss_seg'], expected)


@torch.no_grad()
def test_an_image_without_valid_pixels_has_no_loss(head, maps):
    """Not NaN, which would stop the training; crops of background have no valid pixels."""
    target = torch.full((2, 8, 10), IGNORED)
    assert head.loss(maps, target)['loss_seg'] == 0


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
