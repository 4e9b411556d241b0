"""hf://OWNER/REPO[/FILE][@REVISION], served by a server of this process."""

import io
import sys
from pathlib import Path

import pytest
import torch

from hrformer_mmpose.checkpoint import hub, load_weights
from hrformer_mmpose.errors import WeightsError
from tests.hub_server import COMMIT, OLD, connect, serving

SAFETENSORS = 'model.safetensors'


def checkpoint(value: float, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    tensors = {'conv1.weight': torch.full((1000,), value)}
    torch.save(tensors, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path, monkeypatch):
    pytest.importorskip('huggingface_hub')
    with serving(monkeypatch, tmp_path / 'cache') as server:
        yield server


def value(source: str) -> float:
    return load_weights(source)['conv1.weight'][0].item()


def refused(source: str) -> str:
    with pytest.raises(WeightsError) as error:
        load_weights(source)
    assert source in str(error.value)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ('hf://a/b', ('a/b', '', 'main')),
        ('hf://a/b@v1', ('a/b', '', 'v1')),
        ('hf://a/b/m.pth', ('a/b', 'm.pth', 'main')),
        ('hf://a-1/b.c_2/x/m.pth@refs/pr/1', ('a-1/b.c_2', 'x/m.pth', 'refs/pr/1')),
    ],
)
def test_addresses(source, expected):
    parsed = hub.parse(source)
    assert (parsed.repo, parsed.file, parsed.revision) == expected


@pytest.mark.parametrize(
    'path', ['', 'a', 'a/', 'a/b@', 'a/b/../c', 'a/b//c', 'a b/c', 'a/b/c/', 'a/b@v1/../../x']
)
def test_addresses_of_another_form(path):
    assert 'hf://OWNER/REPO[/FILE][@REVISION]' in refused(f'hf://{path}')


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    assert "pip install 'hrformer-mmpose[hub]'" in refused('hf://a/b')


def test_the_file_is_fetched_once_and_its_revision_is_named(server, capsys):
    server.repos['a/b'] = {COMMIT: {'README.md': b'card', 'x/m.pth': checkpoint(1)}}
    assert value('hf://a/b') == 1  # the only file of weights
    assert f'@{COMMIT} pins it' in capsys.readouterr().err
    assert value('hf://a/b/x/m.pth') == 1
    assert 'pins it' not in capsys.readouterr().err
    assert sum('GET /a/b/resolve' in line for line in server.requests) == 1


def test_a_pinned_file_needs_no_network_again(server):
    files = {SAFETENSORS: checkpoint(3), 'other.pth': checkpoint(2)}
    server.repos['a/b'] = {COMMIT: files, OLD: {'m.pth': checkpoint(1)}}
    assert value('hf://a/b@v1') == 1
    assert value(f'hf://a/b@{OLD}') == 1
    assert value(f'hf://a/b@{COMMIT}') == 3  # model.safetensors before others
    server.requests.clear()
    assert value(f'hf://a/b@{COMMIT}') == 3
    assert value(f'hf://a/b/m.pth@{OLD}') == 1
    assert not server.requests


def test_a_cached_file_is_used_when_the_hub_does_not_answer(server, monkeypatch):
    server.repos['a/b'] = {COMMIT: {SAFETENSORS: checkpoint(1)}}
    assert value('hf://a/b') == 1
    connect(monkeypatch)
    assert value('hf://a/b') == 1
    assert 'not cached' in refused('hf://a/c')
    assert 'not cached' in refused('hf://a/b/other.pth')


def test_a_hash_that_differs(server):
    server.repos['a/b'] = {COMMIT: {'m.pth': checkpoint(1), 's.pth': b'short'}}
    server.tampered['m.pth'] = checkpoint(2)
    assert 'another hash than the Hub states' in refused('hf://a/b/m.pth')
    assert 'another hash than the Hub states' in refused(f'hf://a/b/m.pth@{COMMIT}')
    server.tampered['s.pth'] = b'shark'
    assert 'another hash than the Hub states' in refused('hf://a/b/s.pth')


@pytest.mark.parametrize('revision', ['', f'@{COMMIT}'])
def test_a_damaged_cached_copy_is_fetched_again(server, revision):
    server.repos['a/b'] = {COMMIT: {'m.pth': checkpoint(1)}}
    path = Path(hub.fetch(f'hf://a/b/m.pth{revision}'))
    path.resolve().write_bytes(checkpoint(2))
    assert value(f'hf://a/b/m.pth{revision}') == 1


def test_names_that_do_not_exist_and_near_ones(server):
    weights = {'best.pth': checkpoint(1), 'last.pth': checkpoint(2)}
    server.repos['lab/hrformer'] = {COMMIT: weights}
    server.repos['lab/texts'] = {COMMIT: {'README.md': b'text'}}
    assert 'near ones: lab/hrformer' in refused('hf://lab/hrfomer')
    assert 'near ones: lab/hrformer' in refused('hf://lab/hrfomer/best.pth')
    assert "no revision 'mian'; near ones: main" in refused('hf://lab/hrformer@mian')
    assert "no file 'bets.pth'; near ones: best.pth" in refused('hf://lab/hrformer/bets.pth')
    assert 'hf://lab/hrformer/best.pth (also last.pth)' in refused('hf://lab/hrformer')
    assert 'holds no weights, only README.md' in refused('hf://lab/texts')


def test_a_gated_repository(server, monkeypatch):
    server.repos['a/b'] = {COMMIT: {'m.pth': checkpoint(1)}}
    monkeypatch.setattr(
        type(server).RequestHandlerClass if False else server.RequestHandlerClass,
        'commit',
        lambda self, _: self.fail('GatedRepo'),
    )
    assert 'gated' in refused('hf://a/b/m.pth')


def test_an_older_file_format(server):
    server.repos['a/b'] = {
        COMMIT: {'pytorch_model.bin': checkpoint(1, legacy=True), 'x.pth': b'\x80\x02l\n.' * 999}
    }
    assert value('hf://a/b/pytorch_model.bin') == 1
    with pytest.raises(WeightsError, match='damaged or no checkpoint'):
        load_weights('hf://a/b/x.pth')
