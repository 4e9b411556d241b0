"""Crops to keypoints on the device, against the model's own data preprocessor and head."""

import itertools

import numpy as np
import pytest
import torch
from mmengine.config import Config

pytest.importorskip('mmpose')
from hrformer_mmpose.backbones.half_precision import HalfPrecision
from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.codecs import refinement
from hrformer_mmpose.execution import processor
from hrformer_mmpose.inference.pose_module import PoseModule
from hrformer_mmpose.inference.torch_network import TorchNetwork, build
from hrformer_mmpose.zoo import read_config
from tests.conftest import ROOT
from tests.fake_cuda import NoCopies, fake_cuda, to_fake_cuda
from tests.recorded_graph import Anywhere, record_graphs

CPU = torch.device('cpu')
SIZE = 84, 112
CODECS = {
    'msra': dict(type='hrformer_mmpose.MSRAHeatmap', sigma=1.5),
    'dark': dict(type='hrformer_mmpose.MSRAHeatmap', sigma=1.5, unbiased=True, blur_kernel_size=7),
    'udp': dict(type='hrformer_mmpose.UDPHeatmap', sigma=1.5, blur_kernel_size=7),
    'combined': dict(
        type='hrformer_mmpose.UDPHeatmap', heatmap_type='combined', blur_kernel_size=7
    ),
    'mmpose': dict(type='MSRAHeatmap', sigma=1.5),
}
PRTR = dict(
    type='hrformer_mmpose.PRTRHead', in_channels=8, num_joints=17, num_queries=20, channels=16,
    num_heads=2, ffn_channels=16, num_layers=(1, 2),
    decoder=dict(type='hrformer_mmpose.CoordinateLabel', input_size=SIZE),
)  # fmt: skip


def config(codec: str, flip: bool) -> Config:
    """Small network; maps of 42x56 are not multiples of its windows."""
    cfg = read_config(str(ROOT / 'configs/quickstart/hrformer_tiny_demo_112x84.py'))
    cfg.model.backbone.arch = dict(
        num_modules=(1, 1, 1, 1), num_blocks=(1, 1, 1, 1), channels=(8, 16, 24, 32),
        num_heads=(1, 2, 3, 4),
    )  # fmt: skip
    cfg.model.test_cfg = dict(flip_test=flip)
    if codec == 'prtr':
        cfg.model.head = PRTR
        return cfg
    decoder = dict(CODECS[codec], input_size=SIZE, heatmap_size=(42, 56))
    channels = 51 if codec == 'combined' else 17
    cfg.model.head.update(in_channels=8, decoder=decoder, out_channels=channels)
    return cfg


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Weights of a network whose heatmaps have clear maxima, for every codec, and of a PRTR."""
    files = {}
    for codec in (*CODECS, 'prtr'):
        torch.manual_seed(3)
        model = build(config(codec, True), codec)
        if codec == 'prtr':  # queries that differ
            model.head.query_embed.weight.data.normal_(0, 4)
            for layer in model.head.kpt_embed.layers:
                layer.weight.data.normal_(0, 0.4)
        else:
            model.head.final_layer.weight.data.normal_(0, 0.3)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        files[codec] = tmp_path_factory.mktemp(codec) / 'weights.pth'
        save_weights(model.state_dict(), files[codec], 'mmpose')
    return files


def crops(count: int) -> np.ndarray:
    w, h = SIZE
    noise = torch.rand(count, 3, h // 8, w // 8, generator=torch.Generator().manual_seed(1)) * 255
    smooth = torch.nn.functional.interpolate(noise, (h, w), mode='bicubic')
    return smooth.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('codec', [*CODECS, 'prtr'])
def test_the_same_poses_as_the_models_own_methods(codec, flip, checkpoint):
    network = TorchNetwork(config(codec, flip), checkpoint[codec], 'cpu')
    assert (network._poses is None) == (codec == 'mmpose')
    keypoints, scores = network.predict(crops(3))
    assert keypoints.shape == (3, 17, 2)
    assert scores.shape == (3, 17)
    assert keypoints.dtype == scores.dtype == np.float32
    network._poses = None
    expected, expected_scores = network.predict(crops(3))
    assert np.ptp(expected, axis=1).min() > (1 if codec == 'prtr' else 5)  # are told apart
    assert np.abs(keypoints - expected).max() < 1e-4
    assert np.abs(scores - expected_scores).max() < 1e-5


@pytest.mark.parametrize('codec', ['msra', 'combined', 'prtr'])
def test_mirror_images_in_the_same_batch(codec, checkpoint):
    network = TorchNetwork(config(codec, True), checkpoint[codec], 'cpu')
    together = PoseModule(
        network.model, network.skeleton.flip_indices, network.test_cfg, flip_together=True
    )
    with torch.inference_mode():
        batch = torch.from_numpy(crops(3))
        apart, joined = network._poses.eval()(batch), together.eval()(batch)
        unflipped = PoseModule(network.model, network.skeleton.flip_indices, {}).eval()(batch)
    assert all(torch.allclose(*both, atol=1e-3) for both in zip(apart, joined, strict=True))
    assert (unflipped[0] - joined[0]).abs().max() > 1


@pytest.mark.parametrize('precision', ['float16', 'bfloat16', 'auto'])
def test_half_precision_of_a_cpu(precision, checkpoint):
    """By name bfloat16 always is; 'auto' and float16 need instructions for it, else float32."""
    types = processor.half_types()
    is_half = {'bfloat16': True, 'auto': bool(types), 'float16': torch.float16 in types}[precision]
    exact = TorchNetwork(config('msra', False), checkpoint['msra'], 'cpu')
    half = TorchNetwork(config('msra', False), checkpoint['msra'], 'cpu', precision)
    (_, expected), (_, scores) = exact.predict(crops(2)), half.predict(crops(2))
    error = np.abs(scores - expected).max() / np.abs(expected).max()
    assert (1e-5 < error < 0.05) if is_half else error == 0


def test_a_network_of_half_precision(checkpoint):
    """Weights in half precision, float32 at both ends, autocast switched off inside."""
    network = TorchNetwork(config('msra', True), checkpoint['msra'], 'cpu')
    with torch.inference_mode():
        _, expected = network._poses(torch.from_numpy(crops(2)))
        network.model.backbone = HalfPrecision(network.model.backbone, torch.bfloat16, CPU)
        assert {x.dtype for x in network.model.backbone.buffers()} >= {torch.bfloat16}
        feats = network.model.backbone(torch.rand(1, 3, 112, 84))
        assert {x.dtype for x in feats} == {torch.float32}
        with torch.autocast('cpu', torch.float16):
            again = network.model.backbone(torch.rand(1, 3, 112, 84))
        assert {x.dtype for x in again} == {torch.float32}
        module = PoseModule(network.model, network.skeleton.flip_indices, network.test_cfg).eval()
        _, scores = module(torch.from_numpy(crops(2)))
    error = float((scores - expected).abs().max() / expected.abs().max())
    assert 1e-5 < error < 0.05


def test_half_precision_leaves_the_network_that_is_trained():
    backbone = build(config('msra', True), 'msra').eval().backbone
    before = {name: x.clone() for name, x in backbone.state_dict().items()}
    HalfPrecision(backbone.fuse_for_inference(), torch.bfloat16, CPU)
    for name, x in backbone.state_dict().items():
        assert x.dtype is before[name].dtype
        assert torch.equal(x, before[name]), name


@pytest.mark.parametrize(
    ('codec', 'dtype'),
    [
        *itertools.product(['msra', 'udp'], [torch.float32, torch.float16, torch.bfloat16]),
        ('prtr', torch.float32),
    ],
)
def test_on_a_gpu_nothing_waits_for_the_cpu(codec, dtype):
    """From crops to keypoints no value is read and nothing copied: a CUDA graph can hold it."""
    model = build(config(codec, True), codec).eval()
    model.backbone = model.backbone.fuse_for_inference()
    with fake_cuda(), torch.no_grad():
        to_fake_cuda(model)
        if dtype is not torch.float32:
            model.backbone = HalfPrecision(model.backbone, dtype, torch.device('cuda'))
            assert all(x.dtype is dtype for x in model.backbone.buffers() if x.ndim == 4)
        module = PoseModule(model, range(17), model.test_cfg, flip_together=True).eval()
        to_fake_cuda(module)
        batch = torch.empty(2, 112, 84, 3, dtype=torch.uint8, device='cuda')
        with NoCopies() as operators:
            keypoints, scores = module(batch)
        assert module.preprocess(batch).is_contiguous(memory_format=torch.channels_last)
    assert keypoints.is_cuda
    assert keypoints.dtype == scores.dtype == torch.float32
    assert keypoints.shape == (2, 17, 2)
    assert operators.count > 500


def test_tensors_on_two_devices_are_noticed():
    """The check above would notice a forgotten CPU tensor."""
    model = build(config('msra', True), 'msra').eval()
    model.backbone = model.backbone.fuse_for_inference()
    module = PoseModule(model, range(17), model.test_cfg).eval()
    with fake_cuda(), torch.no_grad():
        to_fake_cuda(module)
        module.flip_indices = torch.empty(17, dtype=torch.int64)
        with pytest.raises(RuntimeError, match='on the same device'):
            module(torch.empty(2, 112, 84, 3, dtype=torch.uint8, device='cuda'))


@pytest.mark.parametrize(
    'codec', ['msra', 'dark', 'udp', 'combined', pytest.param('prtr', marks=pytest.mark.slow)]
)
def test_a_captured_network_gives_the_poses_of_other_crops(codec, checkpoint, monkeypatch):
    """Nothing of the crops of the capture is fixed in it."""
    record_graphs(monkeypatch)
    monkeypatch.setattr(refinement, 'in_graph', lambda heatmaps: True)
    network = TorchNetwork(config(codec, True), checkpoint[codec], 'cpu')
    graphs = Anywhere(network._poses)
    batches = [torch.from_numpy(crops(8)[i : i + 2].copy()) for i in range(0, 8, 2)]
    with torch.inference_mode():
        expected = [network._poses(batch) for batch in batches]
        for _ in range(2):
            actual = [graphs(batch) for batch in batches]
    assert len(graphs._graphs) == 1
    assert (expected[0][0] - expected[1][0]).abs().max() > 1
    for pairs in zip(expected, actual, strict=True):
        assert all(torch.allclose(*both, atol=1e-4) for both in zip(*pairs, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('precision', ['float32', 'float16', 'bfloat16'])
@pytest.mark.parametrize('codec', [*CODECS, 'prtr'])
def test_the_gpu_agrees(codec, precision, checkpoint):
    """Batches of changing size, so that graphs are captured and replayed."""
    cpu = TorchNetwork(config(codec, True), checkpoint[codec], 'cpu')
    gpu = TorchNetwork(config(codec, True), checkpoint[codec], 'cuda', precision)
    for count in (3, 2, 3, 2, 3, 1, 3):
        (expected, expected_scores), (keypoints, scores) = (
            network.predict(crops(count)) for network in (cpu, gpu)
        )
        error = np.abs(scores - expected_scores).max() / np.abs(expected_scores).max()
        assert error < dict(float32=2e-3, float16=1e-2, bfloat16=5e-2)[precision]
        if precision == 'float32':
            assert np.median(np.abs(keypoints - expected)) < 0.05
