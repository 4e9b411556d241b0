"""The table of precisions and engines."""

from types import SimpleNamespace

import pytest

pytest.importorskip('mmpose')
pytest.importorskip('onnx')

from hrformer_mmpose.benchmark import engine_accuracy, engines
from hrformer_mmpose.benchmark.engine_networks import NETWORKS, network
from hrformer_mmpose.benchmark.engines import ENGINES, EngineOptions, title
from hrformer_mmpose.errors import ConfigError


def row(name, *seconds):
    return dict(network=name, seconds=[*seconds], median_s=sorted(seconds)[len(seconds) // 2])


def test_the_table_has_a_row_an_engine_and_times_of_the_same_round():
    names = 'HRFormer-B', 'HRNet-W48'
    rows = []
    for number, engine in enumerate(ENGINES, start=1):
        # The machine is twice as slow in the second round.
        rows.append(
            row(f'{names[0]}, {title(*engine)}', 0.12 * number, 0.24 * number, 0.12 * number)
        )
        rows.append(
            row(f'{names[1]}, {title(*engine)}', 0.08 * number, 0.16 * number, 0.09 * number)
        )
    rows[2] = dict(network=rows[2]['network'], failure='failed: no a|b')
    accuracies = {'OpenVINO int8': dict(ap=16.9, ap_lost=0.114, p95=2.833)}
    results = dict(rows=rows, accuracies=accuracies, batch_size=4)
    lines = engines.lines(results, names)
    assert lines[0] == '| engine, precision | HRFormer-B | HRNet-W48 | AP lost | shift, 95 % |'
    assert len(lines) == 2 + len(ENGINES)
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


@pytest.mark.slow
@pytest.mark.parametrize('name', NETWORKS)
def test_the_networks_have_17_keypoints(name):
    import torch

    with torch.inference_mode():
        outputs = network(name)(torch.rand(1, 3, 256, 192))
    shapes = [tuple(x.shape) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
    assert shapes == ([(1, 17, 384), (1, 17, 512)] if 'RTM' in name else [(1, 17, 64, 48)])


@pytest.mark.slow
def test_all_engines_run(tmp_path, capsys):
    pytest.importorskip('nncf')
    pytest.importorskip('openvino')
    options = EngineOptions(['RTMPose-m'], 2, 1, 3, str(tmp_path / 'files'), str(tmp_path / 'a.md'))
    results = engines.benchmark(options)
    assert [row['network'].split(', ')[1] for row in results['rows']] == [
        title(*engine) for engine in ENGINES
    ]
    assert all(len(row['seconds']) == 3 for row in results['rows'])
    assert len((tmp_path / 'a.md').read_text().splitlines()) == 2 + len(ENGINES)
    assert (tmp_path / 'files' / 'RTMPose-m-int8.onnx').stat().st_size < (
        0.5 * (tmp_path / 'files' / 'RTMPose-m.onnx').stat().st_size
    )
