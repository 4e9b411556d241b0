"""The page's server, asked without a browser: many visitors, hostile requests, headers."""

import os
import re
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest

pytest.importorskip('gradio')
from hrformer_mmpose.cli.web.arguments import Limits
from tests.inference.helpers import Brightest, scene

from .serving import Visitor, file_data, serving

IMAGE = cv2.imencode('.png', scene((20, 30), size=(51, 38))[0])[1].tobytes()


@pytest.fixture
def page(make_model, network, tmp_path, monkeypatch, capfd):
    """A page whose images show one person; no traceback may be on the terminal."""
    monkeypatch.setattr(os, 'environ', os.environ.copy())
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    model = make_model('--boxes', 'whole-image')
    with serving(model, network, Limits(megabytes=1, seconds=2)) as page:
        yield page
    printed = ''.join(capfd.readouterr())
    assert 'Traceback' not in printed
    assert list(tmp_path.iterdir()) == []


def test_ten_uploads_at_once(page, monkeypatch):
    """Half of them the same file; one batch at a time, each visitor in a folder of its own."""
    running, most = 0, 0
    lock, predict = threading.Lock(), Brightest.predict

    def slow(self, batch):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return predict(self, batch)

    monkeypatch.setattr(Brightest, 'predict', slow)
    visitors = [Visitor(page.url) for _ in range(10)]
    barrier = threading.Barrier(10)

    def visit(number: int) -> dict:
        barrier.wait()
        image = scene((20, 30 + max(0, number - 4)), size=(51, 38))[0]
        content = cv2.imencode('.png', image)[1].tobytes()
        return visitors[number].drop(f'{number}.png' if number > 4 else 'same.png', content)

    with ThreadPoolExecutor(10) as executor:
        answers = list(executor.map(visit, range(10)))
    assert all('38 x 51 pixels: 1 person' in answer['image-line'] for answer in answers)
    assert most == 1
    folders = {answer['image-editor']['src'].split('/sessions/')[1][:32] for answer in answers}
    assert len(folders) == 10
    for visitor, answer in zip(visitors, answers, strict=True):
        source = answer['image-editor']['src']
        status, headers, content = visitor.get(source)
        assert (status, headers['content-type']) == (200, 'image/jpeg')
        assert content[:2] == b'\xff\xd8'
    uploads = [path for path in page.files() if page.storage.uploads in path.parents]
    assert uploads == []


def test_too_many_waiting_visitors_get_a_sentence(page, monkeypatch):
    event, predict = threading.Event(), Brightest.predict
    monkeypatch.setattr(
        Brightest, 'predict', lambda self, batch: event.wait(60) and predict(self, batch)
    )
    visitors = [Visitor(page.url) for _ in range(50)]
    with ThreadPoolExecutor(50) as executor:
        jobs = [executor.submit(visitor.drop, 'a.png', IMAGE) for visitor in visitors]
        deadline = time.monotonic() + 60
        while sum(job.done() for job in jobs) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        event.set()
    answers = [job.result() for job in jobs]
    refused = [answer for answer in answers if 'error' in answer]
    assert 0 < len(refused) < 20
    assert all('queue is full' in str(answer['error']).lower() for answer in refused)
    assert sum('1 person' in answer.get('image-line', '') for answer in answers) == 50 - len(
        refused
    )


def test_hostile_requests(page, tmp_path):
    visitor = Visitor(page.url)
    for path in (
        'gradio_api/file=/etc/passwd',
        f'gradio_api/file={page.storage.root}/lock',
        f'gradio_api/file={page.storage.root}/sessions/../lock',
        'gradio_api/file=http://127.0.0.1:1/x',
        'gradio_api/file=http%3A//127.0.0.1%3A1/x',
        'gradio_api/file/http://127.0.0.1:1/x',
        'gradio_api/proxy=http://127.0.0.1:1/x',
        'file=/etc/passwd',
    ):
        assert visitor.get(path)[0] in (403, 404)
    for path in ('/etc/passwd', str(page.storage.root / 'lock'), 'http://127.0.0.1:1/x', '', None):
        answer = visitor.act('image-drop', 'input', 0.3, file_data(path, 'a.png'))
        assert 'image-editor' not in answer or '1 person' not in answer['image-line']
    for values in ([None, None], [0.3, 5], ['x', {}], [0.3, dict(path=['x'])], [], [1] * 9):
        visitor.act('image-drop', 'input', *values)
        visitor.act('image-editor', 'input', *values)
    assert '1 person' in visitor.drop('a.png', IMAGE)['image-line']
    for boxes in (None, 'x', [[1]], [[0, 0, 1e99, 1]], [[5, 5, 5, 5]]):
        answer = visitor.act('image-editor', 'input', 0.3, dict(boxes=boxes))
        assert 'line problem' in answer['image-line']


def test_hostile_names(page, tmp_path):
    for name in ('../../../evil.jpg', '<script>alert(1)</script>.jpg', 'a' * 2000, '.jpg', ' '):
        answer = Visitor(page.url).drop(name, IMAGE)
        assert '1 person' in answer['image-line']
        assert '<script' not in answer['image-line']
    assert {path.name for path in tmp_path.iterdir()} == {page.storage.root.name}
    names = {path.name for path in page.files()}
    assert all(re.fullmatch(r'lock|upload-\d|[\w-]{1,70}\.(jpg|json)', name) for name in names)


def test_a_large_upload_is_refused_and_not_kept(page):
    status, answer = Visitor(page.url).upload('big.jpg', bytes(1_100_000))
    assert status == 413
    assert b'maximum allowed size' in answer
    assert [path.name for path in page.files()] == ['lock']


def test_browsers_may_load_nothing_from_elsewhere(page):
    status, headers, content = Visitor(page.url).get('')
    assert status == 200
    policy = headers['content-security-policy']
    assert "default-src 'self'" in policy
    assert 'http' not in policy
    assert 'server' not in headers
    assert b'fonts.googleapis' not in content
    visitor = Visitor(page.url)
    for path in ('run/predict', 'api/predict', 'call/_open', 'component_server', 'vibe-edit/'):
        assert visitor.post(f'gradio_api/{path}', {})[0] == 403


def test_pictures_of_a_visitor_go_with_the_tab(page):
    visitor = Visitor(page.url)
    answer = visitor.drop('a.png', IMAGE)
    assert len(page.files()) > 1
    page.storage.end(visitor.session)
    assert [path.name for path in page.files()] == ['lock']
    assert visitor.get(answer['image-editor']['src'])[0] == 403
    answer = visitor.act('image-threshold', 'input', 0.5)
    assert 'Drop an image' in answer['image-line']


def test_an_error_within_the_program_is_a_sentence(page, monkeypatch, capfd):
    def broken(self, batch):
        raise RuntimeError('broken')

    monkeypatch.setattr(Brightest, 'predict', broken)
    answer = Visitor(page.url).drop('a.png', IMAGE)
    assert 'This failed within the program: RuntimeError: broken' in answer['image-line']
    printed = capfd.readouterr().err
    assert 'error: this failed within the program: RuntimeError: broken' in printed
    assert 'Traceback' not in printed
