"""A journal survives a kill anywhere, and takes in nothing that does not belong to it."""

import json
import os
import subprocess
import sys

import pytest

from hrformer_mmpose import locks
from hrformer_mmpose.cli.predict.journal import Content, Journal, read, write_line
from hrformer_mmpose.errors import UserError

SETTINGS = dict(model='a.onnx', threshold=0.3, size=(192, 256))
GOOD = [dict(name=f'ä {number}\n.jpg', poses=[number], shape=(3, 4)) for number in range(3)]
FAILED = dict(name='broken.jpg', poses=[], failed=True, problems=['it is broken'])


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'poses.jsonl'


def written(path, entries=GOOD, finish=True, **changes) -> bytes:
    with Journal(path, SETTINGS | changes) as journal:
        for entry in entries:
            journal.add(entry)
        if finish:
            journal.finish()
    return path.read_bytes()


def refused(path, settings=SETTINGS, **options) -> str:
    before = path.read_bytes()
    with pytest.raises(UserError) as caught:
        Journal(path, settings, **options)
    assert path.read_bytes() == before
    line = str(caught.value)
    assert '\n' not in line
    assert line.startswith(f"'{path}'")
    return line


def test_what_was_written_is_there_again(path):
    content = written(path, [*GOOD, FAILED])
    assert content.count(b'\n') == 6
    with Journal(path, SETTINGS) as journal:
        assert [*journal.entries] == [entry['name'] for entry in [*GOOD, FAILED]]
        assert journal.entries[GOOD[1]['name']] == GOOD[1] | dict(shape=[3, 4])
        assert [journal.done(entry['name']) for entry in GOOD] == [True] * 3
        assert not journal.done('broken.jpg')  # to be tried again
        assert not journal.done('other.jpg')
        assert journal.finished
        journal.finish()
    assert path.read_bytes() == content


@pytest.mark.parametrize('finish', [True, False])
def test_entries_are_the_same_before_and_after_a_restart(path, finish):
    with Journal(path, SETTINGS) as journal:
        journal.add(GOOD[0])
        if finish:
            journal.finish()
        before, finished = dict(journal.entries), journal.finished
    with Journal(path, SETTINGS) as journal:
        assert journal.entries == before
        assert journal.finished == finished == finish
    assert read(path) == Content(
        json.loads(json.dumps(SETTINGS)), before, finish, len(path.read_bytes())
    )


def test_a_kill_anywhere_loses_one_line_at_most(path):
    content = written(path)
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord('\n')]
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert list(read(path).entries) == [
            entry['name'] for entry, end in zip(GOOD, ends[1:], strict=False) if end <= length
        ]
        with Journal(path, SETTINGS) as journal:
            assert not journal.finished
            for entry in GOOD:
                if not journal.done(entry['name']):
                    journal.add(entry)
            journal.finish()
        assert path.read_bytes() == content


def test_a_finished_journal_is_opened_again_by_more_work(path):
    written(path)
    with Journal(path, SETTINGS) as journal:
        assert journal.finished
        journal.add(FAILED)
        assert not journal.finished
    with Journal(path, SETTINGS) as journal:
        assert not journal.finished
        journal.add(dict(FAILED, failed=False))
        assert journal.done('broken.jpg')
        journal.finish()
    content = read(path)
    assert content.finished
    assert content.done('broken.jpg')
    assert len(content.entries) == 4


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        (dict(model='b.onnx'), "model='a.onnx', now it is 'b.onnx'"),
        (dict(threshold=0.5), 'threshold=0.3, now it is 0.5'),
        (dict(threshold=None), 'threshold=0.3, now it is None'),
        (dict(size=(1, 2)), r'size=[192, 256], now it is [1, 2]'),
        (dict(flip=True), 'flip=None, now it is True'),
    ],
)
def test_other_settings_are_refused_and_named(path, changes, what):
    written(path)
    line = refused(path, SETTINGS | changes)
    assert line == (
        f"'{path}' holds predictions made with {what}: choose another --out, or --force to begin "
        'anew'
    )
    assert read(path).difference(SETTINGS | changes) == what
    assert read(path).difference(SETTINGS) is None


def test_a_setting_that_is_gone_counts(path):
    written(path, flip=True)
    assert 'flip=True, now it is None' in refused(path)


def test_other_settings_are_fine_where_nothing_was_predicted(path):
    """A run that ended before its first image, say for a mistyped name."""
    written(path, [], finish=False)
    with Journal(path, SETTINGS | dict(model='b.onnx')) as journal:
        journal.add(GOOD[0])
    assert read(path).settings['model'] == 'b.onnx'
    assert 'now it is' in refused(path)


@pytest.mark.parametrize(
    'content',
    [
        b'[1, 2, 3]',
        b'[1, 2, 3]\n',
        b'{"a": 1}\n{"name": 2}\n',
        b'\n',
        b'some notes of mine, without an end',
        b'\xff\xd8\xff\xe0\0\0',
    ],
)
def test_files_of_others_stay_as_they_are(path, content):
    path.write_bytes(content)
    assert 'is not of `hrformer predict`' in refused(path)
    with pytest.raises(UserError, match='is not of `hrformer predict`'):
        read(path)


@pytest.mark.parametrize('line', [b'{"nam', b'[]', b'3', b'{"title":"x"}', b'\0\0\0', b''])
def test_damage_in_the_middle_is_told_with_its_line(path, line):
    lines = written(path).split(b'\n')
    path.write_bytes(b'\n'.join([*lines[:2], line, *lines[2:]]))
    assert 'is damaged in line 3' in refused(path)


@pytest.mark.parametrize('settings', ['[[1]]', '"text"', 'null', '[["model", "a.onnx"]]'])
def test_settings_that_are_no_dict_are_damage(path, settings):
    """Journals of earlier versions have no checksum that would tell."""
    path.write_text(f'{{"settings":{settings}}}\n{{"name":"a.jpg"}}\n')
    assert refused(path).startswith(f"'{path}' is damaged in line 1: choose another --out")


@pytest.mark.parametrize('name', ['["a.jpg"]', '1', 'null'])
def test_a_name_that_is_no_text_is_damage(path, name):
    path.write_text(f'{{"settings":{{}}}}\n{{"name":{name}}}\n')
    assert 'is damaged in line 2' in refused(path)


def test_a_flipped_bit_anywhere_is_told_with_its_line_or_harmless(path):
    """Most would leave a valid line with another number or name."""
    content = written(path, [dict(name='a.jpg', file=[7, 8], poses=[1.25, -3.5, 1e3])])
    expected = read(path)
    for at in range(len(content)):
        for bit in (0, 2, 6):
            data = bytearray(content)
            data[at] ^= 1 << bit
            path.write_bytes(data)
            try:
                found = read(path)
            except UserError:
                continue
            # Cut off where the last line's end was, or the first line has no checksum any more.
            found.length = expected.length
            if at == len(content) - 1:
                found.finished = True
            assert found == expected


@pytest.mark.parametrize('number', ['NaN', 'Infinity', '-Infinity'])
def test_numbers_that_are_none_are_damage_in_journals_of_earlier_versions_too(path, number):
    written(path)
    rows = path.read_bytes().splitlines()
    old = [row[: row.rindex(b',"crc32":')] + b'}' for row in rows]
    path.write_bytes(b'\n'.join([*old, b'']))
    assert list(read(path).entries) == [entry['name'] for entry in GOOD]
    path.write_bytes(b'\n'.join([*old, b'']).replace(b'[1]', f'[{number}]'.encode()))
    assert refused(path) == (
        f"'{path}' is damaged in line 3: delete it to do its file again, or --force to begin anew"
    )
    # The same number with a checksum was not written by the version that knows checksums.
    path.write_bytes(b'\n'.join([*rows, b'']).replace(b'[1]', f'[{number}]'.encode()))
    assert 'is damaged in line 3' in refused(path)


def test_a_journal_of_an_earlier_version_goes_on(path):
    written(path, finish=False)
    rows = [row[: row.rindex(b',"crc32":')] + b'}\n' for row in path.read_bytes().splitlines()]
    path.write_bytes(b''.join(rows))
    with Journal(path, SETTINGS) as journal:
        assert all(journal.done(entry['name'], stamp=[1, 2]) for entry in GOOD)
        journal.add(dict(name='new.jpg', file=[3, 4]))
    content = read(path)
    assert len(content.entries) == 4
    assert content.done('new.jpg', [3, 4])
    assert content.done('new.jpg')
    assert not content.done('new.jpg', [3, 5])
    assert not content.done('new.jpg', [2, 4])
    path.write_bytes(path.read_bytes().replace(b'[3,4]', b'[3,5]'))
    assert 'is damaged in line 5' in refused(path)


def test_force_begins_anew(path):
    written(path)
    with Journal(path, dict(model='b.onnx'), force=True) as journal:
        assert journal.entries == {}
        assert not journal.finished
    assert read(path) == Content(dict(model='b.onnx'), {}, False, len(path.read_bytes()))
    path.write_text('of someone else')
    assert refused(path, force=True).endswith('is not of `hrformer predict`: choose another --out')


@pytest.mark.skipif(locks.fcntl is None, reason='Windows knows no such locks')
def test_one_process_at_a_time(path):
    script = (
        'from pathlib import Path\n'
        'from hrformer_mmpose.errors import UserError\n'
        'from hrformer_mmpose.cli.predict.journal import Journal\n'
        'for force in (False, True):\n'
        f'    try: Journal(Path({str(path)!r}), {SETTINGS!r}, force)\n'
        '    except UserError as error: print(error)\n'
    )
    with Journal(path, SETTINGS) as journal:
        journal.add(GOOD[0])
        done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
        assert done.stdout == f"'{path}' is being written by another run\n" * 2
        assert list(read(path).entries) == [GOOD[0]['name']]
    Journal(path, SETTINGS).close()


@pytest.mark.skipif(locks.fcntl is None, reason='Windows knows no such locks')
def test_a_refused_journal_is_let_go(path):
    written(path)
    refused(path, dict(model='b.onnx'))
    Journal(path, SETTINGS).close()


def test_where_there_are_no_locks_it_goes_without(path, monkeypatch):
    if locks.fcntl is not None:

        def flock(*_):
            raise OSError(37, 'No locks available')

        monkeypatch.setattr(locks.fcntl, 'flock', flock)
    written(path)
    monkeypatch.setattr(locks, 'fcntl', None)
    assert Journal(path, SETTINGS).finished


def test_a_journal_that_cannot_be_written(tmp_path):
    path = tmp_path / 'nowhere' / 'poses.jsonl'
    with pytest.raises(UserError, match='cannot be written: No such file'):
        Journal(path, SETTINGS)
    with pytest.raises(UserError, match='cannot be read: No such file'):
        read(path)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no full device')
def test_a_full_disk_is_named():
    line = "No space left on device: '/dev/full'"
    with open('/dev/full', 'wb', buffering=0) as file, pytest.raises(OSError, match=line):
        write_line(file, dict(frame=1))
