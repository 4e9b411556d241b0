"""Outputs, gradients and losses against MMPose's HRFormer with equal weights."""

import copy

import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.models.backbones import HRFormer as MMPoseHRFormer
from mmpose.registry import MODELS

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.benchmark.complexity import saved_bytes
from tests.backbones.test_arch import mmpose_extra
from tests.backbones.weights import randomise
from tests.conftest import relative_error

BASE = pytest.param('base', marks=pytest.mark.slow)
# Padded maps: (224, 224) on no axis of any branch, (224, 160) and (160, 224) on one, the others on
# both. MMPose's fusion takes multiples of 32 only.
SIZES = [(224, 224), (224, 160), (160, 224), (256, 192), (64, 96)]


def pair(arch: str = 'tiny', multiscale_output: bool = False, **settings):
    """Our network, built from `extra`, and MMPose's, with equal random weights."""
    extra = mmpose_extra(arch, **settings)
    extra['stage4']['multiscale_output'] = multiscale_output
    theirs = MMPoseHRFormer(extra=copy.deepcopy(extra))
    ours = HRFormer(extra=extra)
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.mark.parametrize('arch', ['tiny', 'small', BASE])
def test_state_dicts_have_the_same_names_shapes_and_order(arch):
    ours, theirs = HRFormer(arch=arch), MMPoseHRFormer(extra=mmpose_extra(arch))
    described = [
        [(name, tuple(value.shape), value.dtype) for name, value in model.state_dict().items()]
        for model in (ours, theirs)
    ]
    assert sorted(described[0]) == sorted(described[1])
    state = ours.state_dict()
    for name, value in theirs.state_dict().items():
        if name.endswith('relative_position_index'):
            assert torch.equal(state[name], value), name


@pytest.mark.parametrize('with_rpe', [True, False], ids=['rpe', 'no_rpe'])
@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_outputs(size, with_rpe):
    ours, theirs = pair(multiscale_output=True)
    if not with_rpe:
        ours, theirs = (without_rpe(model) for model in (ours, theirs))
    x = torch.randn(1, 3, *size)
    for a, b in zip(ours.eval()(x), theirs_eval(theirs)(x), strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < 1e-5


def without_rpe(model: torch.nn.Module) -> torch.nn.Module:
    for layer in model.modules():
        if hasattr(layer, 'relative_position_bias_table'):
            layer.with_rpe = False
    return model


def theirs_eval(model: torch.nn.Module) -> torch.nn.Module:
    model.eval()  # returns None in MMPose
    return model


def test_with_rpe_false_builds_the_same_network_without_tables():
    ours, theirs = HRFormer(arch='tiny', with_rpe=False), pair()[1]
    state = {k: v for k, v in theirs.state_dict().items() if 'relative_position' not in k}
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(ours.eval()(x)[0], theirs_eval(without_rpe(theirs))(x)[0]) < 1e-5


@torch.no_grad()
def test_the_padding_mask_where_mmpose_applies_it():
    # At 64 x 96 the maps are 16 x 24, 8 x 12, 4 x 6, 2 x 3: both axes padded on every branch.
    ours, theirs = pair(with_pad_mask=True)
    x = torch.randn(1, 3, 64, 96)
    assert relative_error(ours.eval()(x)[0], theirs_eval(theirs)(x)[0]) < 1e-5


@pytest.mark.parametrize('arch', ['small', BASE])
@torch.no_grad()
def test_outputs_of_the_published_sizes(arch):
    ours, theirs = pair(arch)
    x = torch.randn(1, 3, 256, 192)
    assert relative_error(ours.eval()(x)[0], theirs_eval(theirs)(x)[0]) < 1e-5


@pytest.mark.parametrize(
    ('training', 'multiscale_output'),
    [
        (False, False),
        (True, True),
        pytest.param(False, True, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    'size', [pytest.param((224, 160), marks=pytest.mark.slow), (128, 96)], ids=str
)
def test_gradients_of_all_parameters_and_of_the_image(size, multiscale_output, training):
    """In float64: rounding errors change the sign of some ReLU inputs and thus the gradient.

    In float32, single pixels therefore differ by up to 4e-3 of the norm for any two programs.
    """
    dtype, tolerance = torch.float64, 1e-8
    ours, theirs = pair('tiny', multiscale_output, drop_path_rate=0.0)
    x = torch.randn(2, 3, *size, dtype=dtype)
    images = [x.clone().requires_grad_() for _ in range(2)]
    for model, image in zip((ours, theirs), images, strict=True):
        model.to(dtype).train(training)
        generator = torch.Generator().manual_seed(7)
        maps = model(image)
        loss = sum(
            (m * torch.randn(m.shape, generator=generator, dtype=dtype)).mean() for m in maps
        )
        loss.backward()
    assert relative_error(images[0].grad, images[1].grad) < tolerance
    expected = dict(theirs.named_parameters())
    # Some gradients are zero except for rounding: a constant before BatchNorm, the key's bias
    # before the softmax. Their tolerance is relative to the largest gradient.
    scale = max(p.grad.norm() for p in expected.values())
    for name, parameter in ours.named_parameters():
        difference = (parameter.grad - expected[name].grad).norm()
        assert difference <= tolerance * expected[name].grad.norm() + 1e-11 * scale, name
    buffers = dict(theirs.named_buffers())
    for name, value in ours.named_buffers():
        assert torch.allclose(value, buffers[name], atol=1e-5), name


def estimator(backbone: dict) -> torch.nn.Module:
    return MODELS.build(
        dict(
            type='mmpose.TopdownPoseEstimator',
            backbone=backbone,
            head=dict(
                type='mmpose.HeatmapHead', in_channels=18, out_channels=17, deconv_out_channels=None
            ),
        )
    )


def gaussian_heatmaps() -> torch.Tensor:
    """Target heatmaps with one Gaussian a keypoint, (17, 16, 16)."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing='ij')
    centre = 15 * torch.rand(2, 17, 1, 1)
    return torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 8)


def batches_of(count: int, dtype: torch.dtype) -> list:
    """Images and samples for `count` iterations."""
    from mmengine.structures import InstanceData, PixelData
    from mmpose.structures import PoseDataSample

    batches = []
    for _ in range(count):
        samples = [
            PoseDataSample(
                gt_instance_labels=InstanceData(keypoint_weights=torch.ones(1, 17, dtype=dtype)),
                gt_fields=PixelData(heatmaps=gaussian_heatmaps().to(dtype)),
            )
            for _ in range(4)
        ]
        batches.append((torch.randn(4, 3, 64, 64, dtype=dtype), samples))
    return batches


@pytest.mark.slow
@pytest.mark.parametrize('recipe', ['warm-up in float32', 'full rate in float64'])
def test_twenty_training_iterations_give_mmposes_losses(recipe):
    """Equal weights, batches and dropped paths give equal losses with AdamW.

    AdamW divides by the magnitude of the gradient, so that rounding errors of nearly-zero gradients
    become whole steps: at the full learning rate, any two programs diverge within a few iterations
    in float32. The warm-up is compared in float32, the full rate in float64.
    """
    warm_up = recipe.startswith('warm-up')
    dtype = torch.float32 if warm_up else torch.float64
    ours = estimator(dict(type='hrformer_mmpose.HRFormer', extra=mmpose_extra('tiny')))
    theirs = estimator(dict(type='mmpose.HRFormer', extra=mmpose_extra('tiny')))
    theirs.load_state_dict(ours.state_dict())
    batches = batches_of(20, dtype)
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(11)
        model.to(dtype).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
        warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.001 if warm_up else 1.0, 1, 500)
        run = []
        for images, samples in batches:
            loss = model(images, samples, mode='loss')['loss_kpt']
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm.step()
            run.append(loss.detach())
        losses.append(torch.stack(run))
    if not warm_up:
        assert losses[1][-1] < 0.9 * losses[1][0], 'the reference must learn'
    assert ((losses[0] - losses[1]) / losses[1]).abs().max() < 1e-4


@pytest.mark.parametrize(
    'dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize('arch', ['tiny', pytest.param('small', marks=pytest.mark.slow), BASE])
def test_bytes_kept_for_the_backward_pass_under_autocast(arch, dtype):
    size = (128, 96) if arch == 'tiny' else (256, 192)

    def kept(network: torch.nn.Module) -> int:
        with torch.autocast('cpu', dtype):
            return saved_bytes(network, torch.rand(1, 3, *size))

    theirs = kept(MMPoseHRFormer(extra=mmpose_extra(arch)))
    assert kept(HRFormer(arch=arch)) < 0.45 * theirs
    assert kept(HRFormer(arch=arch, norm_cfg=dict(type='SyncBN'))) < 0.45 * theirs
    assert kept(HRFormer(arch=arch, with_cp=True)) < 0.12 * theirs
