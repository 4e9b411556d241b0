"""The classification head and the classifier around it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hrformer_mmpose.arch import stages_from_arch
from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.checkpoint import load_pretrained
from hrformer_mmpose.checkpoint.state_dict_adapter import (
    num_keypoints,
    origin,
    to_mmpose,
    to_official,
)
from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.heads.classification import ClassificationHead


@pytest.mark.parametrize(
    ('arch', 'millions'), [('tiny', 8.036), ('small', 13.545), ('base', 50.32)]
)
def test_parameters_are_the_published_number(arch, millions):
    networks = (
        HRFormer(arch=arch, multiscale_output=True),
        ClassificationHead(stages_from_arch(arch)[-1].channels),
    )
    counted = sum(p.numel() for network in networks for p in network.parameters())
    assert round(counted / 1e6, 3) == millions


def test_names_go_to_the_authors_and_back():
    state = {f'backbone.{k}': v for k, v in HRFormer(arch='tiny').state_dict().items()}
    head = ClassificationHead((18, 36, 72, 144), num_classes=3)
    state |= {f'head.{k}': v for k, v in head.state_dict().items()}
    theirs = to_official(state)
    assert 'classifier.weight' in theirs
    assert 'final_layer.0.weight' in theirs
    assert not any(key.startswith(('backbone.', 'head.', 'keypoint_head.')) for key in theirs)
    assert origin(theirs) == 'official-classification'
    assert num_keypoints(theirs) is num_keypoints(state) is None
    back = to_mmpose(theirs)
    assert {k.removeprefix('backbone.') for k in state} == set(back)
    assert torch.equal(back['head.final_layer.0.weight'], state['head.final_layer.0.weight'])


def test_a_classifiers_file_starts_a_pose_backbone(tmp_path):
    source = HRFormer(arch='tiny', multiscale_output=True, align_corners=True)
    head = ClassificationHead((18, 36, 72, 144), num_classes=3)
    state = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    state |= {f'head.{k}': v for k, v in head.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'classifier.pth')
    target = HRFormer(arch='tiny')
    result = load_pretrained(target, tmp_path / 'classifier.pth')
    assert 'keypoints' not in result.lines[0]
    assert len(result.lines) == 4  # nothing initialised anew
    expected = source.state_dict()
    for key, value in target.state_dict().items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize('settings', [dict(in_channels=(8, 8)), dict(label_smooth=1.0)])
def test_values_that_do_not_fit(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ClassificationHead(**{**dict(in_channels=(8, 8, 8, 8)), **settings})


def test_losses():
    head = ClassificationHead((4, 4, 4, 4), num_classes=3).eval()
    maps = [torch.rand(2, 4, 16 // 2**i, 16 // 2**i) for i in range(4)]
    with torch.no_grad():
        logits = head(maps)
        plain = head.loss(maps, torch.tensor([0, 2]))
        shares = head.loss(maps, torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]))
    by_hand = -(logits.log_softmax(1)[0, 0] + logits.log_softmax(1)[1, 2]) / 2
    assert torch.allclose(plain['loss_cls'], by_hand)
    assert torch.allclose(shares['loss_cls'], by_hand)


@torch.no_grad()
def test_label_smoothing():
    head = ClassificationHead((4, 4, 4, 4), num_classes=3, label_smooth=0.1).eval()
    maps = [torch.rand(2, 4, 16 // 2**i, 16 // 2**i) for i in range(4)]
    target = torch.tensor([0, 2])
    head.classifier.weight.mul_(100)  # logits that differ
    logits = head(maps)
    expected = F.cross_entropy(logits, target, label_smoothing=0.1)
    assert torch.allclose(head.loss(maps, target)['loss_cls'], expected)
    assert not torch.allclose(F.cross_entropy(logits, target), expected)


class TestMixing:
    @pytest.fixture
    def classifier(self):
        pytest.importorskip('mmpose')
        from hrformer_mmpose.registry import MODELS

        def build(**alphas):
            return MODELS.build(
                dict(
                    type='hrformer_mmpose.ImageClassifier',
                    backbone=dict(
                        type='hrformer_mmpose.HRFormer', arch='tiny', multiscale_output=True
                    ),
                    head=dict(
                        type='hrformer_mmpose.ClassificationHead',
                        in_channels=(18, 36, 72, 144),
                        num_classes=4,
                    ),
                    **alphas,
                )
            )

        return build

    # All pixels of image i have the value i, which identifies their origin after mixing.
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 10, 12)
    labels = torch.arange(4)

    def test_without_alphas_nothing_changes(self, classifier):
        images, labels = classifier()._mix(self.images, self.labels)
        assert images is self.images
        assert labels is self.labels

    def test_targets_of_mixup_are_the_shares_of_the_images(self, classifier):
        images, target = classifier(mixup=0.8)._mix(self.images, self.labels)
        expected = (target * torch.arange(4.0)).sum(1)
        assert torch.allclose(images.mean((1, 2, 3)), expected, atol=1e-5)
        assert torch.allclose(target.sum(1), torch.ones(4))

    def test_targets_of_cutmix_are_the_shares_of_the_areas(self, classifier):
        mixed = 0
        for _ in range(5):
            images, target = classifier(cutmix=1.0)._mix(self.images, self.labels)
            for image, shares in zip(images, target, strict=True):
                counted = torch.stack([(image[0] == i).float().mean() for i in range(4)])
                assert torch.allclose(counted, shares, atol=1e-5)
                mixed += int((shares > 0).sum() > 1)
        assert mixed
        assert torch.equal(self.images[:, 0, 0, 0], torch.arange(4.0))  # the batch is as it was

    @pytest.mark.parametrize('area', [0.04, 0.25])
    def test_the_box_of_cutmix_has_the_drawn_area(self, monkeypatch, area):
        classifier = pytest.importorskip('hrformer_mmpose.estimators.classifier')
        monkeypatch.setattr(np.random, 'uniform', lambda low, high: (low + high) / 2)
        top, bottom, left, right = classifier._box(1000, 500, area)
        assert (bottom - top) * (right - left) == pytest.approx(area * 1000 * 500, rel=0.01)
        assert (bottom - top) == pytest.approx(2 * (right - left), abs=2)
