"""Files of the page: where they lie, and when they are deleted."""

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hrformer_mmpose.cli.web import storage
from hrformer_mmpose.cli.web.storage import Storage, display_name, file_stem
from hrformer_mmpose.errors import DataError


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))


def upload(files: Storage, name: str, content: bytes = b'x', folder: str = 'hash') -> Path:
    path = files.uploads / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_everything_is_deleted_at_the_end(tmp_path):
    with Storage() as files:
        upload(files, 'waiting.jpg')
        session = files.session('a')
        files.take(upload(files, 'taken.jpg'), session.folder / 'mine')
        assert [path.name for path in tmp_path.iterdir()] == [files.root.name]
        assert files.root.stat().st_mode & 0o077 == 0  # for this user alone
    assert list(tmp_path.iterdir()) == []


def test_a_session_is_deleted_when_its_tab_closes():
    with Storage() as files:
        first, second = files.session('a'), files.session('b')
        files.take(upload(files, 'x.jpg'), first.folder / 'mine')
        files.end('a')
        assert not first.folder.exists()
        assert not files.touch(first)
        assert second.folder.is_dir()
        files.end('a')  # and again


def test_idle_sessions_and_uploads_that_nobody_took_are_swept():
    now = 1000.0
    with Storage(idle=60, clock=lambda: now) as files:
        old = files.session('old')
        now = 1050.0
        new = files.session('new')
        abandoned, fresh = upload(files, 'a.jpg', folder='1'), upload(files, 'b.jpg', folder='2')
        os.utime(abandoned, (time.time() - 61, time.time() - 61))
        now = 1061.0
        files.sweep()
        assert not old.folder.exists()
        assert not abandoned.parent.exists()
        assert new.folder.is_dir()
        assert fresh.is_file()
        assert files.session('old').folder != old.folder


def test_the_number_of_sessions_is_bounded(monkeypatch):
    monkeypatch.setattr(storage, 'MAX_SESSIONS', 3)
    with Storage() as files:
        folders = [files.session(str(number)).folder for number in range(3)]
        files.session('0')  # the others were used longer ago
        files.session('3')
        assert [folder.is_dir() for folder in folders] == [True, False, True]


def test_keys_of_browsers_are_no_paths(tmp_path):
    with Storage() as files:
        for key in ('../../evil', '/etc/passwd', '', 'x' * 5000, 'a\0b'):
            folder = files.session(key).folder
            assert folder.parent == files.root / 'sessions'
            assert len(folder.name) == 32
        assert {path.name for path in tmp_path.iterdir()} == {files.root.name}


def test_only_uploads_are_taken(tmp_path):
    secret = tmp_path / 'secret.txt'
    secret.write_text('secret')
    with Storage() as files:
        session = files.session('a')
        link = files.uploads / 'link.jpg'
        link.symlink_to(secret)
        other = files.session('b').folder / 'mine'
        other.write_text('of b')
        for path in (secret, link, other, files.uploads / '..' / '..' / 'secret.txt', 'no.jpg'):
            with pytest.raises(DataError, match='the upload is no longer here: drop the file'):
                files.take(path, session.folder / 'mine')
        assert secret.read_text() == 'secret'
        assert other.read_text() == 'of b'


def test_the_same_file_of_several_sessions_arrives_at_one_path():
    with Storage() as files:
        path = upload(files, 'same.jpg', b'content')
        targets = [files.session(str(number)).folder / 'mine' for number in range(10)]
        with ThreadPoolExecutor(10) as executor:
            list(executor.map(lambda target: files.take(path, target), targets))
        assert [target.read_bytes() for target in targets] == [b'content'] * 10
        assert not path.exists()


@pytest.mark.skipif(os.name == 'nt', reason='no locks')
def test_what_a_killed_process_left_is_deleted_and_what_a_running_one_uses_is_not(tmp_path):
    left = tmp_path / f'{storage.PREFIX}left'
    (left / 'sessions').mkdir(parents=True)
    (left / 'lock').touch()  # locks end with their process
    foreign = tmp_path / f'{storage.PREFIX}without-lock'
    foreign.mkdir()
    with Storage() as running, Storage():
        assert running.root.is_dir()
        assert not left.exists()
        assert foreign.is_dir()


@pytest.mark.parametrize(
    ('name', 'shown', 'stem'),
    [
        ('photo.jpg', 'photo.jpg', 'photo'),
        ('../../etc/passwd', 'passwd', 'passwd'),
        ('C:\\photos\\a b.png', 'a b.png', 'a_b'),
        ('<img src=x onerror=alert(1)>.jpg', '<img src=x onerror=alert(1)>.jpg', None),
        ('a\nb\x1b[2J\0.jpg', 'a b [2J .jpg', 'a_b_2J'),
        ('gpj.\u202eexe', 'gpj. exe', 'gpj'),
        ('..', '..', 'upload'),
        ('', 'upload', 'upload'),
        ('/', 'upload', 'upload'),
        ('Straße 東京.jpeg', 'Straße 東京.jpeg', 'Straße_東京'),
    ],
)
def test_names(name, shown, stem):
    assert display_name(name) == shown
    if stem is not None:
        assert file_stem(name) == stem
    assert set('/\\<>"\'&. \n') & set(file_stem(name)) == set()


def test_long_names_are_cut():
    name = display_name('x' * 5000 + '.jpg')
    assert len(name) == 60
    assert name.endswith('.jpg')
    assert len(file_stem(name)) <= 60


def test_no_thread_outlives_a_storage():
    before = {*threading.enumerate()}
    with Storage():
        (sweep,) = {*threading.enumerate()} - before
    sweep.join(10)
    assert not sweep.is_alive()
