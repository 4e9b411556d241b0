"""Our head against MMPose's: losses, accuracy, predictions."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.structures import InstanceData, PixelData
from mmpose.evaluation.functional import pose_pck_accuracy
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.heads.heatmap_head import pck_accuracy


def heatmaps(count: int, flat: bool = False) -> torch.Tensor:
    """Maps (count, 17, 16, 12) with random maxima; with `flat`, some without positive values."""
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


def test_accuracy_of_displacements_of_some_pixels_is_mmposes():
    """On a large map, where MMPose's thresholds in x and y are three and two pixels."""
    output, target = (torch.zeros(9, 17, 64, 48) for _ in range(2))
    for b in range(9):
        for k in range(17):
            target[b, k, 30, 20] = output[b, k, 29 + b % 3, 20 + k % 9 - 4] = 1
    _, expected, _ = pose_pck_accuracy(output.numpy(), target.numpy(), np.ones((9, 17), bool))
    assert 0.1 < expected < 0.9
    assert float(pck_accuracy(output, target, torch.ones(9, 17).bool())) == pytest.approx(expected)


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


def test_parts_that_do_not_fit_are_named():
    cfg = dict(in_channels=18, out_channels=17, deconv_out_channels=None)
    head = MODELS.build(dict(type='hrformer_mmpose.HeatmapHead', **cfg))
    with pytest.raises(ConfigError, match='in_channels=18, but the backbone gives a map of 8 chan'):
        head.loss((torch.randn(2, 8, 16, 12),), samples(2))
    with pytest.raises(ConfigError, match=r'heatmaps of 17 x 8 x 6, but the codec .* 17 x 16 x 12'):
        head.loss((torch.randn(2, 18, 8, 6),), samples(2))


def test_losses_are_mmposes():
    cfg = dict(in_channels=18, out_channels=17, deconv_out_channels=None)
    ours = MODELS.build(dict(type='hrformer_mmpose.HeatmapHead', **cfg))
    theirs = MODELS.build(dict(type='mmpose.HeatmapHead', **cfg))
    theirs.load_state_dict(ours.state_dict())
    feats, batch = (torch.randn(4, 18, 16, 12),), samples(4)
    with torch.no_grad():
        maps = theirs.forward(feats)
    maps[:, ::2] = maps[:, ::2].roll(5, 3)  # half of the keypoints are right
    for sample, target in zip(batch, maps, strict=True):
        sample.gt_fields.heatmaps = target
        sample.gt_instance_labels.keypoint_weights[:, 1:3] = 0  # a wrong one and a right one
    batch[0].gt_instance_labels.keypoint_weights[:, 2] = 1
    a, b = (head.loss(feats, batch) for head in (ours, theirs))
    assert set(a) == set(b) == {'loss_kpt', 'acc_pose'}
    assert torch.equal(a['loss_kpt'], b['loss_kpt'])
    assert 0.2 < float(a['acc_pose']) < 0.8
    assert float(a['acc_pose']) == pytest.approx(float(b['acc_pose']))
    assert set(ours.loss(feats, batch, dict(compute_acc=False))) == {'loss_kpt'}


def bumps(*shape: int) -> torch.Tensor:
    """Maps (B, C, H, W) with one Gaussian each."""
    H, W = shape[2:]
    y, x = (torch.rand(*shape[:2], 1, 1) * (n - 8) + 4 for n in (H, W))
    return torch.exp(-((torch.arange(W) - x) ** 2 + (torch.arange(H)[:, None] - y) ** 2) / 8)


class Sample:
    metainfo = dict(flip_indices=[0, 2, 1, 4, 3])


@pytest.mark.parametrize(
    'codec',
    [
        dict(type='MSRAHeatmap', sigma=2),
        dict(type='MSRAHeatmap', sigma=2, unbiased=True),
        dict(type='UDPHeatmap'),
        dict(type='UDPHeatmap', heatmap_type='combined'),
    ],
    ids=['msra', 'dark', 'udp', 'combined'],
)
@pytest.mark.parametrize('flip', [False, True])
@torch.no_grad()
def test_predictions_are_mmposes(codec, flip):
    """MMPose's head takes the alignment of mirrored maps from `test_cfg`, ours from its codec."""
    codec = dict(codec, input_size=(96, 128), heatmap_size=(24, 32))
    combined = 'heatmap_type' in codec
    channels = 15 if combined else 5
    config = dict(in_channels=channels, out_channels=channels, deconv_out_channels=None)
    ours, theirs = (
        MODELS.build(
            dict(
                config,
                type=f'{scope}HeatmapHead',
                decoder=dict(codec, type=scope + codec['type']),
                _scope_='mmpose',
            )
        )
        for scope in ('hrformer_mmpose.', '')
    )
    # Each output is one input map plus a small share of the others.
    ours.final_layer.weight.copy_(torch.eye(channels)[..., None, None] + 0.02)
    theirs.load_state_dict(ours.state_dict())
    feats = [(bumps(3, channels, 32, 24),) for _ in range(2)]
    if flip:  # the mirror image shows the same person
        mirrored = feats[0][0].flip(3)
        groups = mirrored.view(3, 5, -1, 32, 24)[:, Sample.metainfo['flip_indices']]
        feats[1] = (groups.reshape(3, channels, 32, 24),)
    mode = 'udp_combined' if combined else 'heatmap'
    alignment = dict(flip_mode=mode, shift_heatmap=codec['type'] == 'MSRAHeatmap')
    test_cfg = dict(flip_test=flip, output_heatmaps=True)
    feats = feats if flip else feats[0]
    a, maps_a = ours.predict(feats, [Sample] * 3, test_cfg)
    b, maps_b = theirs.predict(feats, [Sample] * 3, dict(test_cfg, **alignment))
    for one, other, map_a, map_b in zip(a, b, maps_a, maps_b, strict=True):
        assert torch.equal(map_a.heatmaps, map_b.heatmaps)
        assert one.keypoints.shape == other.keypoints.shape == (1, 5, 2)
        assert abs(one.keypoints - other.keypoints).max() < 2e-3
        assert abs(one.keypoint_scores - other.keypoint_scores).max() < 1e-5


def test_the_user_may_align_otherwise():
    codec = dict(type='hrformer_mmpose.UDPHeatmap', input_size=(96, 128), heatmap_size=(24, 32))
    head = MODELS.build(
        dict(
            type='hrformer_mmpose.HeatmapHead',
            in_channels=4,
            out_channels=5,
            deconv_out_channels=None,
            decoder=codec,
            _scope_='mmpose',
        )
    )
    feats = [(torch.randn(1, 4, 32, 24),) for _ in range(2)]
    results = [
        head.predict(feats, [Sample], dict(flip_test=True, output_heatmaps=True, **more))[1]
        for more in ({}, dict(shift_heatmap=False), dict(shift_heatmap=True))
    ]
    maps = [result[0].heatmaps for result in results]
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])
