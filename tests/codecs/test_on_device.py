"""Decoding on a GPU: without its own numbers on a CPU, and without a step that waits for it."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from hrformer_mmpose.benchmark.codecs import KINDS, SIZES, pair
from hrformer_mmpose.codecs import refinement
from tests.codecs.test_against_mmpose import exact, in_input, peaks
from tests.fake_cuda import NoCopies, fake_cuda

TIES = ('two equal maxima', 'a flat top', 'a constant')


@pytest.fixture
def device_form(monkeypatch):
    """Decode CPU tensors as CUDA tensors are decoded."""
    monkeypatch.setattr(refinement, 'in_graph', lambda heatmaps: True)


def decoded_by_numpy(codec, maps: np.ndarray) -> np.ndarray:
    with np.errstate(all='ignore'):
        return np.stack([codec.decode(person.copy())[0][0] for person in maps])


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS)
def test_equals_numpy_on_peaks(kind, size, device_form):
    """1,020 noisy maps, a fifth of them near the border.

    UDP's reference divides float32 differences of one pixel: it is itself up to 3e-4 from the exact
    result, and ours may be as far on the other side.
    """
    ours, theirs = pair(kind, size)
    W, H = ours.heatmap_size
    maps = peaks(np.random.default_rng(4), 20 * 51, ours.heatmap_size, ours.sigma)
    maps = maps.reshape(20, 51, H, W)
    expected = decoded_by_numpy(theirs, maps)
    keypoints, scores = ours.batch_decode(torch.from_numpy(maps))
    apart = np.abs(keypoints.numpy() - expected).max(axis=2)
    assert np.mean(apart < 1e-4) >= 0.998
    assert apart.max() < (1e-3 if kind == 'udp' else 1e-4)
    if kind != 'combined':
        assert np.array_equal(scores.numpy(), maps.max(axis=(2, 3)))
    if kind in ('dark', 'udp'):
        truth = np.array([exact(ours, heatmap) for heatmap in maps.reshape(-1, H, W)])
        error = keypoints.numpy() - in_input(ours, truth).reshape(20, 51, 2)
        assert np.mean(np.abs(error).max(axis=2) < 1e-4) >= 0.998


def edge_cases(codec, channels: int) -> dict[str, np.ndarray]:
    """Maps (C, H, W) whose maximum is not one clear peak inside."""
    W, H = codec.heatmap_size
    x, y = np.arange(W), np.arange(H)[:, None]

    def bump(cx, cy):
        return np.exp(((x - cx) ** 2 + (y - cy) ** 2) / (-2 * codec.sigma**2))

    cases = {
        'two equal maxima': np.maximum(bump(10, 20), bump(30, 40)),
        'a flat top': np.minimum(bump(20, 30), 0.9),
        'a constant': np.full((H, W), 0.5),
        'zeros': np.zeros((H, W)),
        'negative': np.full((H, W), -1.0),
        'the first pixel': bump(0, 0),
        'the last pixel': bump(W - 1, H - 1),
        'beside the border': bump(1, H - 2),
        'a single pixel': 1.0 * ((x == 9) & (y == 11)),
        'a weak peak': 1.5e-3 * bump(20.3, 30.6),
        'a high peak': 60 * bump(20.3, 30.6),
    }
    return {name: np.repeat(np.float32(case)[None], channels, 0) for name, case in cases.items()}


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('kind', KINDS)
def test_equals_the_cpu_on_edge_cases(kind, size, monkeypatch):
    """The CPU's form equals MMPose's codec there, see `test_against_mmpose` and `test_codecs`."""
    codec, theirs = pair(kind, size)
    cases = edge_cases(codec, 3)
    if kind == 'combined':  # blurred before the maximum is taken: rounding decides between equals
        cases = {name: case for name, case in cases.items() if name not in TIES}
    for value in (np.nan, np.inf, -np.inf):
        cases[f'{value}'] = cases['the first pixel'].copy()
        cases[f'{value}'][0, 5, 7] = value
        cases[f'only {value}'] = np.full_like(cases['zeros'], value)
    maps = torch.from_numpy(np.stack([*cases.values()]))
    expected = codec.batch_decode(maps)
    monkeypatch.setattr(refinement, 'in_graph', lambda heatmaps: True)
    actual = codec.batch_decode(maps)
    for name, *values in zip(cases, *expected, *actual, strict=True):
        assert (values[0] - values[2]).abs().max() < 1e-4, name
        assert torch.equal(values[1], values[3]) or kind == 'combined', name
        assert (values[1] - values[3]).abs().max() < 1e-6, name
    if kind != 'udp':  # divides by a maximum of zero, or flat tops
        clear = [name for name in cases if 'pixel' in name or 'equal' in name]
        numbers = [[*cases].index(name) for name in clear]
        reference = decoded_by_numpy(theirs, np.stack([cases[name] for name in clear]))
        assert np.abs(actual[0][numbers].numpy() - reference).max() < 1e-4


@pytest.mark.parametrize('kind', KINDS)
def test_on_a_gpu_nothing_waits_for_the_cpu(kind):
    """No value is read and nothing is copied, so that a CUDA graph can hold the decoding."""
    codec, _ = pair(kind, '256x192')
    with fake_cuda():
        maps = torch.empty(2, 6, 64, 48, dtype=torch.float16, device='cuda')
        with NoCopies() as operators:
            keypoints, scores = codec.batch_decode(maps)
    assert keypoints.is_cuda
    assert scores.is_cuda
    assert operators.count > 20


@pytest.mark.parametrize('kind', KINDS)
def test_autocast_does_not_reach_the_decoding(kind):
    """In bfloat16 the blur would move DARK's and UDP's keypoints by more than a pixel."""
    codec, _ = pair(kind, '256x192')
    maps = torch.from_numpy(peaks(np.random.default_rng(0), 24, codec.heatmap_size, 2))
    maps = maps.view(4, 6, 64, 48)
    expected = codec.batch_decode(maps)
    with torch.autocast('cpu', torch.bfloat16):
        actual = codec.batch_decode(maps)
    assert all(map(torch.equal, expected, actual))
