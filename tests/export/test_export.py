"""Exported files against PyTorch, and what a user can get wrong."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
import onnx
import onnxruntime

from hrformer_mmpose import PoseEstimator, zoo
from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.cli import export as command
from hrformer_mmpose.cli import terminal
from hrformer_mmpose.codecs import refinement
from hrformer_mmpose.codecs.msra_heatmap import MSRAHeatmap
from hrformer_mmpose.codecs.udp_heatmap import UDPHeatmap
from hrformer_mmpose.errors import ConfigError, DataError, WeightsError
from hrformer_mmpose.export import files, report
from hrformer_mmpose.heads.flip_test import flip_back
from hrformer_mmpose.inference import PoseRuntime
from hrformer_mmpose.inference.description import Description
from hrformer_mmpose.inference.networks import ExportedNetwork, open_network
from hrformer_mmpose.inference.torch_network import TorchNetwork, build, read_config
from tests.conftest import ROOT

CONFIG = f"""
_base_ = '{ROOT}/configs/quickstart/hrformer_tiny_demo_112x84.py'
arch = dict(
    _delete_=True,
    num_modules=(1, 1, 1, 1), num_blocks=(1, 1, 1, 1), channels=(8, 16, 24, 32),
    num_heads=(1, 2, 3, 4),
)
# Where an untrained network is flat, the refinements of the other codecs enlarge any rounding.
codec = dict(
    _delete_=True, type='hrformer_mmpose.MSRAHeatmap', input_size=(84, 112), heatmap_size=(42, 56),
    sigma=1.5,
)
model = dict(backbone=dict(arch=arch), head=dict(in_channels=8, decoder=codec))
"""


@pytest.fixture(scope='module')
def files_of_a_network(tmp_path_factory):
    """Config and checkpoint of a small network that finds something: its head sees bright spots."""
    folder = tmp_path_factory.mktemp('exported')
    config = folder / 'small.py'
    config.write_text(CONFIG)
    torch.manual_seed(3)
    model = build(read_config(str(config)), 'small')
    model.head.final_layer.weight.data.normal_(0, 0.3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    checkpoint = folder / 'small.pth'
    save_weights(model.state_dict(), checkpoint, 'mmpose')
    return config, checkpoint


@pytest.fixture(scope='module')
def exported(files_of_a_network):
    """The network as ONNX with all that can be inside."""
    config, checkpoint = files_of_a_network
    path = checkpoint.with_name('small.onnx')
    network = TorchNetwork(config, checkpoint, 'cpu', fuse=False, flip_test=True)
    files.write(network, checkpoint, path)
    return path


@pytest.fixture(scope='module')
def people(tmp_path_factory):
    return report.generated(tmp_path_factory.mktemp('people'))


def poses_of(estimator, people):
    poses = [pose for one in estimator(*people) for pose in one]
    return np.stack([pose.keypoints for pose in poses]), np.stack([pose.scores for pose in poses])


@pytest.fixture(scope='module')
def expected(files_of_a_network, people):
    """PyTorch's poses: keypoints (P, K, 2) and scores (P, K)."""
    return poses_of(PoseEstimator(*files_of_a_network, 'cpu', flip_test=True), people)


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_a_file_gives_the_poses_of_pytorch(exported, people, expected, backend):
    pytest.importorskip(backend)
    for batch_size in (1, 7):
        runtime = PoseRuntime(exported, backend, threads=1, batch_size=batch_size)
        keypoints, scores = poses_of(runtime, people)
        np.testing.assert_allclose(keypoints, expected[0], atol=0.01)
        np.testing.assert_allclose(scores, expected[1], rtol=1e-4)


@pytest.mark.slow
def test_openvinos_format_and_half_precision(files_of_a_network, exported, people, expected):
    pytest.importorskip('openvino')
    config, checkpoint = files_of_a_network
    network = TorchNetwork(config, checkpoint, 'cpu', fuse=False, flip_test=True)
    path = checkpoint.with_name('small.xml')
    files.write(network, checkpoint, path, precision='float16')
    assert {file.suffix for file in path.parent.glob('small.*')} >= {'.xml', '.bin'}
    keypoints, _ = poses_of(PoseRuntime(path, batch_size=4), people)
    assert np.percentile(np.abs(keypoints - expected[0]), 90) < 0.5
    half = checkpoint.with_name('half.onnx')
    files.write(network, checkpoint, half, precision='float16')
    assert half.stat().st_size < 0.8 * exported.stat().st_size
    keypoints, _ = poses_of(PoseRuntime(half, 'onnxruntime'), people)
    assert np.percentile(np.abs(keypoints - expected[0]), 90) < 0.5


@pytest.mark.slow
def test_without_normalisation_and_decoding(files_of_a_network, people):
    config, checkpoint = files_of_a_network
    network = TorchNetwork(config, checkpoint, 'cpu', fuse=False, flip_test=False)
    path = checkpoint.with_name('heatmaps.onnx')
    files.write(network, checkpoint, path, normalise=False, decode=False)
    assert all(one.passed for one in report.check(network, path, *people))
    session = onnxruntime.InferenceSession(str(path))
    assert [node.type for node in session.get_inputs()] == ['tensor(float)']
    assert [node.name for node in session.get_outputs()] == ['heatmaps']
    with pytest.raises(WeightsError, match='gives heatmaps'):
        PoseRuntime(path)(*people)
    other = checkpoint.with_name('raw.onnx')
    files.write(network, checkpoint, other, normalise=False)
    plain = poses_of(PoseEstimator(*files_of_a_network, 'cpu', flip_test=False), people)
    np.testing.assert_allclose(poses_of(PoseRuntime(other), people)[0], plain[0], atol=0.01)


@pytest.mark.slow
def test_the_report_fails_for_other_weights(files_of_a_network, exported, people):
    config, checkpoint = files_of_a_network
    network = TorchNetwork(config, checkpoint, 'cpu', fuse=False, flip_test=True)
    assert all(one.passed for one in report.check(network, exported, *people))
    network.model.head.final_layer.bias.data[3] += 0.5
    network.model.head.final_layer.weight.data[5] *= -1
    found = report.check(network, exported, *people)
    assert found
    assert not any(one.passed for one in found)


def test_the_report_on_poses_that_are_not_finite(files_of_a_network, exported, people, monkeypatch):
    network = TorchNetwork(*files_of_a_network, 'cpu', fuse=False, flip_test=True)
    predict = ExportedNetwork.predict

    def diverged(self, batch):
        keypoints, scores = predict(self, batch)
        keypoints[0] = np.nan
        return keypoints, scores

    monkeypatch.setattr(ExportedNetwork, 'predict', diverged)
    (result, *_) = report.check(network, exported, *people)
    assert not result.passed
    assert 'FAIL onnxruntime: ' in str(result)
    assert re.search(r' \d+ poses of \d+ persons ', str(result))


def test_the_report_needs_persons(files_of_a_network, exported, people):
    network = TorchNetwork(*files_of_a_network, 'cpu', fuse=False, flip_test=True)
    nobody = [np.zeros((0, 4))] * len(people[0])
    with pytest.raises(DataError, match=r'^none of the 12 images to compare on has a box'):
        report.check(network, exported, people[0], nobody)


def test_an_error_while_a_file_is_made_is_its_own(tmp_path):
    with (
        pytest.raises(WeightsError, match=r"^'w\.pth' does not exist$"),
        files.replacing_files(tmp_path / 'a.onnx'),
    ):
        raise WeightsError("'w.pth' does not exist")
    assert [*tmp_path.iterdir()] == []


def test_a_file_says_what_it_is(exported, files_of_a_network):
    description = open_network(exported).description
    text = onnx.load(exported).metadata_props[0].value
    assert Description.from_json(text, exported) == description
    assert description.config == 'small'
    assert description.input_size == [84, 112]
    assert description.flip_test
    assert description.keypoints[0] == 'nose'
    assert description.skeleton.flip_indices[1] == 2
    assert len(description.sha256) == 64
    assert description.codec['type'] == 'hrformer_mmpose.MSRAHeatmap'
    model = onnx.load(exported)
    onnx.checker.check_model(model)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


class Decoder(torch.nn.Module):
    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def forward(self, heatmaps):
        return self.codec.batch_decode(heatmaps)


CODECS = [
    MSRAHeatmap((192, 256), (48, 64), 2),
    MSRAHeatmap((192, 256), (48, 64), 2, unbiased=True),
    UDPHeatmap((192, 256), (48, 64)),
    UDPHeatmap((192, 256), (48, 64), heatmap_type='combined'),
]


@pytest.mark.parametrize('codec', CODECS, ids=['msra', 'dark', 'udp', 'combined'])
def test_decoding_inside_a_graph_is_that_of_the_codec(codec, tmp_path):
    rng = np.random.default_rng(5)
    channels = 3 if getattr(codec, 'heatmap_type', '') == 'combined' else 1
    y, x = np.mgrid[:64, :48]
    maps = np.zeros((6, 17 * channels, 64, 48), np.float32)
    for one in maps.reshape(-1, 64, 48):
        # Centres reach over the border, where the refinement meets repeated and missing pixels.
        cx, cy = rng.uniform(-2, 50), rng.uniform(-2, 66)
        one += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 8) * rng.uniform(0.05, 1.2)
        one += rng.normal(0, 0.01, one.shape)
    maps[0, 0] = 0  # nothing there
    maps[0, channels] = -1
    maps[1, channels, 3, 4] = np.nan
    heatmaps = torch.from_numpy(maps)
    wanted = codec.batch_decode(heatmaps)
    path = str(tmp_path / 'decoder.onnx')
    with files.quiet():
        torch.onnx.export(
            Decoder(codec), (heatmaps[:2],), path, dynamo=False, opset_version=files.OPSET,
            input_names=['heatmaps'], dynamic_axes={'heatmaps': {0: 'batch'}},
        )  # fmt: skip
    given = onnxruntime.InferenceSession(path).run(None, {'heatmaps': maps})
    np.testing.assert_allclose(given[0], wanted[0].numpy(), atol=2e-3)
    np.testing.assert_allclose(given[1], wanted[1].numpy(), atol=1e-6)


class Tokens(torch.nn.Module):
    """Flip test and decoder behind a reshaping of tokens (N, K, H * W), as transformers end."""

    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def forward(self, tokens):
        maps = tokens.unflatten(2, (16, 12))
        mirrored = flip_back(maps, torch.tensor([1, 0, 3, 2]), self.codec.flip_mode)
        return self.codec.batch_decode(maps + mirrored)


@pytest.mark.parametrize(
    'codec',
    [
        MSRAHeatmap((48, 64), (12, 16), 1, unbiased=True),
        UDPHeatmap((48, 64), (12, 16)),
        UDPHeatmap((48, 64), (12, 16), heatmap_type='combined'),
    ],
    ids=['dark', 'udp', 'combined'],
)
def test_graphs_of_transformers_take_any_batch(codec, tmp_path):
    channels = 3 if getattr(codec, 'heatmap_type', '') == 'combined' else 1
    tokens = torch.rand(5, 4 * channels, 16 * 12)
    path = str(tmp_path / 'decoder.onnx')
    with files.quiet():
        torch.onnx.export(
            Tokens(codec), (tokens[:2],), path, dynamo=False, opset_version=files.OPSET,
            input_names=['tokens'], dynamic_axes={'tokens': {0: 'batch'}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(path)
    for count in (1, 2, 5):
        given = session.run(None, {'tokens': tokens[:count].numpy()})
        for value, wanted in zip(given, Tokens(codec)(tokens[:count]), strict=True):
            np.testing.assert_allclose(value, wanted.numpy(), atol=2e-3)


@pytest.mark.parametrize('reflect', [False, True])
def test_blurring_inside_a_graph_is_the_blur(reflect):
    heatmaps = torch.rand(2, 3, 64, 48)
    np.testing.assert_allclose(
        refinement._blur_in_graph(heatmaps, 11, reflect),
        refinement.blur(heatmaps, 11, reflect),
        atol=1e-6,
    )


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['export', *map(str, arguments)])
    try:
        terminal.run(command.run, command.parser())
    except SystemExit as stop:
        return stop.code
    return 0


@pytest.mark.usefixtures('no_init')
def test_a_segmentor_is_refused(monkeypatch, tmp_path):
    name = 'hrformer_small_cityscapes_512x1024'
    assert run_command(monkeypatch, name, 'a.pth', tmp_path / 'a.onnx') == (
        f"error: config '{name}' builds a Segmentor: `hrformer predict`, `export` and "
        'PoseEstimator are for a TopdownPoseEstimator'
    )


def test_the_command(files_of_a_network, exported, monkeypatch, capsys, people, tmp_path):
    config, checkpoint = files_of_a_network
    before = exported.read_bytes()
    said = run_command(monkeypatch, config, checkpoint, exported)
    assert 'exists' in said
    assert '--force' in said
    assert exported.read_bytes() == before
    (tmp_path / 'weights.bin').write_text('mine')  # where those of an .xml would be written
    said = run_command(monkeypatch, config, checkpoint, tmp_path / 'weights.xml')
    assert said.startswith(f"error: '{tmp_path / 'weights.bin'}' exists: choose another name")
    assert run_command(monkeypatch, config, checkpoint, '') == (
        "error: out '' is empty: give a name or a path"
    )
    out = tmp_path / 'new' / 'out.onnx'
    assert run_command(monkeypatch, config, checkpoint, out, '--no-flip', '--tolerance', 5) == 0
    shown = capsys.readouterr().out
    assert 'ok   onnxruntime' in shown
    assert out.exists()
    assert not [*out.parent.glob('.*')]
    for flags, line in (
        (('--boxes', 'whole-image'), 'error: --boxes is for --images'),
        (('--tolerance', '-1'), 'error: --tolerance -1: give 0 or more'),
        (('--tolerance', '1', '--no-check'), 'error: --tolerance 1: give 0 or more, without --no'),
    ):
        path = tmp_path / 'a.onnx'
        assert run_command(monkeypatch, config, checkpoint, path, *flags).startswith(line)
    assert 'must end in' in run_command(monkeypatch, config, checkpoint, tmp_path / 'a.pt')
    assert 'bfloat16' in run_command(
        monkeypatch, config, checkpoint, tmp_path / 'a.onnx', '--precision', 'bfloat16'
    )
    imagenet = zoo.find('hrformer_tiny_imagenet_224')
    said = run_command(monkeypatch, imagenet, checkpoint, tmp_path / 'a.onnx')
    assert 'ImageClassifier' in said


def test_files_that_are_not_ours(tmp_path, exported):
    with pytest.raises(WeightsError, match='does not exist'):
        open_network(tmp_path / 'none.onnx')
    with pytest.raises(WeightsError, match='neither'):
        open_network(tmp_path / 'none.pth')
    broken = tmp_path / 'broken.onnx'
    broken.write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(WeightsError, match='cannot be read'):
        open_network(broken, 'onnxruntime')
    model = onnx.load(exported)
    del model.metadata_props[:]
    other = tmp_path / 'other.onnx'
    onnx.save(model, other)
    with pytest.raises(WeightsError, match='not written by'):
        open_network(other, 'onnxruntime')
    values = json.loads(open_network(exported).description.to_json())
    onnx.helper.set_model_props(model, {'hrformer_mmpose': json.dumps({**values, 'format': 99})})
    onnx.save(model, other)
    with pytest.raises(WeightsError, match='format 99'):
        open_network(other, 'onnxruntime')
    with pytest.raises(ConfigError, match='backend'):
        open_network(exported, 'tensorrt')


def test_a_codec_that_cannot_be_exported(files_of_a_network, tmp_path):
    config, checkpoint = files_of_a_network
    cfg = read_config(str(config))
    cfg.model.head.decoder = dict(
        type='MSRAHeatmap', input_size=(84, 112), heatmap_size=(42, 56), sigma=1.5
    )
    network = TorchNetwork(cfg, checkpoint, 'cpu', fuse=False)
    with pytest.raises(ConfigError, match='codecs'):
        files.write(network, checkpoint, tmp_path / 'a.onnx')
    cfg.model.head.decoder = None
    with pytest.raises(ConfigError, match='no decoder'):
        TorchNetwork(cfg, checkpoint, 'cpu')


def test_the_runtime_works_without_torch(exported, people, tmp_path):
    """In an environment that holds NumPy, OpenCV and onnxruntime, and nothing else."""
    site = tmp_path / 'site'
    site.mkdir()
    installed = Path(np.__file__).parents[1]
    for name in (
        'numpy', 'numpy.libs', 'cv2', 'opencv_python.libs', 'onnxruntime', 'flatbuffers', 'google',
        'packaging',
    ):  # fmt: skip
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    (site / 'hrformer_mmpose').symlink_to(ROOT / 'hrformer_mmpose')
    images, boxes = people
    code = f"""
import sys, importlib.util
sys.path.append({str(site)!r})
assert importlib.util.find_spec('torch') is None
from hrformer_mmpose.inference import PoseRuntime
poses = PoseRuntime({str(exported)!r})({images[0]!r}, {boxes[images[0]].tolist()!r})
assert len(poses) == {len(boxes[images[0]])}
sys.argv = [
    'hrformer', 'predict', *{images!r}, '--model', {str(exported)!r}, '--boxes', {boxes.path!r},
    '--out', {str(tmp_path / 'out')!r},
]
from hrformer_mmpose.cli.main import main
main()
assert not [name for name in sys.modules if name.split('.')[0] in ('torch', 'mmengine', 'mmpose')]
"""
    done = subprocess.run(
        [sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / 'out' / 'keypoints.json').read_text())
    wanted = [pose.to_coco() for one in PoseRuntime(exported)(*people) for pose in one]
    assert len(results) == len(wanted)
    for a, b in zip(results, wanted, strict=True):
        np.testing.assert_allclose(a['keypoints'], b['keypoints'], atol=2e-4)


@pytest.mark.slow
def test_an_environment_without_torch(exported, people, tmp_path):
    """Made as docs/export.md says; needs a package index."""
    python = tmp_path / 'env' / 'bin' / 'python'
    subprocess.run([sys.executable, '-m', 'venv', tmp_path / 'env'], check=True)
    pip = [python, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
    packages = ['numpy', 'opencv-python-headless<5', 'onnxruntime']
    fetched = subprocess.run([*pip, *packages], capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f'no package index: {fetched.stderr.strip().splitlines()[-1]}')
    subprocess.run([*pip, '--no-deps', ROOT], check=True)

    def hrformer(*arguments) -> subprocess.CompletedProcess:
        program = python.with_name('hrformer')
        return subprocess.run(
            [program, *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True
        )

    images, boxes = people
    done = hrformer(
        'predict', *images, '--model', exported, '--boxes', boxes.path, '--out', 'out'
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / 'out' / 'keypoints.json').read_text())
    wanted = [pose.to_coco() for one in PoseRuntime(exported)(*people) for pose in one]
    for a, b in zip(results, wanted, strict=True):
        np.testing.assert_allclose(a['keypoints'], b['keypoints'], atol=0.01)
    for line in ('models', 'export a b c.onnx', 'doctor'):
        done = hrformer(*line.split())
        assert 'Traceback' not in done.stderr, line
        assert len(done.stderr.splitlines()) <= 1, done.stderr
    assert (
        'torch'
        not in subprocess.run([python, '-m', 'pip', 'list'], capture_output=True, text=True).stdout
    )
