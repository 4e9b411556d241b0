"""Codecs: round trip, batches, invalid values, dtypes, registry."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.registry import KEYPOINT_CODECS

from hrformer_mmpose.benchmark.codecs import KINDS, SIZES, pair
from hrformer_mmpose.codecs import MSRAHeatmap, UDPHeatmap
from hrformer_mmpose.codecs.refinement import blur
from hrformer_mmpose.errors import ConfigError
from tests.codecs.test_against_mmpose import peaks


def truth(codec, keypoints: np.ndarray) -> np.ndarray:
    """Expected decoded keypoints: UDP scales w - 1 units to w (see UDPHeatmap)."""
    if isinstance(codec, MSRAHeatmap):
        return keypoints
    size = np.array(codec.input_size)
    return keypoints * size / (size - 1)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(
    ('kind', 'mean', 'worst'),
    [('msra', 1.6, 2.9), ('dark', 0.1, 0.3), ('udp', 0.1, 0.3), ('combined', 0.1, 0.3)],
)
def test_encode_then_decode_finds_the_keypoint(kind, mean, worst, size):
    """Errors in input pixels, for keypoints away from the border."""
    codec, _ = pair(kind, size)
    rng = np.random.default_rng(0)
    border = 16 * codec.sigma
    errors = []
    for _ in range(20):
        high = np.array(codec.input_size) - border
        keypoints = rng.uniform(border, high, (1, 50, 2)).astype(np.float32)
        decoded, scores = codec.decode(codec.encode(keypoints)['heatmaps'])
        errors.append(np.linalg.norm(decoded - truth(codec, keypoints), axis=2))
        assert scores.min() > (0.2 if kind == 'combined' else 0.8)
    assert np.mean(errors) < mean
    assert np.max(errors) < worst


@pytest.mark.parametrize('kind', KINDS)
def test_a_batch_is_its_persons(kind):
    codec, _ = pair(kind, '256x192')
    rng = np.random.default_rng(0)
    maps = peaks(rng, 4 * 6, codec.heatmap_size, 2).reshape(4, 6, 64, 48)
    keypoints, scores = codec.batch_decode(torch.from_numpy(maps))
    assert codec.support_batch_decoding
    count = 2 if kind == 'combined' else 6
    assert keypoints.shape == (4, count, 2)
    assert scores.shape == (4, count)
    assert keypoints.dtype == scores.dtype == torch.float32
    for person, heatmaps in enumerate(maps):
        alone, score = codec.decode(heatmaps)
        assert alone.shape == (1, count, 2)
        assert np.abs(alone[0] - keypoints[person].numpy()).max() < 1e-4
        assert np.array_equal(score[0], scores[person].numpy())


@pytest.mark.parametrize('kind', KINDS)
def test_decoding_leaves_its_argument_alone(kind):
    codec, _ = pair(kind, '256x192')
    maps = torch.randn(2, 3, 64, 48)
    before = maps.clone()
    codec.batch_decode(maps)
    assert torch.equal(maps, before)
    codec.decode(maps[0].numpy())
    assert torch.equal(maps, before)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_map_with_no_number_has_score_zero(kind, value):
    """Other maps are not affected."""
    codec, _ = pair(kind, '256x192')
    rng = np.random.default_rng(0)
    maps = peaks(rng, 6, codec.heatmap_size, 2)
    good, good_scores = codec.decode(maps)
    per_keypoint = 3 if kind == 'combined' else 1
    for spot in ((0, 0), (30, 20)):
        bad = maps.copy()
        bad[0][spot] = value
        keypoints, scores = codec.decode(bad)
        assert np.isfinite(keypoints).all()
        assert np.isfinite(scores).all()
        assert scores[0, 0] == 0
        assert np.array_equal(scores[0, 1:], good_scores[0, 1:])
        assert np.allclose(keypoints[0, 1:], good[0, 1:], atol=1e-4)
    offsets = maps.copy()
    if per_keypoint == 3:  # invalid offsets
        offsets[1] = value
        keypoints, _ = codec.decode(offsets)
        assert np.isfinite(keypoints).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('kind', ['dark', 'udp'])
def test_half_precision(kind, dtype):
    """Maps with clear maxima; see docs/codecs.md for the plain codec."""
    codec, _ = pair(kind, '256x192')
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(40, 150, (1, 200, 2)).astype(np.float32)
    maps = torch.from_numpy(codec.encode(keypoints)['heatmaps'])[None]
    full, _ = codec.batch_decode(maps)
    half, _ = codec.batch_decode(maps.to(dtype))
    limit = 0.05 if dtype is torch.float16 else 0.5
    assert (full - half).norm(dim=2).max() < limit


def test_persons_are_encoded_together():
    codec, _ = pair('msra', '256x192')
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 190, (3, 5, 2)).astype(np.float32)
    together = codec.encode(keypoints)
    alone = [codec.encode(person[None]) for person in keypoints]
    assert np.array_equal(together['heatmaps'], np.max([e['heatmaps'] for e in alone], axis=0))
    weights = np.concatenate([e['keypoint_weights'] for e in alone])
    assert np.array_equal(together['keypoint_weights'], weights)


def test_the_combined_target_is_the_last_visible_persons():
    codec, _ = pair('combined', '256x192')
    keypoints = np.array([[[40, 40]], [[80, 80]], [[120, 120]]], dtype=np.float32)
    visible = np.array([[1], [1], [0]], dtype=np.float32)
    both = codec.encode(keypoints, visible)['heatmaps']
    assert np.array_equal(both, codec.encode(keypoints[1:2])['heatmaps'])


@pytest.mark.parametrize('visible', [0, 1])
@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('kind', KINDS)
def test_a_keypoint_of_nan_counts_nowhere(kind, value, visible):
    """Its weight is 0 and its map empty, so that the loss is finite."""
    codec, _ = pair(kind, '256x192')
    keypoints = np.random.default_rng(0).uniform(40, 150, (1, 3, 2)).astype(np.float32)
    shown = np.array([[1, visible, 1]], np.float32)
    expected = codec.encode(keypoints, np.array([[1, 0, 1]], np.float32))
    keypoints[0, 1, 0] = value
    encoded = codec.encode(keypoints, shown)
    assert encoded['keypoint_weights'].tolist() == [[1, 0, 1]]
    assert np.array_equal(encoded['heatmaps'], expected['heatmaps'])
    assert np.isnan(keypoints[0, 1, 0]) or np.isinf(keypoints[0, 1, 0])
    assert shown[0, 1] == visible, "the caller's arrays stay as they are"


@pytest.mark.parametrize('reflect', [False, True])
def test_blur_is_opencvs(reflect):
    import cv2

    image = np.random.default_rng(0).random((20, 14)).astype(np.float32)
    border = cv2.BORDER_REFLECT_101 if reflect else cv2.BORDER_CONSTANT
    for kernel in (3, 7, 11, 17):
        expected = cv2.GaussianBlur(image, (kernel, kernel), 0, borderType=border)
        ours = blur(torch.from_numpy(image), kernel, reflect).numpy()
        assert np.abs(ours - expected).max() < 1e-6


def test_they_are_found_under_our_scope():
    codec = KEYPOINT_CODECS.build(
        dict(type='hrformer_mmpose.UDPHeatmap', input_size=(192, 256), heatmap_size=(48, 64))
    )
    assert type(codec) is UDPHeatmap
    codec = KEYPOINT_CODECS.build(
        dict(
            type='hrformer_mmpose.MSRAHeatmap',
            input_size=(192, 256),
            heatmap_size=(48, 64),
            sigma=2,
            unbiased=True,
            blur_kernel_size=11,
        )
    )
    assert type(codec) is MSRAHeatmap


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(input_size=(192,)), 'input_size'),
        (dict(heatmap_size=(48, 1)), 'heatmap_size'),
        (dict(heatmap_size=(400, 64)), 'larger than input_size'),
        (dict(sigma=0), 'sigma=0'),
        (dict(sigma=float('nan')), 'sigma=nan'),
        (dict(blur_kernel_size=10), 'blur_kernel_size=10 is not an odd number'),
        (dict(blur_kernel_size=-1), 'blur_kernel_size=-1'),
        (dict(heatmap_type='both'), "heatmap_type='both'"),
        (dict(radius_factor=0), 'radius_factor=0'),
    ],
)
def test_values_that_cannot_be_used(options, words):
    arguments = dict(input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
    classes = [UDPHeatmap]
    if not {'heatmap_type', 'radius_factor'} & options.keys():
        classes.append(MSRAHeatmap)
    for cls in classes:
        with pytest.raises(ConfigError) as error:
            cls(**{**arguments, **options})
        assert words in str(error.value)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind', KINDS)
def test_heatmaps_of_a_wrong_shape(kind):
    codec, _ = pair(kind, '256x192')
    for shape in ((3, 64, 48), (1, 3, 48, 64), (1, 3, 64, 47)):
        with pytest.raises(ConfigError, match=r'heatmaps are \(.*, 64, 48\)'):
            codec.batch_decode(torch.zeros(shape))
    if kind == 'combined':
        with pytest.raises(ConfigError, match=r'\(B, 3 K, 64, 48\)'):
            codec.batch_decode(torch.zeros(1, 4, 64, 48))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('kind', KINDS)
def test_the_gpu_agrees(kind):
    codec, _ = pair(kind, '256x192')
    maps = torch.from_numpy(peaks(np.random.default_rng(0), 24, codec.heatmap_size, 2))
    maps = maps.reshape(4, 6, 64, 48)
    cpu, _ = codec.batch_decode(maps)
    gpu, _ = codec.batch_decode(maps.cuda())
    assert gpu.is_cuda
    assert (cpu - gpu.cpu()).norm(dim=2).max() < 1e-3
