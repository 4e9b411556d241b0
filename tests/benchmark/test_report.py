"""Tables as Markdown."""

import pytest
import torch

from hrformer_mmpose.benchmark import report
from hrformer_mmpose.errors import ConfigError


def row(network: str, seconds: list[float], **settings) -> dict:
    case = dict(arch='base', size=(256, 192), precision='float16', training=False, batch=8)
    ratios = sorted(4.0 / s for s in seconds)
    measured = dict(median_s=sorted(seconds)[1], seconds=seconds, ratios=ratios)
    return dict(network=network, cuda_peak_bytes=3 * 2**20, **measured) | case | settings


def test_a_table_worked_out_by_hand():
    rows = [
        row('ours', [2.0, 1.0, 4.0]),
        row('hrnet_w48', [1.0, 1.0, 1.0], cuda_peak_bytes=None),
        row('hrnet_w48', [9.0] * 3, training=True, ratios=[]),
        dict(row('ours', [1.0] * 3, training=True), failure='failed: a | b'),
    ]
    shown = report.markdown(
        dict(environment=dict(device='V100'), matmul_rates=dict(float16=5e13), rows=rows)
        | dict(differences=[dict(arch='base', network='ours', precision='float16', difference='1')])
    )
    assert '- device: V100\n' in shown
    assert '50.00 T multiply-adds/s' in shown
    assert '\n## HRFormer base, 256x192, float16\n' in shown
    lines = [line for line in shown.splitlines() if line.startswith(('| inf', '| train'))]
    assert lines == [
        '| inference, batch 8 | ours | 4.0 | (2.0 to 8.0) | 2.00 | (1.00 to 4.00) | 2.00 | 3 |',
        '| inference, batch 8 | hrnet_w48 | 8.0 | (8.0 to 8.0) | 4.00 | (4.00 to 4.00) | 1.00 |  |',
        '| training step, batch 8 | hrnet_w48 | 0.9 | (0.9 to 0.9) |  |  | 1.00 | 3 |',
        '| training step, batch 8 | ours | failed: a / b |  |  |  |  |  |',
    ]


def test_the_environment_of_a_gpu(monkeypatch):
    card = type('Card', (), dict(name='Tesla V100', total_memory=2**35, major=7, minor=0))
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: card)
    shown = report.environment(torch.device('cuda'), 2)
    assert shown['device'] == 'Tesla V100, 32 GiB'
    assert shown['compute capability'] == '7.0'
    assert f'torch {torch.__version__}' in shown['versions']


def test_a_section_is_replaced(tmp_path):
    file = tmp_path / 'speed.md'
    file.write_text('a\n<!-- counts -->\nold\n<!-- end of counts -->\nb\n')
    for _ in range(2):
        report.update(str(file), 'counts', ['new', ''])
    assert file.read_text() == 'a\n<!-- counts -->\n\nnew\n\n<!-- end of counts -->\nb\n'
    report.update(None, 'counts', ['new'])


@pytest.mark.parametrize('content', [None, 'text', '<!-- counts -->', b'\xff\xfe\xff'])
def test_files_without_the_section(tmp_path, content):
    file = tmp_path / 'x.md'
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=r'^--update .+$'):
        report.update(str(file), 'counts', [])
