"""Our head against MMPose's: losses, accuracy, gradients."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.structures import InstanceData, PixelData
from mmpose.evaluation.functional import pose_pck_accuracy
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from hrformer_mmpose.heads.heatmap_head import pck_accuracy


def heatmaps(count: int, flat: bool = False) -> torch.Tensor:
    """(count, 17, 16, 12), peaked at random pixels; with `flat` some maps without a positive."""
    maps = 0.1 * torch.randn(count, 17, 16, 12)
    index = torch.randint(0, 16 * 12, (count, 17, 1))
    maps.flatten(2).scatter_(2, index, 5.0)
    if flat:
        maps[:, ::4] = -1.0
        maps[:, 1::4] = 0.0
    return maps


@pytest.mark.parametrize('flat', [False, True])
def test_accuracy_is_mmposes(flat):
    target = heatmaps(6)
    output = torch.where(torch.rand(6, 17, 1, 1) < 0.5, target, heatmaps(6, flat))
    visible = torch.rand(6, 17) < 0.7
    visible[:, 3] = False
    _, expected, _ = pose_pck_accuracy(output.numpy(), target.numpy(), visible.numpy())
    assert 0.2 < expected < 0.8
    assert float(pck_accuracy(output, target, visible)) == pytest.approx(expected, abs=1e-6)


def test_accuracy_without_visible_keypoints_is_zero():
    assert float(pck_accuracy(heatmaps(2), heatmaps(2), torch.zeros(2, 17).bool())) == 0


def samples(count: int) -> list:
    return [
        PoseDataSample(
            gt_instance_labels=InstanceData(keypoint_weights=(torch.rand(1, 17) < 0.8).float()),
            gt_fields=PixelData(heatmaps=heatmaps(1)[0]),
        )
        for _ in range(count)
    ]


def test_losses_are_mmposes():
    cfg = dict(in_channels=18, out_channels=17, deconv_out_channels=None)
    ours = MODELS.build(dict(type='hrformer_mmpose.HeatmapHead', **cfg))
    theirs = MODELS.build(dict(type='mmpose.HeatmapHead', **cfg))
    theirs.load_state_dict(ours.state_dict())
    feats, batch = (torch.randn(4, 18, 16, 12),), samples(4)
    a, b = (head.loss(feats, batch) for head in (ours, theirs))
    assert set(a) == set(b) == {'loss_kpt', 'acc_pose'}
    assert torch.equal(a['loss_kpt'], b['loss_kpt'])
    assert float(a['acc_pose']) == pytest.approx(float(b['acc_pose']))
    assert set(ours.loss(feats, batch, dict(compute_acc=False))) == {'loss_kpt'}
