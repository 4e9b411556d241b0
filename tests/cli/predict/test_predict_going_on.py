"""A run after another one: it goes on, wherever that ended, or says why it does not."""

import io
import os
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hrformer_mmpose.cli import predict
from hrformer_mmpose.cli.predict import shards
from hrformer_mmpose.cli.predict.journal import Journal
from hrformer_mmpose.errors import WeightsError
from hrformer_mmpose.imaging.drawing import draw_poses
from hrformer_mmpose.inference.estimator import Estimator
from hrformer_mmpose.inference.videos import open_video
from tests.inference.films import film
from tests.inference.helpers import Brightest

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
        assert f"continuing in 'out': {len(done)} of 5 files are done" in out
    assert Counter(names()) == Counter(PHOTOS)
    assert network.seen - seen == 5 or batch_size > 1
    for name in ('keypoints.json', 'categories.json', 'images.json', 'sheet.jpg'):
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
    assert line == 'interrupted: the same command continues from here'
    assert len(bar) == 1
    network.left = float('inf')
    assert run('data')[0] == 0
    assert network.seen == 5


def test_out_of_memory_is_one_line_and_goes_on_with_a_smaller_batch(run, network):
    network.left, network.error = 2, torch.OutOfMemoryError('CUDA out of memory. Tried to ...')
    assert run('data', '--batch-size', '2')[0] == (
        'error: out of memory: a batch of 2 persons does not fit, halve batch_size: 1'
    )
    network.left = float('inf')
    status, out = run('data', '--batch-size', '1')
    assert status == 0
    assert 'files are done' in out
    assert len(results()) == 5


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
    assert "continuing in 'out': 5 of 8 files are done" in out
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


@pytest.mark.parametrize('same', ['size', 'time'])
def test_an_image_that_was_replaced_is_done_again(run, network, same):
    run('data')
    pictures = {line['name']: line['picture'] for line in lines() if 'name' in line}
    path = Path('data/b/c.bmp')  # of one size whatever it shows
    before = path.stat()
    photo(path, 66) if same == 'size' else photo(path, 66, size=(62, 80))
    shift = 10**9 if same == 'size' else 0
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + shift))
    assert (path.stat().st_size == before.st_size) == (same == 'size')
    status, out = run('data')
    assert status == 0
    assert out.startswith(
        "continuing in 'out': 4 of 5 files are done\n"
        "'data/b/c.bmp' has changed since the last run: predicted again\n5 images, 5 persons\n"
    )
    assert network.seen == 6
    found = by_name()
    assert abs(found['data/b/c.bmp'][0]['keypoints'][0] - 66) < 4
    assert all(len(results) == 1 for results in found.values())
    assert {line['name']: line['picture'] for line in lines() if 'name' in line} == pictures
    drawn = cv2.imread(f'out/{pictures["data/b/c.bmp"]}')
    assert drawn[30, 66].max() > 100
    assert 'already holds all of this' in run('data')[1]
    assert network.seen == 6


def test_replaced_images_that_cannot_be_read_have_no_poses_left(run, network):
    run('data')
    Path('data/a.png').write_text('no image'), Path('data/a.jpg').write_text('none')
    status, out = run('data')
    assert status == 1
    assert '2 files have changed since the last run: predicted again\n5 images, 3 persons' in out
    assert by_name()['data/a.png'] == []


def test_poses_of_nan_are_a_problem_and_no_result(run, network, monkeypatch):
    """As a network computes them whose weights or half precision do not hold."""
    predicted = network.predict

    def predict(batch):
        keypoints, scores = predicted(batch)
        keypoints[0, 5, 1], scores[1, 3] = np.nan, np.inf
        return keypoints, scores

    monkeypatch.setattr(network, 'predict', predict)
    status, out = run('data')
    assert status == 1
    assert '5 images, 3 persons' in out
    assert (
        'problem: the network gives NaN or infinite values for 1 of 1 persons on data/a.jpg' in out
    )
    assert out.splitlines()[-1] == '2 problems; 0 of 5 files could not be used'
    assert np.isfinite([result['keypoints'] for result in results()]).all()
    assert [len(line['poses']) for line in lines() if 'name' in line] == [0, 0, 1, 1, 1]


def test_a_damaged_number_does_not_reach_the_results(run):
    run('data')
    path = Path('out/poses.jsonl')
    content = path.read_text()
    old = lines()[2]['poses'][0]['keypoints']['nose'][0]
    assert content.count(f'"nose":[{old},') == 1
    for number in ('NaN', f'{old + 400}'):
        path.write_text(content.replace(f'"nose":[{old},', f'"nose":[{number},'))
        status, _ = run('data')
        assert status == (
            "error: 'out/poses.jsonl' is damaged in line 3: delete it to do its file again, or "
            '--force to begin anew'
        )
    path.write_text(''.join(line for line in content.splitlines(True) if f'[{old},' not in line))
    before = results()
    assert run('data')[0] == 0
    assert results() == before


def test_a_line_of_an_earlier_version_without_its_keypoints(run):
    run('data')
    path = Path('out/poses.jsonl')
    rows = [row.rpartition(',"crc32":')[0] + '}\n' for row in path.read_text().splitlines()]
    path.write_text(''.join(rows).replace('"nose"', '"nase"', 1))
    assert run('data')[0] == (
        "error: the journal's line of 'data/a.jpg' is damaged: delete it to do the image again, or "
        '--force to begin anew'
    )


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
    assert len(list(open_video('out/videos/clip-2.mp4'))) == 4


def test_files_of_another_folder_with_the_same_names_replace_nothing(run, network, monkeypatch):
    photo('x/0.png', 20), photo('y/0.png', 60, size=(62, 80))
    Path('x/m.onnx').touch(), Path('y/m.onnx').touch()
    first = Path('x/0.png').resolve()
    monkeypatch.chdir('x')
    run('.', out='../out')
    before = {path: path.read_bytes() for path in Path('../out').rglob('*.*')}
    monkeypatch.chdir('../y')
    status, _ = run('.', out='../out')
    assert status == (
        f"error: --out has results of '{first}' as those of './0.png': choose another --out, "
        'or --force to begin anew'
    )
    assert {path: path.read_bytes() for path in before} == before
    # Moved together with its results, a file is the same.
    monkeypatch.chdir('..')
    Path('x').rename('z')
    monkeypatch.chdir('z')
    assert 'already holds all of this' in run('.', out='../out')[1]
    assert network.seen == 1


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
    with Journal(Path('out/poses.jsonl'), shards.settings_of(predict.read_options(args))):
        assert run('data')[0] == "error: 'out/poses.jsonl' is being written by another run"
        assert 'is being written' in run('data', '--force')[0]
    assert Path('out/keypoints.json').read_bytes() == before
    assert run('data')[0] == 0


# Other settings


def test_a_mistyped_model_can_be_mended(run, monkeypatch, capsys):
    """A run that got nowhere does not bind those after it."""
    estimator = predict.open_estimator

    def fail(args):
        raise WeightsError('no such network')

    monkeypatch.setattr(predict, 'open_estimator', fail)
    assert run('data') == ('error: no such network', '')
    monkeypatch.setattr(predict, 'open_estimator', estimator)
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


def test_a_network_that_does_not_exist_is_named_before_the_journal(run):
    run('data')
    Path('m.onnx').unlink()
    assert run('data')[0] == "error: network 'm.onnx' does not exist"


def test_another_network_under_the_same_name_does_not_go_on(run):
    """Networks of one kind have equal sizes."""
    Path('m.onnx').write_bytes(b'weights')
    assert run('data')[0] == 0
    assert run('data')[0] == 0
    Path('m.onnx').write_bytes(b'WEIGHTS')
    assert "made with model='m.onnx (sha256 " in run('data')[0]
    Path('n.xml').write_text('network')
    Path('n.bin').write_bytes(b'weights')
    one = shards.fingerprint('n.xml')
    Path('n.bin').write_bytes(b'WEIGHTS')
    assert shards.fingerprint('n.xml') != one
    Path('m.bin').write_bytes(b'of another file')
    Path('m.onnx').write_bytes(b'weights')
    assert shards.fingerprint('onnx:m.onnx').startswith('onnx:m.onnx (sha256 ')
    assert run('data')[0] == 0
    assert shards.fingerprint('hrformer_base') == 'hrformer_base'
    assert [shards.fingerprint(name) for name in ('', '.', 'onnx:')] == ['', '.', 'onnx:']


def test_settings_are_compared_before_the_network_is_loaded(run, monkeypatch):
    run('data')

    def fail(args):
        raise AssertionError('loaded')

    monkeypatch.setattr(predict, 'open_estimator', fail)
    assert 'now it is 0.5' in run('data', '--threshold', '0.5')[0]
