"""`hrformer web` as a user types it: mistakes, what is missing, what may be reached."""

import os
import socket
import sys
import tempfile
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from hrformer_mmpose.cli import web
from hrformer_mmpose.cli.web import arguments, failures, markup, server
from hrformer_mmpose.cli.web.arguments import Address
from hrformer_mmpose.errors import DataError, UserError
from tests.cli.predict.helpers import hrformer

MODULES = ('page', 'image_tab', 'film_tab')


@pytest.fixture(autouse=True)
def _own_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setattr(os, 'environ', os.environ.copy())


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*flags: str):
        return hrformer(monkeypatch, capsys, 'web', '--model', 'm.onnx', '--port', '0', *flags)[0]

    return run


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        (['--boxes', 'people.json'], '--boxes people.json: a file of boxes is for images that it'),
        (['--boxes', ''], "--boxes '' is empty"),
        (['--detect-every', '5'], '--detect-every is for detectors: --boxes draw detects nothing'),
        (['--smooth', 'savgol'], '--smooth works person by person: add --track'),
        (['--port', '70000'], '--port 70000: give 1 to 65535, or 0 for a free one'),
        (['--host', ''], "--host '' is empty: give 127.0.0.1"),
        (['--host', 'no.such.host.invalid'], "--host 'no.such.host.invalid' is not known"),
        (['--host', '192.0.2.1'], "--host '192.0.2.1' is no interface of this machine"),
        (['--max-mb', '0'], '--max-mb 0: give 1 to 10,000'),
        (['--max-seconds', 'nan'], '--max-seconds nan: give more than 0'),
        (['--threshold', '3'], '--threshold 3.0: scores are from 0 to 1'),
        (['--threads', '0'], 'threads=0: give 1 to'),
    ],
)
def test_mistakes_are_one_line(run, flags, line, tmp_path):
    assert run(*flags).startswith(f'error: {line}')
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(run):
    with socket.create_server(('127.0.0.1', 0)) as other:
        port = other.getsockname()[1]
        expected = f'error: port {port} is in use: choose another by --port, or 0 for a free one'
        assert run('--port', str(port)) == expected


def test_a_missing_extra_is_one_line(run, monkeypatch, tmp_path):
    for name in MODULES:
        monkeypatch.delitem(sys.modules, f'hrformer_mmpose.cli.web.{name}', raising=False)
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert run() == (
        "error: hrformer web needs the package gradio: pip install 'gradio>=6,<7' av scipy "
        "(the extra 'web')"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_network_may_be_downloaded_before_the_page_is_offline(run, monkeypatch):
    constants = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setitem(sys.modules, 'gradio', ModuleType('gradio'))
    sys.modules['gradio'].__spec__ = ModuleSpec('gradio', None)
    monkeypatch.setitem(sys.modules, 'huggingface_hub.constants', constants)
    states = []

    def offline(*_) -> None:
        states.append((constants.HF_HUB_OFFLINE, os.environ.get('HF_HUB_OFFLINE')))
        if len(states) == 2:
            raise UserError('the page')

    monkeypatch.delitem(os.environ, 'HF_HUB_OFFLINE', raising=False)
    monkeypatch.setattr(web, 'Model', offline)
    page = ModuleType('page')
    page.build = offline
    monkeypatch.setitem(sys.modules, 'hrformer_mmpose.cli.web.page', page)
    assert run() == 'error: the page'
    assert states == [(False, None), (True, '1')]


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        ([], "error: network 'm.onnx' does not exist"),
        (['--model', 'hrformer_tiny_coco_256x192'], 'needs its weights: --checkpoint FILE'),
        (['--model', 'c.pth'], 'is a checkpoint: give it as --checkpoint'),
        (['--boxes', 'onnx:no.onnx'], "error: ONNX file 'no.onnx' does not exist"),
        (['--boxes', 'people'], "error: there is no detector 'people'"),
        (['--device', 'cuda'], '--device is for configs'),
    ],
)
def test_a_network_or_detector_that_does_not_load_is_one_line(run, flags, line, tmp_path):
    pytest.importorskip('gradio')
    assert line in run(*flags)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('host', 'local', 'url'),
    [
        ('127.0.0.1', True, 'http://127.0.0.1:'),
        ('localhost', True, 'http://'),
        ('0.0.0.0', False, 'http://127.0.0.1:'),
    ],
)
def test_other_machines_are_warned_about(host, local, url):
    with server.listen(Address(host, 0)) as listener:
        assert server.is_local(listener) is local
        assert server.page_url(listener).startswith(url)
        line = server.warning(listener)
    assert line.startswith('warning: the page listens on ')
    assert 'without a password' in line
    assert '\n' not in line


def test_by_default_only_this_machine_reaches_the_page():
    args = arguments.parser().parse_args(['--model', 'm.onnx'])
    options, address, limits = arguments.read(args)
    assert address == Address('127.0.0.1', 7860)
    assert (limits.megabytes, limits.seconds, limits.frames) == (200, 60, 3600)
    assert options.boxes == 'draw'


def test_errors_are_sentences(capsys, monkeypatch):
    assert failures.sentence(DataError("'a.jpg' is empty")) == "'a.jpg' is empty"
    line = failures.sentence(RuntimeError('first\nsecond'))
    assert line == 'This failed within the program: RuntimeError: first'
    error = capsys.readouterr().err
    assert error.startswith('error: this failed within the program: RuntimeError: first (HRFORMER')
    assert error.count('\n') == 1
    monkeypatch.setenv('HRFORMER_TRACEBACK', '1')
    failures.sentence(RuntimeError('first'))
    assert 'RuntimeError: first' in capsys.readouterr().err


def test_names_cannot_write_html():
    name = '<img src=x onerror=alert(1)>"\'.jpg'
    for html in (
        markup.note(name),
        markup.problem(name),
        markup.progress(name, 1, 2),
        markup.title(name, name),
        markup.downloads([(name, Path(f'/tmp/{name[:-4]}'))], 1),
    ):
        assert '<img' not in html
        assert 'onerror=alert(1)>"' not in html
