"""PRTR against recorded outputs of its authors' code: maps, queries, losses, gradients, poses."""

import copy

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.structures import InstanceData
from mmpose.registry import MODELS
from mmpose.structures import PoseDataSample

from hrformer_mmpose.checkpoint import match
from hrformer_mmpose.zoo import read_config
from tests import official_prtr
from tests.conftest import relative_error

pytestmark = pytest.mark.usefixtures('no_init')
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
CONVOLUTIONS = dict(
    res50='backbone.layer4.0.conv1.weight',
    hrnet_w32='backbone.stage4.2.branches.3.0.conv1.weight',
)


@pytest.fixture(scope='module', params=['res50', pytest.param('hrnet_w32', marks=pytest.mark.slow)])
def network(request):
    """Name of a network, and our model with its weights."""
    name = request.param
    cfg = read_config(f'prtr_{name}_coco_384x288')
    cfg.model.head.decoder.input_size = official_prtr.SIZES[name][::-1]
    model = MODELS.build({**cfg.model, '_scope_': 'mmpose'}).eval()
    weights = official_prtr.state_dict(name)
    match(weights, model, 'prtr.pth', complete=True).load_into(model)
    return name, model


def samples() -> list[PoseDataSample]:
    return [
        PoseDataSample(
            metainfo=dict(flip_indices=FLIP),
            gt_instance_labels=InstanceData(
                keypoint_labels=labels[None], keypoint_weights=weights[None]
            ),
        )
        for labels, weights in zip(*official_prtr.target(), strict=True)
    ]


def check(name: str, what: str, ours: torch.Tensor) -> None:
    assert relative_error(ours, official_prtr.outputs()[f'{name}_{what}']) < 1e-5, what


@torch.no_grad()
def test_queries(network):
    name, model = network
    feats = model.extract_feat(official_prtr.image(name))
    check(name, 'map', feats[-1][:, ::32])
    states = model.head.states(feats)
    check(name, 'logits', model.head.class_embed(states)[:, :, ::9])
    coordinates = model.head.kpt_embed(states).sigmoid()[:, :, ::3]
    check(name, 'coords', coordinates)
    assert coordinates.std(2).min() > 1e-3  # queries differ by more than the tolerance


@torch.no_grad()
def test_losses(network):
    name, model = network
    losses = model.head.loss(model.extract_feat(official_prtr.image(name)), samples())
    prefixes = [*(f'd{i}.' for i in range(5)), '']
    assert {*losses} == {f'{p}loss_{kind}' for p in prefixes for kind in ('cls', 'kpt')} | {
        'acc_pose'
    }
    values = [[losses[f'{p}loss_{kind}'] for p in prefixes] for kind in ('cls', 'kpt')]
    check(name, 'losses', torch.tensor(values))


def test_gradients(network):
    """In float64: in float32 those of the backbone are off by 3e-4, the authors' too."""
    name, model = network[0], copy.deepcopy(network[1]).double()
    losses = model.head.loss(model.extract_feat(official_prtr.image(name).double()), samples())
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    grad = {key: p.grad.float() for key, p in model.named_parameters() if p.grad is not None}
    check(name, 'grad_queries', grad['head.query_embed.weight'][::9, ::5])
    check(name, 'grad_classes', grad['head.class_embed.weight'][:, ::5])
    check(name, 'grad_keypoints', grad['head.kpt_embed.layers.2.weight'])
    check(name, 'grad_input_proj', grad['head.input_proj.weight'][::8, ::16, 0, 0])
    check(name, 'grad_layer4', grad[CONVOLUTIONS[name]][::16, ::8])


@pytest.mark.parametrize('flip', [False, True])
@torch.no_grad()
def test_poses(network, flip):
    name, model = network
    image = official_prtr.image(name)
    feats = model.extract_feat(image)
    if flip:
        feats = [feats, model.extract_feat(image.flip(3))]
    persons = model.head.predict(feats, samples(), dict(flip_test=flip))
    poses = [
        torch.cat(
            [torch.from_numpy(p.keypoints), torch.from_numpy(p.keypoint_scores)[..., None]], 2
        )
        for p in persons
    ]
    check(name, 'flip_poses' if flip else 'poses', torch.cat(poses))
