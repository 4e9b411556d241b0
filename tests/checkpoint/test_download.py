"""Weights from an address, served by a server of this process."""

import hashlib
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from hrformer_mmpose.checkpoint import download, load_weights
from hrformer_mmpose.checkpoint.download import name_hash
from hrformer_mmpose.errors import WeightsError


def checkpoint(value: float) -> bytes:
    buffer = io.BytesIO()
    torch.save({'conv1.weight': torch.full((1000,), value)}, buffer)
    return buffer.getvalue()


ONE, TWO = checkpoint(1), checkpoint(2)
DIGEST = hashlib.sha256(ONE).hexdigest()[:8]


class Handler(BaseHTTPRequestHandler):
    """Answers with `server.files[path]`: bytes, or a function that writes the answer."""

    def do_GET(self):
        self.server.requests.append(self.path)
        answer = self.server.files.get(self.path)
        if callable(answer):
            answer(self)
            return
        self.send_response(404 if answer is None else 200)
        self.send_header('Content-Length', str(len(answer or b'')))
        self.end_headers()
        self.wfile.write(answer or b'')

    def log_message(self, *_):
        """Silent."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('no_proxy', '*')
    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        httpd.files, httpd.requests = {}, []
        httpd.url = f'http://127.0.0.1:{httpd.server_address[1]}'
        httpd.cache = tmp_path / 'hub' / 'checkpoints'
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd
        httpd.shutdown()


def value(url: str) -> float:
    (weight,) = load_weights(url).values()
    assert weight.eq(weight[0]).all()
    return weight[0].item()


def refused(url: str) -> str:
    with pytest.raises(WeightsError) as error:
        load_weights(url)
    assert url in str(error.value)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_file_is_fetched_once(server):
    server.files[f'/hrformer-{DIGEST}_20220226.pth?download=1'] = ONE
    for _ in range(2):
        assert value(f'{server.url}/hrformer-{DIGEST}_20220226.pth?download=1') == 1
    assert len(server.requests) == 1


def test_files_of_one_name_at_two_addresses(server):
    server.files.update(
        {'/a/best.pth': ONE, '/b/best.pth': TWO, '/get?id=1': ONE, '/get?id=2': TWO}
    )
    for _ in range(2):
        assert value(f'{server.url}/a/best.pth') == 1
        assert value(f'{server.url}/b/best.pth') == 2
        assert value(f'{server.url}/get?id=1') == 1
        assert value(f'{server.url}/get?id=2') == 2


def cut(handler: Handler) -> None:
    """Promise the whole file, give a part and hang up."""
    handler.send_response(200)
    handler.send_header('Content-Length', str(len(ONE)))
    handler.end_headers()
    handler.wfile.write(ONE[:2000])


def cut_chunks(handler: Handler) -> None:
    handler.protocol_version = 'HTTP/1.1'
    handler.send_response(200)
    handler.send_header('Transfer-Encoding', 'chunked')
    handler.end_headers()
    handler.wfile.write(b'%x\r\n%s\r\n' % (2000, ONE[:2000]))


@pytest.mark.parametrize('answer', [cut, cut_chunks])
def test_a_download_that_breaks_off_leaves_nothing(server, answer):
    server.files['/hrformer.pth'] = answer
    refused(f'{server.url}/hrformer.pth')
    assert not [*server.cache.iterdir()]
    server.files['/hrformer.pth'] = ONE
    assert value(f'{server.url}/hrformer.pth') == 1


@pytest.mark.parametrize('name', ['hrformer-{}_20220226.pth', 'hrformer_{}.pth', '{}-x-{}.pth'])
def test_the_hash_in_the_name_is_checked(server, name):
    url = '/' + name.format(DIGEST, DIGEST)
    server.files[url] = TWO
    assert f'its name says {DIGEST}' in refused(server.url + url)
    assert not [*server.cache.iterdir()]
    server.files[url] = ONE
    assert value(server.url + url) == 1


@pytest.mark.parametrize(
    ('name', 'digits'),
    [
        ('hrformer_base_coco_256x192-09516375_20220226.pth', '09516375'),
        ('td-hm_hrnet-w32_8xb64-210e_coco-256x192-81c58e40_20220909.pth', '81c58e40'),
        ('resnet50-0676ba61.pth', '0676ba61'),
        ('model_20220226.pth', None),
        ('hrformer_small.pth', None),
        ('best_coco_AP_epoch_210.pth', None),
    ],
)
def test_the_hash_is_told_from_the_date(name, digits):
    assert name_hash(name) == digits


def test_an_address_that_does_not_answer(server, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.2)
    server.files['/slow.pth'] = lambda handler: time.sleep(2)
    assert 'timed out' in refused(f'{server.url}/slow.pth')
    assert '404' in refused(f'{server.url}/missing.pth')
    refused('http://127.0.0.1:9/hrformer.pth')


@pytest.mark.parametrize(
    'url', ['{}/models/', '{}', 'http://[::1/x.pth', 'http://127.0.0.1:x/x.pth', '{}/ä ö.pth']
)
def test_an_address_of_no_file(server, url):
    refused(url.format(server.url))


def test_with_no_scheme_of_the_web():
    with pytest.raises(WeightsError, match='give a local path'):
        load_weights('s3://bucket/hrformer.pth')


def test_what_others_cached_counts_if_its_hash_does(server):
    """PyTorch and MMEngine keep files under the last part of the address alone."""
    server.cache.mkdir(parents=True)
    name, other = f'hrformer-{DIGEST}_20220226.pth', 'best.pth'
    (server.cache / name).write_bytes(ONE)
    assert value(f'{server.url}/{name}') == 1
    assert not server.requests
    (server.cache / other).write_bytes(TWO)  # of who knows which address
    server.files[f'/{other}'] = ONE
    assert value(f'{server.url}/{other}') == 1
    damaged = f'swin-{DIGEST}.pth'
    (server.cache / damaged).write_bytes(ONE[:2000])
    server.files[f'/{damaged}'] = ONE
    assert value(f'{server.url}/{damaged}') == 1


def test_a_link_in_the_cache_is_not_followed(server, tmp_path):
    server.files['/hrformer.pth'] = ONE
    assert value(f'{server.url}/hrformer.pth') == 1
    (cached,) = server.cache.iterdir()
    cached.unlink()
    victim = tmp_path / 'victim'
    victim.write_text('precious')
    for name in (cached, f'{cached}.partial'):
        server.cache.joinpath(name).symlink_to(tmp_path / 'nothing' if name == cached else victim)
    assert value(f'{server.url}/hrformer.pth') == 1
    assert victim.read_text() == 'precious'
