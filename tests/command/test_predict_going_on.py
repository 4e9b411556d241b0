"""A run after another one: it goes on, wherever that ended, or says why it does not."""

import io
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose.command import parts, predict
from hrformer_mmpose.command.journal import Journal
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.runtime import sources
from hrformer_mmpose.runtime.drawing import draw_poses
from hrformer_mmpose.runtime.estimator import Estimator

from ..runtime.test_estimator import Brightest
from ..runtime.test_sources import film
from .helpers import PHOTOS, by_name, lines, names, photo, results


@pytest.mark.parametrize('after', range(6))
@pytest.mark.parametrize('batch_size', [1, 2, 32])
def test_going_on_after_a_kill_gives_what_one_run_gives(run, network, after, batch_size):
    run('data', out='whole')
    seen = network.seen
    network.left, network.error = after, SystemExit(9)
    status, _ = run('data', '--batch-size', str(batch_size))
    assert status == (9 if after < 5 else 0)
    done = names() if Path('out/poses.jsonl').exists() else []
    if batch_size == 1:
        assert len(done) == after
    assert not Path('out/keypoints.json').exists() or after == 5
    network.left = float('inf')
    status, out = run('data', '--batch-size', str(batch_size))
    assert status == 0
    if 0 < len(done) < 5:
        assert f"going on in 'out': {len(done)} of 5 files are done" in out
    assert Counter(names()) == Counter(PHOTOS)
    assert network.seen - seen == 5 or batch_size > 1
    for name in ('keypoints.json', 'images.json', 'sheet.jpg'):
        assert Path('out', name).read_bytes() == Path('whole', name).read_bytes()
    for path in Path('whole/pictures').rglob('*.jpg'):
        assert Path('out', path.relative_to('whole')).read_bytes() == path.read_bytes()


def test_ctrl_c_is_one_line_and_goes_on(run, network, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', said)
    network.left, network.error = 2, KeyboardInterrupt()
    status, _ = run('data', '--batch-size', '1')
    assert status == 130
    *bar, line = said.getvalue().splitlines()
    assert line == 'interrupted: the same command goes on from here'
    assert len(bar) == 1
    network.left = float('inf')
    assert run('data')[0] == 0
    assert network.seen == 5


def test_a_line_that_was_cut_is_done_again(run, network):
    run('data')
    content = Path('out/poses.jsonl').read_bytes()
    Path('out/poses.jsonl').write_bytes(content[: content.rfind(b'"name"') + 30])
    Path('out/keypoints.json').unlink()
    assert run('data')[0] == 0
    assert network.seen == 6
    assert Path('out/poses.jsonl').read_bytes() == content
    assert len(results()) == 5


def test_a_folder_that_has_grown_is_more_work_and_no_more(run, network):
    run('data')
    pictures = {line['name']: line['picture'] for line in lines() if 'name' in line}
    photo('data/aa.png', 20)
    photo('data/b/c.jpg', 60)  # now b/c.bmp is not the only c
    photo('other/a.png', 50)  # and data no longer the only folder
    status, out = run('data', 'other')
    assert status == 0
    assert "going on in 'out': 5 of 8 files are done" in out
    assert '8 images, 8 persons' in out
    assert network.seen == 8
    assert lines()[-1] == dict(finished=True)
    assert lines().count(dict(finished=True)) == 2
    now = {line['name']: line['picture'] for line in lines() if 'name' in line}
    assert pictures.items() <= now.items()
    assert len(set(now.values())) == 8
    for name, picture in now.items():  # each picture is that of its image
        image = cv2.imread(name)
        drawn = draw_poses(image, Estimator(Brightest())(image, 'whole-image'))
        expected = cv2.imdecode(cv2.imencode('.jpg', drawn)[1], cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(cv2.imread(f'out/{picture}'), expected)
    status, out = run('data', 'other')
    assert "'out' already holds all of this" in out
    assert network.seen == 8
    # And one that has shrunk.
    Path('data/aa.png').unlink()
    status, out = run('data', 'other')
    assert status == 0
    assert '7 images, 7 persons' in out
    assert 'data/aa.png' not in by_name()


def test_a_result_is_not_written_over_where_the_folders_in_common_change(run):
    """Of x/b.png it is b.jpg, as long as x is all there is."""
    photo('x/b.png', 20), film(Path('x/clip.mp4'), 3)
    run('x')
    assert [lines()[1]['picture'], lines()[2]['lines']] == ['pictures/b.jpg', 'videos/clip.jsonl']
    before = {path: path.read_bytes() for path in Path('out').glob('*s/*')}
    photo('b.png', 60), film(Path('clip.mp4'), 4)
    run('b.png', 'clip.mp4', 'x')
    assert {path: path.read_bytes() for path in before} == before
    assert lines()[4]['picture'] == 'pictures/b-2.jpg'
    assert lines()[5]['lines'] == 'videos/clip-2.jsonl'
    assert len(list(sources.Video('out/videos/clip-2.mp4'))) == 4


def test_force_begins_anew(run, network):
    run('data')
    photo('data/a.png', 60)
    run('data', '--force', '--threshold', '0.1')
    assert network.seen == 10
    assert Counter(names()) == Counter(PHOTOS)
    assert abs(by_name()['data/a.png'][0]['keypoints'][0] - 60) < 4
    # Results of before are not left beside a journal that is not done.
    network.left, network.error = 2, SystemExit(9)
    run('data', '--force', '--batch-size', '1')
    assert not Path('out/keypoints.json').exists()
    assert len(names()) == 2


def test_a_second_run_at_the_same_time_is_refused(run, network):
    run('data')
    args = predict.parser().parse_args(
        ['data', '--model', 'm.onnx', '--boxes', 'whole-image', '--out', 'out']
    )
    before = Path('out/keypoints.json').read_bytes()
    with Journal(Path('out/poses.jsonl'), parts.settings_of(args)):
        assert run('data')[0] == "error: 'out/poses.jsonl' is being written by another run"
        assert 'is being written' in run('data', '--force')[0]
    assert Path('out/keypoints.json').read_bytes() == before
    assert run('data')[0] == 0


# Other settings


def test_a_mistyped_model_can_be_mended(run, monkeypatch, capsys):
    """A run that got nowhere does not bind those after it."""
    estimator = predict._estimator

    def fail(args):
        raise WeightsError('no such network')

    monkeypatch.setattr(predict, '_estimator', fail)
    assert run('data') == ('error: no such network', '')
    monkeypatch.setattr(predict, '_estimator', estimator)
    status, _ = run('data', '--model', 'other.onnx')
    assert status == 0


@pytest.mark.parametrize(
    ('flags', 'what'),
    [
        (['--threshold', '0.5'], 'threshold=0.3, now it is 0.5'),
        (['--no-pictures'], 'pictures=True, now it is False'),
        (['--box-threshold', '0.5'], 'box_threshold=None, now it is 0.5'),
        (['--boxes', 'hog'], "boxes='whole-image', now it is 'hog'"),
    ],
)
def test_other_settings_do_not_go_on(run, network, flags, what):
    run('data')
    before = Path('out/poses.jsonl').read_bytes()
    boxes = flags[1] if flags[0] == '--boxes' else 'whole-image'
    status, _ = run('data', *(flags if flags[0] != '--boxes' else ()), boxes=boxes)
    assert status == (
        f"error: 'out/poses.jsonl' holds predictions made with {what}: choose another --out, or "
        '--force to begin anew'
    )
    assert Path('out/poses.jsonl').read_bytes() == before
    assert network.seen == 5


def test_another_network_under_the_same_name_does_not_go_on(run):
    """Networks of one kind have equal sizes."""
    Path('m.onnx').write_bytes(b'weights')
    assert run('data')[0] == 0
    assert run('data')[0] == 0
    Path('m.onnx').write_bytes(b'WEIGHTS')
    assert "made with model='m.onnx (sha256 " in run('data')[0]
    Path('n.xml').write_text('network')
    Path('n.bin').write_bytes(b'weights')
    one = parts.fingerprint('n.xml')
    Path('n.bin').write_bytes(b'WEIGHTS')
    assert parts.fingerprint('n.xml') != one
    Path('m.bin').write_bytes(b'of another file')
    Path('m.onnx').write_bytes(b'weights')
    assert parts.fingerprint('onnx:m.onnx').startswith('onnx:m.onnx (sha256 ')
    assert run('data')[0] == 0
    assert parts.fingerprint('hrformer_base') == 'hrformer_base'
    assert [parts.fingerprint(name) for name in ('', '.', 'onnx:')] == ['', '.', 'onnx:']


def test_settings_are_compared_before_the_network_is_loaded(run, monkeypatch):
    run('data')

    def fail(args):
        raise AssertionError('loaded')

    monkeypatch.setattr(predict, '_estimator', fail)
    assert 'now it is 0.5' in run('data', '--threshold', '0.5')[0]
