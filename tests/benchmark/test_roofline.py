"""Least times from counts, and the commands that count."""

import pytest

pytest.importorskip('mmpose')
from hrformer_mmpose.benchmark import counts, roofline
from hrformer_mmpose.benchmark.complexity import Counts
from hrformer_mmpose.benchmark.counts import Row
from hrformer_mmpose.benchmark.roofline import GPU, RooflineOptions, Work
from hrformer_mmpose.cli import benchmark as command
from hrformer_mmpose.errors import ConfigError


def test_least_times():
    """2 TB/s for 10 GB, and 100 TFLOP/s for 1000 G multiply-adds, which are two FLOPs each."""
    gpu, work = GPU('G', 2e12, 100e12), Counts(calls=7, traffic=10e9, flops=1000e9)
    assert roofline.least_seconds(gpu, work) == (5e-3, 20e-3)
    assert roofline._least(gpu, Work('step', 'ours', 32, work)) == (
        'G', 'step', 'ours', '5.0', '20.0', '1600',
    )  # fmt: skip
    assert roofline._counted(Work('step', 'ours', 32, work)) == ('step, ours', '7', '10.0', '1000')


def test_the_gpus_are_those_of_the_data_sheets():
    """Bytes per multiply-add must fall: each generation computes more for what it reads."""
    rates = {gpu.name.split()[0]: gpu.bandwidth / gpu.peak for gpu in roofline.GPUS}
    assert rates['V100'] > rates['A100'] > rates['H100'] < rates['H200']


@pytest.fixture
def document(tmp_path):
    file = tmp_path / 'speed.md'
    sections = (f'<!-- {name} -->\n<!-- end of {name} -->\n' for name in ('counts', 'roofline'))
    file.write_text(''.join(sections))
    return file


@pytest.mark.slow
def test_the_roofline_of_a_small_network(document):
    lines = roofline.run(RooflineOptions('tiny', (64, 32), 4, 5, str(document)))
    assert '\n'.join(lines) in document.read_text()
    for step in ('training step, batch 5', 'inference, batch 4'):
        assert sum(f'| {step} |' in line for line in lines) == 2 * len(roofline.GPUS)
        assert sum(f'| {step}, ' in line for line in lines) == 2


@pytest.mark.slow
def test_counts_beside_mmpose(document, capsys):
    words = ['--arch', 'tiny', '--size', '64x32', '--norm', 'BN', '--operators', '3']
    words += ['--update', str(document)]
    command.run_tool(command.tool_parser().parse_args(['counts', *words]))
    shown = capsys.readouterr().out
    assert '| training step, bfloat16 | ours, BN, with_cp | ' in shown
    assert '| inference, bfloat16 | ours |  | ' in shown
    assert 'aten._to_copy' in shown
    assert '| training step, bfloat16 | MMPose | ' in document.read_text()


@pytest.mark.slow
def test_checkpoints_keep_less_and_compute_more():
    rows = [row.counts for row in counts.count_networks('tiny', (64, 32), 'float32', 1)]
    theirs, ours, checkpoints, *_ = rows
    assert checkpoints.kept < ours.kept < theirs.kept
    assert checkpoints.flops > ours.flops


def test_cells():
    ours, theirs = Counts(50, 2**20, 1e9, 2**21), Counts(100, 2**22, 2e9, 2**23)
    cells = Row('step', 'ours', ours, theirs).cells()
    assert cells == ['step', 'ours', '2 MiB (0.250)', '50 (0.500)', '1 MiB (0.250)', '1 G (0.500)']


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (('counts', '--size', '65x32'), 'multiples of 32'),
        (('roofline', '--size', 'x'), 'HEIGHTxWIDTH'),
        (('roofline', '--update', '/nowhere/speed.md'), 'No such file'),
        (('--markdown', 'x.txt'), 'must end in .md'),
        (('--device', 'nonsense'), '--device nonsense: '),
    ],
)
def test_mistakes_are_one_line(words, says):
    with pytest.raises(ConfigError, match=says) as caught:
        command.run_tool(command.tool_parser().parse_args(words))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (('--minutes', '0'), 'not a number of minutes'),
        (('--minutes', 'nan'), 'not a number of minutes'),
        (('--rounds', '0'), 'at least 1'),
        (('--batch-size', '-1'), 'at least 1'),
        (('--arch', 'large'), 'invalid choice'),
        (('counts', '--precision', 'float8'), 'invalid choice'),
    ],
)
def test_values_out_of_range(words, says, capsys):
    with pytest.raises(SystemExit):
        command.tool_parser().parse_args(words)
    assert says in capsys.readouterr().err
