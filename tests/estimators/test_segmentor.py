"""Testing at several scales, with the mirror image and in crops, against naive loops."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmpose')
from mmengine.structures import BaseDataElement
from torch import nn

from hrformer_mmpose.errors import ConfigError, UnknownArgumentError
from hrformer_mmpose.estimators.segmentation_test import (
    TestSettings,
    predict_logits,
    read_settings,
    slide,
)
from hrformer_mmpose.estimators.segmentor import Segmentor

K = 5


class Network(nn.Module):
    """A few convolutions, whose borders make a crop differ from the whole image."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 5, 2, 2), nn.Tanh(), nn.Conv2d(4, K, 3, 1, 1))

    def forward(self, x):
        return F.interpolate(self.layers(x), x.shape[2:], mode='bilinear', align_corners=True)


@pytest.fixture
def network():
    return Network().eval().requires_grad_(False)


@pytest.fixture
def image():
    return torch.randn(2, 3, 22, 31)


def resized(x, size):
    return F.interpolate(x, size, mode='bilinear', align_corners=True)


@pytest.mark.parametrize(
    ('crop', 'stride'), [((8, 12), (5, 12)), ((8, 40), (8, 7)), ((3, 9), (3, 9))]
)
def test_crops_cover_the_image_and_overlaps_are_averaged(network, image, crop, stride):
    total, count = torch.zeros(2, K, 22, 31), torch.zeros(22, 31)
    height, width = min(crop[0], 22), min(crop[1], 31)
    for top in [*range(0, 22 - height, stride[0]), 22 - height]:
        for left in [*range(0, 31 - width, stride[1]), 31 - width]:
            logits = network(image[:, :, top : top + height, left : left + width])
            for y in range(height):
                total[:, :, top + y, left : left + width] += logits[:, :, y]
                count[top + y, left : left + width] += 1
    assert count.min() > 0
    ours = slide(network, image, crop, stride)
    assert torch.allclose(ours, total / count, atol=1e-6)
    assert not torch.allclose(ours, network(image), atol=1e-2)


def test_the_last_crop_ends_at_the_border(network, image):
    """By hand: rows 0, 6, 12 and 14 of 22."""
    seen = []
    slide(lambda x: seen.append(x[0, 0, 0, 0].item()) or network(x), image, (8, 31), (6, 31))
    assert seen == [image[0, 0, row, 0].item() for row in (0, 6, 12, 14)]


def test_scales_and_mirror_images_are_averaged(network, image):
    """The authors' `ms_test`: sum of logits over scales, each with the mirror image's."""
    expected = torch.zeros(2, K, 22, 31)
    for size in ((16, 23), (22, 31), (27, 38)):  # 0.75, 1, 1.25, rounded down
        scaled = resized(image, size)
        expected += resized(network(scaled), (22, 31))
        expected += resized(network(scaled.flip(3)), (22, 31)).flip(3)
    ours = predict_logits(network, image, TestSettings(scales=(0.75, 1.0, 1.25), flip=True))
    assert torch.allclose(ours, expected / 6, atol=1e-6)
    for other in (dict(scales=(0.75, 1.0, 1.25)), dict(flip=True), {}):
        assert not torch.allclose(predict_logits(network, image, TestSettings(**other)), ours)


def test_crops_of_scaled_images(network, image):
    settings = TestSettings(scales=(2.0,), crop_size=(16, 16), stride=(8, 8))
    expected = slide(network, resized(image, (44, 62)), (16, 16), (8, 8))
    assert torch.allclose(predict_logits(network, image, settings), resized(expected, (22, 31)))


def test_padding_to_a_divisor_is_cut_off(network, image):
    expected = network(F.pad(image, (0, 1, 0, 2)))[:, :, :22, :31]
    assert torch.equal(predict_logits(network, image, TestSettings(size_divisor=8)), expected)


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(scale=(1,)), UnknownArgumentError, "unknown key 'scale'; known: scales, flip, crop"),
        (dict(scales=()), ConfigError, 'not numbers above 0'),
        (dict(scales=(1.0, 0.0)), ConfigError, 'not numbers above 0'),
        (dict(stride=(4, 4)), ConfigError, 'stride needs crop_size'),
        (dict(crop_size=(4, 4), stride=(5, 4)), ConfigError, 'leaves gaps'),
        (dict(crop_size=(0, 4)), ConfigError, 'from 1 on'),
        (dict(crop_size=(4, 4, 4)), ConfigError, 'from 1 on'),
        (dict(size_divisor=0), ConfigError, 'size_divisor=0 is below 1'),
    ],
)
def test_a_wrong_setting_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        read_settings(settings)


def segmentor(**test_cfg) -> Segmentor:
    channels = (4, 8, 8, 8)
    arch = dict(channels=channels, num_heads=(1, 2, 2, 2), num_modules=1, num_blocks=1)
    backbone = dict(type='hrformer_mmpose.HRFormer', arch=arch, multiscale_output=True)
    head = dict(
        type='hrformer_mmpose.SegmentationHead', in_channels=channels, num_classes=K, channels=8
    )
    return Segmentor(backbone, head, test_cfg=test_cfg).eval()


@torch.no_grad()
def test_a_batch_of_several_sizes_gives_the_masks_of_each_image():
    model = segmentor(flip=True)
    sizes = [(64, 72), (40, 56), (64, 33)]
    images = [torch.randn(3, *size) for size in sizes]
    batch = torch.stack([F.pad(x, (0, 72 - x.shape[2], 0, 64 - x.shape[1])) for x in images])
    samples = [
        BaseDataElement(metainfo=dict(img_shape=size, mask_shape=(size[0] * 2, size[1] + 3)))
        for size in sizes
    ]
    for sample, image in zip(model.predict(batch, samples), images, strict=True):
        logits = (model._logits(image[None]) + model._logits(image[None].flip(3)).flip(3)) / 2
        height, width = sample.metainfo['mask_shape']
        large = cv2.resize(
            logits[0].permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_CUBIC
        )  # the authors' last step
        assert np.mean(sample.pred_mask.numpy() == large.argmax(2)) > 0.999
        assert sample.pred_mask.shape == (height, width)
    alone = [BaseDataElement(), BaseDataElement()]
    model.predict(batch[:2], alone)  # without sizes: masks of the input's size
    assert torch.equal(
        alone[0].pred_mask, model.predict(batch[:1], [BaseDataElement()])[0].pred_mask
    )
    assert alone[1].pred_mask.shape == (64, 72)
