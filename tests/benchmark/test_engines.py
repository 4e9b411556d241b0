"""The table of precisions and engines."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmpose')
pytest.importorskip('onnx')

from hrformer_mmpose.benchmark import engine_accuracy, engine_steps, engines
from hrformer_mmpose.benchmark.engine_networks import NETWORKS, network, write_onnx
from hrformer_mmpose.benchmark.engine_steps import ENGINES
from hrformer_mmpose.benchmark.engines import EngineOptions
from hrformer_mmpose.errors import ConfigError
from hrformer_mmpose.inference.description import Description
from hrformer_mmpose.inference.onnx_session import OnnxSession
from tests.conftest import relative_error


def row(name, *seconds):
    return dict(network=name, seconds=[*seconds], median_s=sorted(seconds)[len(seconds) // 2])


def test_the_table_has_a_row_an_engine_and_times_of_the_same_round():
    names = 'HRFormer-B', 'HRNet-W48'
    rows = []
    for number, engine in enumerate(ENGINES['cpu'], start=1):
        # The machine is twice as slow in the second round.
        rows.append(row(f'{names[0]}, {engine}', 0.12 * number, 0.24 * number, 0.12 * number))
        rows.append(row(f'{names[1]}, {engine}', 0.08 * number, 0.16 * number, 0.09 * number))
    rows[2] = dict(network=rows[2]['network'], failure='failed: no a|b')
    accuracies = {'OpenVINO int8': dict(ap=16.9, ap_lost=0.114, p95=2.833)}
    results = dict(
        rows=rows, accuracies=accuracies, batch_size=4, engines=[*map(str, ENGINES['cpu'])]
    )
    lines = engines.lines(results, names)
    assert lines[0] == '| engine, precision | HRFormer-B | HRNet-W48 | AP lost | shift, 95 % |'
    assert len(lines) == 2 + len(ENGINES['cpu'])
    assert lines[2] == '| PyTorch float32 | 30 (1.50) | 22 (1.00) |  |  |'
    assert lines[3] == '| PyTorch bfloat16 | failed: no a/b | 45 (1.00) |  |  |'
    assert lines[6] == '| OpenVINO int8 | 150 (1.50) | 112 (1.00) | 0.11 | 2.83 |'


def test_the_processors_instructions_are_read(monkeypatch):
    text = 'model name\t: Fast\nflags\t\t: fpu avx2 avx512f avx512_bf16\n'
    monkeypatch.setattr(engines, 'Path', lambda _: SimpleNamespace(read_text=lambda: text))
    assert engines.instructions() == 'Fast: avx2, avx512f, avx512_bf16'


def test_accuracy_needs_its_data():
    options = engine_accuracy.TrainedOptions(('c', 'p'), None, 'a.json', None, 'b.json', 1, 'x')
    with pytest.raises(ConfigError, match=r'^--trained needs --calibrate, --images$'):
        engine_accuracy.measure(options)


def test_files_of_a_trained_network_are_those_of_its_checkpoint(tmp_path):
    checkpoint, names = tmp_path / 'epoch_1.pth', []
    for content in (b'first', b'second', b'first'):
        checkpoint.write_bytes(content)
        files = engine_accuracy._files(tmp_path, 'configs/small.py', str(checkpoint))
        names.append({path.name for path, _ in files.values()})
    assert names[0] == names[2]
    assert names[0].isdisjoint(names[1])
    assert all(name.startswith('small-') for name in names[0])


def test_an_engine_that_does_not_start_is_a_row_that_says_so(tmp_path, monkeypatch):
    """TensorRT, without a GPU."""
    monkeypatch.setattr(engine_steps, '_file', lambda *_: tmp_path / 'network.onnx')
    engine = ENGINES['cuda'][-1]
    (step,) = engine_steps.build(
        'RTMPose-m', None, [engine], tmp_path, 1, torch.device('cuda', 1)
    ).values()
    with pytest.raises(ImportError, match="device='tensorrt:1' needs the TensorrtExecution"):
        step()
    rows = [dict(network=f'RTMPose-m, {engine}', failure='failed: needs a')]
    results = dict(rows=rows, accuracies={}, batch_size=4, engines=[str(engine)])
    table = engines.lines(results, ['RTMPose-m'])
    assert table[2:] == ['', 'TensorRT float16: failed: needs a']


def test_a_device_without_engines_is_one_line():
    with pytest.raises(ConfigError, match=r'^--device meta: engines are measured on cpu, cuda, '):
        engines.engine_device('meta')


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
def test_an_exported_network_equals_the_network(name, dtype, tmp_path):
    path, precision = tmp_path / 'network.onnx', str(dtype).split('.')[1]
    write_onnx(name, path, precision)
    images = torch.rand(2, 3, 256, 192)
    with torch.inference_mode():
        expected = network(name)(images)
    session = OnnxSession(path, device='cpu')
    found = [torch.from_numpy(output) for output in session.run(images.numpy())]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype is torch.float32
        assert relative_error(a, b) < (1e-4 if dtype is torch.float32 else 0.02)
    assert Description.from_json(session.metadata, path).precision == precision


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_the_networks_have_17_keypoints(name):
    with torch.inference_mode():
        outputs = network(name)(torch.rand(1, 3, 256, 192))
    shapes = [tuple(x.shape) for x in outputs]
    assert shapes == ([(1, 17, 384), (1, 17, 512)] if 'RTM' in name else [(1, 17, 64, 48)])


@pytest.mark.slow
def test_all_engines_run(tmp_path, capsys):
    pytest.importorskip('nncf')
    pytest.importorskip('openvino')
    options = EngineOptions(['RTMPose-m'], 2, 1, 3, str(tmp_path / 'files'), str(tmp_path / 'a.md'))
    results = engines.benchmark(options)
    assert [row['network'].split(', ')[1] for row in results['rows']] == [
        str(engine) for engine in ENGINES['cpu']
    ]
    assert all(len(row['seconds']) == 3 for row in results['rows'])
    assert len((tmp_path / 'a.md').read_text().splitlines()) == 2 + len(ENGINES['cpu'])
    assert (tmp_path / 'files' / 'RTMPose-m-int8.onnx').stat().st_size < (
        0.5 * (tmp_path / 'files' / 'RTMPose-m.onnx').stat().st_size
    )
