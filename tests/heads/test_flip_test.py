"""Turning mirrored heatmaps back, against MMPose's function."""

import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.models.utils.tta import flip_heatmaps

from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.heads.flip_test import FLIP_MODES, flip_back, index_on
from tests.fake_cuda import NoCopies, fake_cuda

INDICES = [0, 2, 1, 4, 3]


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shift', [False, True])
@pytest.mark.parametrize('mode', FLIP_MODES)
def test_equals_mmpose(mode, shift, memory_format):
    maps = torch.randn(2, 5 * FLIP_MODES[mode][0], 7, 6)
    expected = flip_heatmaps(maps, INDICES, mode, shift)  # refuses most maps in channels last
    maps = maps.contiguous(memory_format=memory_format)
    before = maps.clone()
    assert torch.equal(flip_back(maps, torch.tensor(INDICES), mode, shift), expected)
    assert torch.equal(maps, before)
    assert not torch.equal(maps, expected)


@pytest.mark.parametrize('mode', FLIP_MODES)
def test_on_a_gpu_nothing_waits_for_the_cpu(mode):
    with fake_cuda():
        maps = torch.empty(2, 5 * FLIP_MODES[mode][0], 7, 6, device='cuda')
        indices = torch.empty(5, dtype=torch.int64, device='cuda')
        with NoCopies():
            assert flip_back(maps, indices, mode).is_cuda


def test_indices_are_copied_once():
    index = index_on(INDICES, torch.device('cpu'))
    assert index.tolist() == INDICES
    assert index_on((0, 2, 1, 4, 3), torch.device('cpu')) is index


@pytest.mark.parametrize(
    ('mode', 'line'),
    [
        ('mirror', "flip_mode='mirror' is not one of heatmap, udp_combined, offset"),
        ('heatmap', 'flip test .heatmap.: 6 heatmaps are not 1 for each of 5 keypoints'),
        ('udp_combined', 'flip test .udp_combined.: 6 heatmaps are not 3 for each of 5 keypoints'),
    ],
)
def test_maps_that_cannot_be_turned_back(mode, line):
    with pytest.raises(ConfigError, match=line):
        flip_back(torch.zeros(1, 6, 7, 6), torch.tensor(INDICES), mode)


def test_gradients_after_a_prediction():
    indices = [4, 3, 2, 1, 0]  # of no other test: they are cached
    with torch.inference_mode():
        flip_back(torch.rand(1, 5, 4, 4), index_on(indices, torch.device('cpu')))
    maps = torch.rand(1, 5, 4, 4, requires_grad=True)
    flip_back(maps, index_on(indices, torch.device('cpu'))).sum().backward()
    assert maps.grad.sum() == maps.numel()
