"""The example service: the poses of `PoseRuntime`, batches across requests, bad uploads."""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

pytest.importorskip('fastapi')
pytest.importorskip('httpx')
pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from fastapi.testclient import TestClient

from hrformer_mmpose.export import files
from hrformer_mmpose.inference import PoseRuntime, digest
from tests.conftest import ROOT
from tests.export.test_damaged_files import DESCRIPTION, linear_network

BOXES = [[10, 20, 60, 120], [30, 5, 90, 110]]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp('model') / 'linear.onnx'
    linear_network(path)
    files.add_metadata(path, DESCRIPTION)
    digest.seal(path)
    return path


@pytest.fixture
def service(model, monkeypatch):
    """The module, as uvicorn imports it."""
    monkeypatch.setenv('MODEL', str(model))
    spec = importlib.util.spec_from_file_location('service', ROOT / 'examples/service.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(service):
    with TestClient(service.app) as client:
        yield client


def picture(seed: int, suffix: str = '.png') -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(seed).integers(0, 255, (130 + seed, 100, 3), np.uint8)
    data = cv2.imencode(suffix, cv2.GaussianBlur(pixels, (0, 0), 3))[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR), data.tobytes()


def expected(model, image, boxes) -> list[dict]:
    return [pose.to_coco() for pose in PoseRuntime(model)(image, boxes)]


def test_the_poses_of_each_request_are_its_own(client, model):
    pictures = [picture(seed) for seed in range(8)]
    boxes = json.dumps(BOXES)

    def ask(number: int) -> dict:
        given = dict(boxes=boxes) if number % 2 else {}
        answer = client.post('/poses', content=pictures[number][1], params=given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    with ThreadPoolExecutor(8) as executor:
        answers = [*executor.map(ask, range(8))]
    for number, (answer, (image, _)) in enumerate(zip(answers, pictures, strict=True)):
        assert (answer['height'], answer['width']) == image.shape[:2]
        rows = BOXES if number % 2 else [[0, 0, image.shape[1], image.shape[0]]]
        assert answer['poses'] == expected(model, image, rows)
    count = client.get('/health').json()
    assert count['requests'] == 8
    assert 1 <= count['runs'] <= 8


def test_waiting_requests_share_a_run(service, model):
    async def run() -> tuple[list, dict]:
        queue, count = asyncio.Queue(), dict(requests=0, runs=0)
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in range(5)]
        futures[1].cancel()  # its client is gone
        for number, future in enumerate(futures):
            queue.put_nowait((picture(number)[0], BOXES, future))
        task = asyncio.create_task(service.work(PoseRuntime(model), queue, count))
        results = await asyncio.gather(*(f for f in futures if not f.cancelled()))
        task.cancel()
        return results, count

    results, count = asyncio.run(run())
    assert count == dict(requests=5, runs=1)
    for number, result in zip((0, 2, 3, 4), results, strict=True):
        poses = [pose.to_coco() for pose in result.poses]
        assert poses == expected(model, picture(number)[0], BOXES)


@pytest.mark.parametrize(
    ('content', 'boxes', 'status', 'sentence'),
    [
        (b'', None, 422, 'is empty'),
        (b'text', None, 422, 'not an image that can be decoded'),
        (picture(0, '.jpg')[1][:2000], None, 422, 'is cut short'),
        (picture(0)[1], '[[1, 2', 422, 'boxes is no JSON list'),
        (picture(0)[1], '[[1, 2, 3]]', 422, 'the image'),
        (picture(0)[1], '{"a": 1}', 422, 'box'),
        (picture(0)[1], '"x"', 422, 'box'),
        (picture(0)[1], 'null', 422, 'box'),
        (picture(0)[1], '[[50, 50, 10, 90]]', 422, 'box 0 of the image'),
        (picture(0)[1], '[' * 20000, 422, 'boxes is no JSON list'),
    ],
    ids=range(10),
)
def test_bad_uploads_are_answered_with_a_sentence(client, content, boxes, status, sentence):
    answer = client.post('/poses', content=content, params=dict(boxes=boxes) if boxes else {})
    assert answer.status_code == status
    assert sentence in answer.json()['detail']
    assert '\n' not in answer.json()['detail']
    assert client.post('/poses', content=picture(1)[1]).status_code == 200  # the service goes on


def test_large_uploads_and_too_many_requests(client, service, monkeypatch):
    monkeypatch.setattr(service, 'MAX_BYTES', 100)
    answer = client.post('/poses', content=picture(0)[1])
    assert (answer.status_code, answer.json()['detail']) == (
        413,
        'the image has more than 100 bytes',
    )
    monkeypatch.setattr(service, 'MAX_BYTES', 2**20)

    def full(job):
        raise asyncio.QueueFull

    monkeypatch.setattr(service.app.state.queue, 'put_nowait', full)
    answer = client.post('/poses', content=picture(0)[1])
    assert answer.status_code == 503
    assert answer.headers['Retry-After'] == '1'


def test_a_network_that_fails_does_not_end_the_service(client, service, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(PoseRuntime, 'stream', lambda *_: [].no_attribute)
        answer = client.post('/poses', content=picture(0)[1])
        assert answer.status_code == 500
    assert client.post('/poses', content=picture(0)[1]).status_code == 200


def test_no_image_is_no_pose(client):
    answer = client.post('/poses', content=picture(0)[1], params=dict(boxes='[]'))
    assert answer.json()['poses'] == []


@pytest.mark.slow
def test_the_load_test_prints_its_table(model, tmp_path):
    """With uvicorn, as a user starts both."""
    pytest.importorskip('uvicorn')
    (tmp_path / 'image.png').write_bytes(picture(0)[1])
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    examples = ROOT / 'examples'
    server = [sys.executable, '-m', 'uvicorn', 'service:app', '--app-dir', examples, '--port', port]
    process = subprocess.Popen(server, env=os.environ | dict(MODEL=str(model)))
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', int(port))):
                break
            time.sleep(0.1)
        words = [tmp_path / 'image.png', '--url', f'http://127.0.0.1:{port}', '--seconds', '0.5']
        command = [sys.executable, examples / 'load_test.py', *words, '--clients', '1', '3']
        table = subprocess.check_output(command, text=True, timeout=100)
    finally:
        process.terminate()
        process.wait()
    rows = [line.strip('| ').split(' | ') for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == ['1', '3']
    for clients, rate, median, high, together, cpu in (map(float, row) for row in rows):
        assert rate > 0
        assert median <= high
        assert 1 <= together <= clients
        assert cpu > 0


def test_the_service_is_short_and_the_dockerfile_copies_what_exists():
    assert len((ROOT / 'examples/service.py').read_text().splitlines()) < 100
    text = (ROOT / 'examples/Dockerfile').read_text()
    for line in re.findall(r'^COPY (.+) \S+$', text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in line.split())
