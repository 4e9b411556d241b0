"""tools/benchmark.py: what it writes is complete and adds up. (How fast is no matter for tests.)"""

import json

import pytest
import torch

pytest.importorskip('mmpose')
from mmengine.registry import DefaultScope

from hrformer_mmpose import zoo
from hrformer_mmpose.benchmark import poses, report, whole
from hrformer_mmpose.cli import benchmark, benchmark_codecs, launch
from hrformer_mmpose.cli import export as command_export
from hrformer_mmpose.cli.arguments import write_json
from hrformer_mmpose.errors import ConfigError, UserError


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run_benchmark(*words: str) -> None:
    benchmark.run(benchmark.parser().parse_args(words))


def time_networks(*words: str) -> None:
    small = ['--arch', 'tiny', '--device', 'cpu', '--rounds', '2', '--batch-size', '1']
    run_benchmark('networks', *small, '--train-batch-size', '2', '--size', '64x64', *words)


@pytest.mark.slow
def test_networks_in_turns(tmp_path, capsys):
    out = tmp_path / 'figures.json'
    time_networks('--no-hrnet', '--json', str(out), '--precision', 'float32')
    rows = json.loads(out.read_text())['rows']
    kinds = {(row['network'], row['training'], row['precision']) for row in rows}
    assert len(rows) == len(kinds) == 2 * 2
    for row in rows:
        assert len(row['seconds']) == len(row['ratios']) == 2
        assert 0 < row['share_of_matmul_rate'] < 1
        if row['network'] == 'mmpose':
            assert row['ratios'] == [1.0, 1.0]
    shown = capsys.readouterr().out
    difference = float(shown.split('relative L2 difference ')[1].split()[0])
    assert 0 < difference < 1e-5
    assert 'GFLOPs' in shown


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (('--size', '250x192'), 'multiples of 32'),
        (('--size', 'large'), 'HEIGHTxWIDTH'),
        (('--device', 'cuda'), 'no CUDA device'),
    ],
)
def test_mistakes_are_named(words, says):
    if says == 'no CUDA device' and torch.cuda.is_available():
        pytest.skip('there is one')
    with pytest.raises(ConfigError, match=says):
        time_networks(*words)


TIMINGS = {
    'networks': (benchmark, 'networks'),
    'poses': (benchmark, 'poses', 'CONFIG'),
    'engines': (benchmark, 'engines'),
    'motion': (benchmark, 'motion'),
    'codecs': (benchmark_codecs,),
}


@pytest.mark.parametrize('kind', TIMINGS)
def test_the_file_of_the_measurements_is_checked_first(tmp_path, kind):
    (tmp_path / 'file').touch()
    command, *words = TIMINGS[kind]
    args = command.parser().parse_args([*words, '--json', str(tmp_path / 'file/out.json')])
    with pytest.raises(ConfigError, match='is a file, not a folder'):
        command.run(args)


def test_the_folder_of_the_measurements_is_created(tmp_path):
    write_json(str(tmp_path / 'new/out.json'), dict(rows=[]))
    assert json.loads((tmp_path / 'new/out.json').read_text()) == dict(rows=[])


def test_the_folder_of_a_table_is_created(tmp_path):
    report.write(str(tmp_path / 'new/table.md'), 'text')
    assert (tmp_path / 'new/table.md').read_text() == 'text'


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['--rounds', '0'], 'not a whole number of at least 1'),
        (['--batch-size', '0'], 'not a whole number of at least 1'),
        (['--device', 'foo'], 'no device of PyTorch'),
    ],
)
def test_mistakes_in_the_timing_of_codecs(words, line, capsys):
    with pytest.raises((ConfigError, SystemExit)) as caught:
        benchmark_codecs.run(benchmark_codecs.parser().parse_args(words))
    assert line in f'{caught.value} {capsys.readouterr().err}'


@pytest.mark.slow
def test_the_parts_of_whole_iterations_add_up(synthetic_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('DEMO_ROOT', str(synthetic_root))
    options = {'train_dataloader.batch_size': 2, 'test_dataloader.batch_size': 4}
    config = zoo.find('hrformer_tiny_demo_112x84')
    found = whole.benchmark(config, options, str(tmp_path), 1, launch.build_runner)
    for part in ('forward pass', 'backward pass', 'optimizer', 'waiting for data'):
        assert found['training']['seconds'][part] > 0
    for part in ('forward passes', 'decoding', 'metric', 'waiting for data'):
        assert found['test']['seconds'][part] > 0
    for result in found.values():
        parts = dict(result['seconds'])
        assert parts.pop('whole iteration') == pytest.approx(sum(parts.values()))
        assert parts['the rest'] >= 0
        assert result['bound'] in parts
    assert 'bounded by' in capsys.readouterr().out
    DefaultScope._instance_dict.clear()


@pytest.mark.slow
def test_exported_files_beside_mmpose(tmp_path, capsys):
    """The commands of docs/export.md, in small: both follow the config's flip test."""
    config, exported = 'hrformer_tiny_coco_256x192', tmp_path / 't.onnx'
    weights = poses.random_weights(config, str(tmp_path))
    command_export.run(command_export.parser().parse_args([config, weights, str(exported)]))
    words = ['poses', config, '--checkpoint', weights, '--exported', str(exported), '--rounds', '1']
    run_benchmark(*words, '--batch-size', '1')
    assert 'flip test: True' in capsys.readouterr().out
    with pytest.raises(UserError, match='was exported with --flip; give the same option here'):
        run_benchmark(*words, '--no-flip')
