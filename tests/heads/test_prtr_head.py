"""PRTR's head and neck: settings, training, files to start from. Parity: test_prtr_parity.py."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.structures import InstanceData
from mmpose.evaluation.functional import keypoint_pck_accuracy
from mmpose.models.utils.tta import flip_coordinates
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from hrformer_mmpose.backbones.trunks import HRNet, ResNet
from hrformer_mmpose.errors import ConfigError, WeightsError
from hrformer_mmpose.heads.flip_test import flip_back_coordinates
from hrformer_mmpose.heads.fuse_scales import HRFuseScales
from hrformer_mmpose.heads.prtr_head import PRTRHead
from hrformer_mmpose.zoo import read_config

SMALL = dict(
    in_channels=6, num_joints=5, num_queries=8, channels=16, num_heads=2, ffn_channels=24,
    num_layers=(1, 2),
    decoder=dict(type='hrformer_mmpose.CoordinateLabel', input_size=(48, 64)),
)  # fmt: skip


def samples(count: int) -> list[PoseDataSample]:
    return [
        PoseDataSample(
            gt_instance_labels=InstanceData(
                keypoint_labels=torch.rand(1, 5, 2),
                keypoint_weights=(torch.rand(1, 5) < 0.7).float(),
            )
        )
        for _ in range(count)
    ]


def test_too_few_queries_are_refused():
    with pytest.raises(ConfigError, match=r'head.num_queries=4: 5 keypoints need at least 5 queri'):
        PRTRHead(**{**SMALL, 'num_queries': 4})
    with pytest.raises(ConfigError, match='channels=18 must be a multiple of num_heads=4 and of 4'):
        PRTRHead(**{**SMALL, 'channels': 18, 'num_heads': 4})


def test_a_backbone_of_other_channels_is_named():
    with pytest.raises(ConfigError, match=r'in_channels=6, but backbone and neck give .* 7 channe'):
        PRTRHead(**SMALL).loss((torch.rand(2, 7, 4, 3),), samples(2))


def test_keypoints_without_a_label_do_not_move_coordinates():
    """They have a class, as in the authors' code."""
    head, batch = PRTRHead(**SMALL), samples(2)
    for sample in batch:
        sample.gt_instance_labels.keypoint_weights.zero_()
    losses = head.loss((torch.rand(2, 6, 4, 3),), batch)
    assert {key for key, value in losses.items() if value == 0} == {
        'loss_kpt', 'd0.loss_kpt', 'acc_pose',
    }  # fmt: skip


def test_the_loss_of_a_diverged_network_is_nan():
    losses = PRTRHead(**SMALL).loss((torch.full((2, 6, 4, 3), torch.nan),), samples(2))
    assert losses['loss_cls'].isnan()


def test_accuracy_is_mmposes():
    head, batch = PRTRHead(**SMALL), samples(6)
    feats = (torch.rand(6, 6, 4, 3),)
    labels = [sample.gt_instance_labels for sample in batch]
    with torch.no_grad():
        states = head.states(feats)
        coordinates = head.kpt_embed(states).sigmoid()
        for label, person in zip(labels, coordinates[-1], strict=True):  # some are right
            label.keypoint_labels = person[None, :5] + 0.08 * torch.rand(1, 5, 2)
        target = torch.cat([label.keypoint_labels for label in labels])
        visible = torch.cat([label.keypoint_weights for label in labels]) > 0
        query = head._match(head.class_embed(states), coordinates, target)[-1]
    predicted = coordinates[-1].gather(1, query[..., None].expand(-1, -1, 2)).numpy()
    _, expected, _ = keypoint_pck_accuracy(
        predicted, target.numpy(), visible.numpy(), 0.05, torch.ones(6, 2).numpy()
    )
    assert 0.1 < expected < 0.95
    losses = head.loss(feats, batch)
    assert float(losses['acc_pose']) == pytest.approx(expected, abs=1e-6)
    assert 'acc_pose' not in head.loss(feats, batch, dict(compute_acc=False))


@pytest.mark.slow
def test_it_learns():
    """Coordinates of three images by heart: the losses of all layers together find them."""
    head, batch, feats = PRTRHead(**SMALL), samples(3), (torch.randn(3, 6, 4, 3),)
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3)
    for _ in range(300):
        losses = head.loss(feats, batch)
        optimizer.zero_grad()
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        optimizer.step()
    assert losses['acc_pose'] == 1
    for sample, person in zip(batch, head.predict(feats, batch), strict=True):
        label = sample.gt_instance_labels
        off = torch.from_numpy(person.keypoints) / torch.tensor([48, 64]) - label.keypoint_labels
        assert off[label.keypoint_weights > 0].abs().max() < 0.05


def test_mirrored_coordinates_are_mmposes():
    encoded, indices = torch.rand(3, 5, 3), [0, 2, 1, 4, 3]
    ours = flip_back_coordinates(encoded, torch.tensor(indices))
    theirs = flip_coordinates(encoded[..., :2].clone(), indices, False, (48, 64))
    assert torch.equal(ours[..., :2], theirs)
    assert torch.equal(ours[..., 2], encoded[:, indices, 2])
    with pytest.raises(ConfigError, match='flip test: 5 predictions for 4 keypoints'):
        flip_back_coordinates(encoded, torch.arange(4))


def neck_files() -> dict[str, dict]:
    """Weights of a neck as HRNet's authors and as MMPretrain name them, with others beside."""
    neck = HRFuseScales((4, 8, 16, 32), 12)
    authors = {key: torch.randn_like(value.float()) for key, value in neck.state_dict().items()}
    mmpretrain = {}
    for key, value in authors.items():
        part = key.split('.')[0]
        if part != 'incre_modules':
            head, index, name = key.rsplit('.', 2)
            key = f'{head}.{["conv", "bn"][int(index)]}.{name}'
        key = key.replace('incre_modules', 'increase_layers')
        if not key.endswith('conv.bias'):
            mmpretrain[f'neck.{key.replace("downsamp_modules", "downsample_layers")}'] = value
    others = {'classifier.weight': torch.ones(2), 'conv1.weight': torch.ones(2)}
    return dict(
        authors={**authors, **others}, mmpretrain={**mmpretrain, 'backbone.x': torch.ones(1)}
    )


@pytest.mark.parametrize('origin', ['authors', 'mmpretrain'])
def test_a_neck_starts_from_a_classifier(origin, tmp_path):
    files = neck_files()
    torch.save(files[origin], tmp_path / 'hrnet.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'hrnet.pth'))
    neck = HRFuseScales((4, 8, 16, 32), 12, init_cfg=init_cfg)
    neck.init_weights()
    for key, value in neck.state_dict().items():
        expected = files['authors'][key]
        if origin == 'mmpretrain' and key.endswith('.0.bias'):  # of convolutions
            expected = torch.zeros_like(expected)
        assert torch.equal(value, expected.to(value.dtype)), key


def test_files_that_do_not_fit_are_named(tmp_path):
    torch.save({'conv1.weight': torch.ones(1)}, tmp_path / 'other.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'other.pth'))
    with pytest.raises(WeightsError, match=r'other.pth.* is no file of this HRFuseScales'):
        HRFuseScales((4, 8, 16, 32), 12, init_cfg=init_cfg).init_weights()
    torch.save(ResNet(18).state_dict(), tmp_path / 'other.pth')
    with pytest.raises(WeightsError, match=r'does not fit ResNet|is no file of this ResNet'):
        ResNet(50, init_cfg=init_cfg).init_weights()
    with pytest.raises(WeightsError, match='does not exist'):
        ResNet(18, init_cfg=dict(init_cfg, checkpoint='missing.pth')).init_weights()
    with pytest.raises(ConfigError, match='neck: in_channels'):
        HRFuseScales((4, 8, 16))


def test_trunks_start_from_files_and_from_mmposes_initialisation(tmp_path):
    torch.manual_seed(1)
    state = ResNet(18).state_dict()
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in state.items()}}, tmp_path / 'a.pth')
    ours = ResNet(18, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    ours.init_weights()
    assert all(torch.equal(value, state[key]) for key, value in ours.state_dict().items())
    before = ours.conv1.weight.clone()
    ours = ResNet(18)
    ours.init_weights()
    assert not torch.equal(ours.conv1.weight, before)


def test_the_trunk_may_be_wider(no_init):
    """HRNet-W48: only the widths of backbone and neck change."""
    cfg = read_config('prtr_hrnet_w32_coco_384x288').model
    for n in (2, 3, 4):
        cfg.backbone.extra[f'stage{n}'].num_channels = [48 * 2**i for i in range(n)]
    cfg.neck.in_channels = [48, 96, 192, 384]
    model = MODELS.build({**cfg, '_scope_': 'mmpose'}).eval()
    assert isinstance(model.backbone, HRNet)
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64), None, mode='tensor').shape == (1, 17, 3)
