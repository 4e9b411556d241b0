"""Codecs against MMPose's, and against the exact result where the two differ."""

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose.benchmark.codecs import KINDS, SIZES, pair
from hrformer_mmpose.codecs import MSRAHeatmap


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('sigma', [1.5, 2.0, 2.5, 3.0])
@pytest.mark.parametrize('kind', KINDS)
def test_encode(kind, size, sigma):
    """512 keypoints at each size and sigma: in the crop, at its border, outside, invisible."""
    ours, theirs = pair(kind, size, sigma)
    rng = np.random.default_rng(0)
    w, h = ours.input_size
    for person in range(32):
        keypoints = rng.uniform((-0.2 * w, -0.2 * h), (1.2 * w, 1.2 * h), (1, 16, 2))
        if person % 3 == 0:  # whole and half pixels, which depend on rounding
            keypoints = np.round(keypoints * 2) / 2
        visible = (rng.random((1, 16)) < 0.8).astype(np.float32)
        keypoints = keypoints.astype(np.float32)
        if sigma % 1:  # windows of fractional radius differ at the border, see below
            keypoints = keypoints.clip(16 * sigma, np.array([w, h]) - 16 * sigma)
        before = keypoints.copy(), visible.copy()
        a, b = (codec.encode(keypoints, visible) for codec in (ours, theirs))
        assert a.keys() == b.keys()
        for key in a:
            assert a[key].dtype == b[key].dtype
            assert a[key].shape == b[key].shape
            assert np.abs(a[key] - b[key]).max() <= 1e-6
        assert all(np.array_equal(*both) for both in zip(before, (keypoints, visible), strict=True))


def test_a_window_of_fractional_radius_is_centred_on_the_keypoint():
    """MMPose rounds the first pixel towards zero: at the left border its maximum is off by one."""
    ours, theirs = pair('msra', '256x192', 1.5)
    keypoints = np.full((1, 1, 2), 12.0, dtype=np.float32)  # heatmap pixel (3, 3), radius 4.5
    peaks = [
        np.unravel_index(codec.encode(keypoints)['heatmaps'][0].argmax(), (64, 48))
        for codec in (ours, theirs)
    ]
    assert peaks[0] == (3, 3)
    assert peaks[1] == (4, 4)


def peaks(rng, count: int, size: tuple[int, int], sigma: float) -> np.ndarray:
    """Heatmaps like a network's: a noisy bump of any height, a fifth of them near the border."""
    W, H = size
    x, y = np.arange(W), np.arange(H)[:, None]
    maps = []
    for index in range(count):
        center = rng.uniform((-1, -1), (W, H))
        if index % 5 == 0:
            center = rng.choice([0, W - 1]), rng.choice([0, H - 1]) + rng.uniform(-2, 2)
        spread, height = sigma * rng.uniform(0.8, 1.4), rng.uniform(0.02, 1.1)
        bump = height * np.exp(((x - center[0]) ** 2 + (y - center[1]) ** 2) / (-2 * spread**2))
        maps.append(bump + rng.normal(0, 0.03 * height, (H, W)) * (index % 3 > 0))
    return np.array(maps, dtype=np.float32)


def exact(codec, heatmap: np.ndarray) -> np.ndarray:
    """Decode one map with DARK or UDP in float64, in heatmap pixels."""
    kernel = cv2.getGaussianKernel(codec.blur_kernel_size, 0)
    heatmap = heatmap.astype(np.float64)
    H, W = heatmap.shape
    y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
    blurred = cv2.sepFilter2D(heatmap, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
    blurred *= heatmap.max() / blurred.max()
    is_dark = isinstance(codec, MSRAHeatmap)
    log = np.log(np.maximum(blurred, 1e-10) if is_dark else np.clip(blurred, 1e-3, 50))

    def at(i, j):
        return log[np.clip(y + j, 0, H - 1), np.clip(x + i, 0, W - 1)]

    first = np.array([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)]) / 2
    if is_dark:
        xx, yy = (
            (at(*a) - 2 * at(0, 0) + at(*b)) / 4 for a, b in (((2, 0), (-2, 0)), ((0, 2), (0, -2)))
        )
        xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
        refines = 1 < x < W - 2 and 1 < y < H - 2
    else:
        xx, yy = (at(*a) - 2 * at(0, 0) + at(*b) for a, b in (((1, 0), (-1, 0)), ((0, 1), (0, -1))))
        xy = at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1)
        xx, xy, yy = xx + np.finfo(np.float32).eps, xy / 2, yy + np.finfo(np.float32).eps
        refines = True
    step = np.linalg.lstsq([[xx, xy], [xy, yy]], -first, rcond=None)[0] if refines else np.zeros(2)
    return np.array([x, y]) + step


def in_input(codec, peaks: np.ndarray) -> np.ndarray:
    if isinstance(codec, MSRAHeatmap):
        return peaks * codec.scale_factor
    return peaks / (np.array(codec.heatmap_size) - 1) * codec.input_size


def both(ours, theirs, maps) -> tuple[np.ndarray, np.ndarray]:
    """Decode with our codec and MMPose's; keypoints in input pixels."""
    a, score_a = ours.decode(maps.copy())
    b, score_b = theirs.decode(maps.copy())
    assert np.allclose(score_a, score_b, atol=1e-6)
    return a[0], b[0]


def distance(a, b) -> np.ndarray:
    return np.linalg.norm(a - b, axis=1)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', ['msra', 'dark', 'udp'])
def test_decode_peaks(kind, size):
    """1,000 maps at each size: equal up to the float32 rounding of both."""
    ours, theirs = pair(kind, size)
    maps = peaks(np.random.default_rng(1), 1000, ours.heatmap_size, ours.sigma)
    a, b = both(ours, theirs, maps)
    apart = distance(a, b)
    if kind == 'msra':
        assert apart.max() == 0
        return
    assert np.mean(apart < 1e-3) >= 0.999
    assert apart.max() < 2e-3
    truth = in_input(ours, np.array([exact(ours, heatmap) for heatmap in maps]))
    assert distance(a, truth).max() < 1e-3


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('noise', ['uniform', 'normal'])
def test_decode_noise(kind, size, noise):
    """510 maps of each kind of noise at each size.

    The Hessian of noise is often nearly singular: the reference's step, dominated by rounding,
    leaves the neighbourhood of the pixel or the image. Both codecs agree for steps of up to 1.5
    heatmap pixels; our steps are bounded.
    """
    ours, theirs = pair(kind, size)
    rng = np.random.default_rng(2)
    W, H = ours.heatmap_size
    shape = (3 * 170, H, W)
    maps = rng.random(shape) if noise == 'uniform' else rng.normal(0, 0.3, shape)
    maps = maps.astype(np.float32)
    a, b = both(ours, theirs, maps)
    apart = distance(a, b)
    if kind in ('msra', 'combined'):
        assert apart.max() < 1e-3
        return
    index = maps.reshape(len(maps), -1).argmax(axis=1)
    pixel = np.stack([index % W, index // W], axis=1)
    truth = np.array([exact(ours, heatmap) for heatmap in maps])
    near = distance(truth, pixel) < 1.5
    assert near.sum() > 50
    assert distance(a, in_input(ours, truth))[near].max() < 2e-3
    assert np.mean(apart[near] < 1e-3) > 0.95
    assert apart[near].max() < 5e-3
    reach = (ours.blur_kernel_size // 2) * np.sqrt(2)
    assert (distance(a, in_input(ours, pixel)) / 4.2).max() < reach
    assert (distance(b, in_input(ours, pixel)) / 4.2).max() > 10 * reach


@pytest.mark.parametrize('kind', ['dark', 'udp'])
def test_a_step_out_of_reach_is_not_taken(kind):
    """A ridge along x with its maximum at x = 20.

    Along the ridge the curvature is zero: the reference divides by rounding errors.
    """
    ours, theirs = pair(kind, '256x192')
    y = np.arange(64)[:, None]
    rng = np.random.default_rng(3)
    ridges = np.exp((y - 30.25) ** 2 / -8) + rng.normal(0, 1e-7, (50, 64, 48))
    ridges[:, 30, 20] += 1e-6
    a, b = both(ours, theirs, ridges.astype(np.float32))
    x = in_input(ours, np.array([20.0, 30.25]))[0]
    assert np.abs(a[:, 0] - x).max() <= 4.1 * (ours.blur_kernel_size // 2)
    assert np.abs(b[:, 0] - x).max() > 100


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS)
def test_empty_and_flat_maps(kind, size):
    ours, theirs = pair(kind, size)
    W, H = ours.heatmap_size
    channels = 3 if kind == 'combined' else 1
    empty = np.zeros((2 * channels, H, W), dtype=np.float32)
    negative = empty - 1
    outside = {'udp': (-192 / 47, -256 / 63), 'msra': (-4, -4)}
    if size == '384x288':
        outside = {'udp': (-288 / 71, -384 / 95), 'msra': (-4, -4)}
    expected = outside['udp' if kind in ('udp', 'combined') else 'msra']
    for maps in (empty, negative):
        keypoints, scores = ours.decode(maps)
        assert np.allclose(keypoints, expected)
        assert (scores <= 0).all()
    if kind in ('msra', 'dark'):
        assert np.allclose(theirs.decode(negative)[0], expected)
    if kind in ('dark', 'udp'):  # the reference divides by a maximum of zero
        with np.errstate(all='ignore'):
            reference, _ = theirs.decode(empty.copy())
        assert kind == 'dark' or np.isnan(reference).any()
    keypoints, scores = ours.decode(empty + 0.5)
    assert np.isfinite(keypoints).all()
    assert np.allclose(scores, 0.5)
