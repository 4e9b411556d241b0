"""Our data preprocessor against MMPose's."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.models.data_preprocessors import PoseDataPreprocessor as MMPosePreprocessor
from mmpose.structures import PoseDataSample

from hrformer_mmpose.estimators.data_preprocessor import PoseDataPreprocessor

SETTINGS = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def images(*shapes) -> list[torch.Tensor]:
    return [torch.randint(0, 256, shape).to(torch.uint8) for shape in shapes]


def both(settings: dict, inputs, training: bool = False) -> list[dict]:
    results = []
    for cls in (PoseDataPreprocessor, MMPosePreprocessor):
        samples = [PoseDataSample() for _ in inputs]
        results.append(cls(**settings)(dict(inputs=inputs, data_samples=samples), training))
    return results


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    'settings',
    [
        SETTINGS,
        dict(SETTINGS, bgr_to_rgb=False),
        dict(bgr_to_rgb=True),
        dict(),
        dict(SETTINGS, pad_size_divisor=8),
        dict(SETTINGS, pad_size_divisor=5),
        dict(mean=[127.5], std=[50.0]),
    ],
)
@pytest.mark.parametrize(
    'inputs',
    [
        images((3, 16, 24), (3, 16, 24), (3, 16, 24)),
        [x.permute(2, 0, 1) for x in images((16, 24, 3), (16, 24, 3))],
        images((3, 16, 24), (3, 8, 32)),
        torch.stack(images((3, 16, 24), (3, 16, 24))),
    ],
)
def test_equals_mmpose(settings, inputs, training):
    ours, theirs = both(settings, inputs, training)
    assert torch.equal(ours['inputs'], theirs['inputs'])
    assert ours['inputs'].dtype is torch.float32
    assert ours['inputs'].stride() == theirs['inputs'].stride()
    for a, b in zip(ours['data_samples'], theirs['data_samples'], strict=True):
        assert a.metainfo == b.metainfo


def test_grey_images_are_left_to_mmpose():
    ours, theirs = both(dict(mean=[127.5], std=[50.0]), images((1, 16, 24), (1, 16, 24)))
    assert torch.equal(ours['inputs'], theirs['inputs'])
    assert ours['inputs'].shape == (2, 1, 16, 24)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_gpu_agrees():
    inputs, settings = images((3, 16, 24), (3, 16, 24)), SETTINGS
    samples = [PoseDataSample() for _ in inputs]
    expected = PoseDataPreprocessor(**settings)(dict(inputs=inputs, data_samples=samples))
    actual = PoseDataPreprocessor(**settings).cuda()(dict(inputs=inputs, data_samples=samples))
    torch.testing.assert_close(actual['inputs'].cpu(), expected['inputs'])
