"""The command as a process: a network from a checkpoint, its end, what a kill leaves."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip('gradio')
pytest.importorskip('mmpose')
from hrformer_mmpose.checkpoint import save_weights
from hrformer_mmpose.inference.torch_network import build, read_config
from tests.conftest import ROOT
from tests.inference.helpers import scene
from tests.tiny import NETWORK

from .serving import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == 'nt', reason='signals')]
IMAGE = cv2.imencode('.png', scene((40, 30))[0])[1].tobytes()


@pytest.fixture(scope='module')
def network(tmp_path_factory) -> list[str]:
    """Flags of a small untrained network."""
    folder = tmp_path_factory.mktemp('network')
    config, weights = folder / 'tiny.py', folder / 'tiny.pth'
    config.write_text(NETWORK)
    model = build(read_config(str(config)), 'tiny')
    save_weights(model.state_dict(), weights, 'test')
    return ['--model', str(config), '--checkpoint', str(weights)]


def start(folder: Path, *flags: str) -> tuple[subprocess.Popen, str]:
    """Start the page; return the process and the page's address."""
    command = [sys.executable, '-c', 'from hrformer_mmpose.cli.main import main; main()', 'web']
    process = subprocess.Popen(
        [*command, *flags, '--port', '0', '--boxes', 'whole-image'],
        cwd=folder,
        env=os.environ | {'TMPDIR': str(folder), 'PYTHONPATH': str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=open(folder / 'stderr', 'w'),  # noqa: SIM115 (closed with the process)
        text=True,
    )
    return process, process.stdout.readline().split()[0]


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM'])
def test_the_end_deletes_everything(network, tmp_path, name):
    process, url = start(tmp_path, *network)
    answer = Visitor(url).drop('a.png', IMAGE)
    assert '160 x 120 pixels: 1 person' in answer['image-line']
    (folder,) = tmp_path.glob('hrformer-web-*')
    assert len([path for path in folder.rglob('*') if path.is_file()]) > 3
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=30) == 0
    assert (tmp_path / 'stderr').read_text() == 'ended: uploads and results are deleted\n'
    assert {path.name for path in tmp_path.iterdir()} == {'stderr'}


def test_the_next_page_deletes_what_a_killed_one_left(network, tmp_path):
    process, url = start(tmp_path, *network, '--host', '0.0.0.0')
    Visitor(url).drop('a.png', IMAGE)
    (folder,) = tmp_path.glob('hrformer-web-*')
    process.kill()
    process.wait()
    warning = (tmp_path / 'stderr').read_text()
    assert warning.startswith('warning: the page listens on 0.0.0.0, port ')
    assert warning.count('\n') == 1
    assert folder.is_dir()
    process, url = start(tmp_path, *network)
    try:
        assert not folder.exists()
        assert Visitor(url).get('')[0] == 200
    finally:
        process.terminate()
        process.wait()
