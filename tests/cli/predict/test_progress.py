"""What a terminal shows: the line of progress, and one line for what is no bug."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hrformer_mmpose.cli import main, terminal
from hrformer_mmpose.cli.predict.journal import read
from hrformer_mmpose.cli.terminal import Progress
from tests.conftest import ROOT

from .helpers import hrformer, photo

# The line of progress


class Screen(io.StringIO):
    def __init__(self, encoding='utf-8', terminal=True):
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return self._terminal

    def shown(self) -> list[str]:
        """What a terminal would show, line by line."""
        found = []
        for line in self.getvalue().split('\n'):
            row = ''
            for text in line.split('\r'):
                row = text + row[len(text) :]
            found.append(row.rstrip())
        return found


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(terminal.time, 'monotonic', lambda: now[0])
    return now


def progress(monkeypatch, clock, screen, steps, *args, columns=120, **options) -> Screen:
    """Each step takes a second and has three persons."""
    monkeypatch.setattr(sys, 'stderr', screen)
    monkeypatch.setattr(
        terminal.shutil, 'get_terminal_size', lambda: os.terminal_size((columns, 24))
    )
    with Progress(*args, **options) as bar:
        for _ in range(steps):
            clock[0] += 1
            bar.step(3)
    return screen


def test_progress_on_a_terminal_is_one_line(monkeypatch, clock):
    screen = progress(monkeypatch, clock, Screen(), 3, 12, 'images', 3)
    assert screen.shown() == [
        '████████████░░░░░░░░░░░░ 6/12 images, 0:06 left, 9 persons, 3.0 persons/s', ''
    ]  # fmt: skip
    assert screen.getvalue().count('\r') == 4
    narrow = progress(monkeypatch, clock, Screen(), 3, 12, 'images', columns=40)
    assert all(len(part.rstrip('\n')) < 40 for part in narrow.getvalue().split('\r'))
    assert narrow.getvalue().count('\n') == 1
    plain = progress(monkeypatch, clock, Screen('ascii'), 3, 12, 'images')
    assert plain.shown()[0].startswith('######.................. 3/12 images, 0:09 left')


def test_a_shorter_line_leaves_nothing_of_a_longer_one(monkeypatch, clock):
    screen = progress(monkeypatch, clock, Screen(), 12, 11, 'frames')
    assert screen.shown()[0] == '12 frames, 36 persons, 3.0 persons/s'  # the file said 11


def test_progress_in_a_log_is_a_line_now_and_then(monkeypatch, clock):
    screen = progress(monkeypatch, clock, Screen(terminal=False), 40, 100, 'images')
    assert '\r' not in screen.getvalue()
    assert [line.split()[1] for line in screen.getvalue().splitlines()] == [
        '15/100', '30/100', '40/100'
    ]  # fmt: skip


def test_progress_without_a_total_without_images_and_unseen(monkeypatch, clock):
    screen = progress(monkeypatch, clock, Screen(), 2, None, 'frames')
    assert screen.shown() == ['2 frames, 6 persons, 3.0 persons/s', '']
    assert progress(monkeypatch, clock, Screen(), 0, None, 'frames').shown() == [
        '0 frames, 0 persons, 0.0 persons/s', ''
    ]  # fmt: skip
    for total in (0, 7):
        screen = progress(monkeypatch, clock, Screen(), 0, total, 'images')
        assert screen.shown()[0].endswith('images, 0 persons, 0.0 persons/s')
    assert progress(monkeypatch, clock, Screen(), 3, 7, 'images', shown=False).getvalue() == ''


def test_an_error_begins_on_a_line_of_its_own(monkeypatch, clock):
    screen = Screen()
    monkeypatch.setattr(sys, 'stderr', screen)
    with pytest.raises(ValueError, match='x'), Progress(3, 'images'):
        raise ValueError('x')
    assert screen.getvalue().endswith('\n')


# Errors


def test_missing_packages_are_one_line_and_bugs_are_not():
    one_line = terminal.one_line
    assert one_line(
        ImportError("'a.onnx' needs the package onnxruntime: pip install onnxruntime")
    ) == ("'a.onnx' needs the package onnxruntime: pip install onnxruntime")
    assert one_line(ImportError('x needs y:\n  pip install y')) == 'x needs y: pip install y'
    missing = ModuleNotFoundError("No module named 'notthere'", name='notthere.deep')
    assert 'needs the package notthere, which is not installed' in one_line(missing)
    for name in ('hrformer_mmpose.comand', 'numpy.notthere', None):
        error = ModuleNotFoundError(f'No module named {name!r}', name=name)
        assert terminal.missing_package(error) is None
        assert one_line(error) is None
    assert one_line(ImportError("cannot import name 'x' from 'numpy'")) is None


def test_a_backend_that_is_missing_is_one_line(folder, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    Path('m.onnx').write_bytes(b'')
    monkeypatch.setitem(sys.modules, 'openvino', None)
    flags = ['--boxes', 'whole-image', '--model', 'm.onnx', '--backend', 'openvino']
    status, _ = hrformer(monkeypatch, capsys, 'predict', 'data', *flags)
    assert status == "error: 'm.onnx' needs the package openvino: pip install openvino"


def test_a_full_disk_is_one_line(run, monkeypatch):
    def replace(*_):
        raise OSError(28, 'No space left on device', 'out/keypoints.json')

    monkeypatch.setattr(os, 'replace', replace)
    status, _ = run('data', '--no-pictures')
    assert status == "error: 'out/keypoints.json': No space left on device"
    assert terminal.one_line(OSError(28, 'No space left on device')) == 'No space left on device'
    assert terminal.one_line(OSError(5, 'Input/output error', 'x')) is None


def test_ctrl_c_ends_any_command_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tool'])
    monkeypatch.delenv(terminal.TRACEBACK, raising=False)

    def tool(args):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        terminal.run(tool, argparse.ArgumentParser())
    assert caught.value.code == 130
    assert capsys.readouterr().err == 'interrupted\n'
    monkeypatch.setenv(terminal.TRACEBACK, '1')
    with pytest.raises(KeyboardInterrupt):
        terminal.run(tool, argparse.ArgumentParser())


def test_who_reads_may_stop_reading():
    """As `hrformer models | head` does."""
    read, write = os.pipe()
    os.close(read)
    code = 'import sys; sys.argv[1:] = ["models"]; from hrformer_mmpose.cli import main as m; '
    done = subprocess.run(
        [sys.executable, '-c', code + 'm.main()'], cwd=ROOT, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert done.stderr == b''
    assert done.returncode == terminal.CLOSED_PIPE


def test_a_name_that_the_terminal_cannot_show(run, monkeypatch):
    """Linux has names of any bytes; Python has surrogates for them, which UTF-8 has not."""
    name = os.fsdecode(b'odd/\xff.png')
    photo('odd/a.png', 40)
    os.rename('odd/a.png', name)
    Path(name).write_text('no image')
    stream = io.TextIOWrapper(io.BytesIO(), 'utf-8')
    monkeypatch.setattr(sys, 'stdout', stream)
    monkeypatch.setattr(sys, 'argv', [
        'hrformer', 'predict', 'odd', '--model', 'm.onnx', '--boxes', 'whole-image', '--out', 'out',
    ])  # fmt: skip
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    stream.flush()
    assert rb"problem: image 'odd/\udcff.png' is not an image" in stream.buffer.getvalue()
    assert read(Path('out/poses.jsonl')).entries.keys() == {name}
