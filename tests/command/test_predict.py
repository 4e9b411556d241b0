"""`hrformer predict` from the command line to its files, with a network whose answer is known."""

import argparse
import io
import itertools
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose import terminal
from hrformer_mmpose.command import main, outputs, parts, predict, videos
from hrformer_mmpose.command.journal import Journal, read
from hrformer_mmpose.errors import UserError, WeightsError
from hrformer_mmpose.runtime import sources
from hrformer_mmpose.runtime.detectors import CocoDetections
from hrformer_mmpose.runtime.drawing import draw_poses
from hrformer_mmpose.runtime.estimator import Estimator
from hrformer_mmpose.runtime.poses import COCO, Skeleton
from hrformer_mmpose.terminal import Progress

from ..runtime.test_estimator import Brightest
from ..runtime.test_sources import film


class Network(Brightest):
    """Counts the crops of all runs; ends a run with `error` after `left` of them."""

    def __init__(self):
        super().__init__()
        self.left, self.error = float('inf'), None

    def predict(self, batch):
        if len(batch) > self.left:
            raise self.error
        self.left -= len(batch)
        return super().predict(batch)

    @property
    def seen(self) -> int:
        return sum(self.batches)


@pytest.fixture
def network(monkeypatch) -> Network:
    network = Network()

    def estimator(args):
        return Estimator(network, args.batch_size, args.box_threshold or 0.0, 'skip')

    monkeypatch.setattr(predict, '_estimator', estimator)
    return network


def photo(path: Path | str, x: int, y: int = 30, size=(60, 80)) -> Path:
    """Black with one bright spot."""
    image = np.zeros((*size, 3), np.uint8)
    cv2.circle(image, (x, y), 2, (255, 255, 255), -1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return Path(path)


PHOTOS = ('data/a.png', 'data/a.jpg', 'data/b/a.jpg', 'data/b/c.bmp', 'data/d/e/f.png')


@pytest.fixture
def folder(tmp_path, monkeypatch, network) -> Path:
    """A working directory with the images of `PHOTOS`, spots at x = 20, 28, ..., in data."""
    monkeypatch.chdir(tmp_path)
    for name in ('RANK', 'WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    for number, name in enumerate(PHOTOS):
        photo(name, 20 + 8 * number)
    return tmp_path


def hrformer(monkeypatch, capsys, *arguments: str) -> tuple[int | str, str]:
    """Exit status, or the line of an error, and what was printed."""
    monkeypatch.setattr(sys, 'argv', ['hrformer', *arguments])
    capsys.readouterr()
    try:
        main.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    return status, capsys.readouterr().out


@pytest.fixture
def run(folder, monkeypatch, capsys):
    def run(*arguments: str, boxes: str = 'whole-image', out: str = 'out'):
        flags = ['--model', 'm.onnx', '--boxes', boxes, '--out', out]
        return hrformer(monkeypatch, capsys, 'predict', *arguments, *flags)

    return run


def lines(path: str = 'out/poses.jsonl') -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def names(path: str = 'out/poses.jsonl') -> list[str]:
    return [line['name'] for line in lines(path) if 'name' in line]


def results(out: str = 'out') -> list[dict]:
    return json.loads(Path(out, 'keypoints.json').read_text())


def by_name(out: str = 'out') -> dict[str, list[dict]]:
    """Results of each image."""
    files = {
        row['id']: row['file_name'] for row in json.loads(Path(out, 'images.json').read_text())
    }
    found = {name: [] for name in files.values()}
    for result in results(out):
        found[files[result['image_id']]].append(result)
    return found


# Images


def test_a_folder(run):
    status, out = run('data')
    assert status == 0
    assert out.splitlines() == [
        '5 images, 5 persons',
        'pictures: out/pictures',
        'COCO results: out/keypoints.json',
        "the images' numbers: out/images.json",
        'contact sheet: out/sheet.jpg',
    ]
    assert names() == sorted(PHOTOS)
    assert lines()[-1] == dict(finished=True)
    # Each has a picture, also those of one name, and they are drawn on.
    pictures = sorted(str(path.relative_to('out')) for path in Path('out').rglob('*/*.jpg'))
    assert pictures == sorted(line['picture'] for line in lines() if 'name' in line)
    assert pictures == [
        'pictures/a.jpg.jpg', 'pictures/a.png.jpg', 'pictures/b/a.jpg', 'pictures/b/c.jpg',
        'pictures/d/e/f.jpg',
    ]  # fmt: skip
    for line in lines()[1:-1]:
        drawn, image = cv2.imread(f'out/{line["picture"]}'), cv2.imread(line['name'])
        assert drawn.shape == image.shape
        assert np.ptp(drawn.astype(int), axis=2).max() > 60  # images are grey, poses coloured
    assert cv2.imread('out/sheet.jpg').shape[0] > 100
    # No stray files are left.
    assert {path.name for path in Path('out').iterdir()} == {
        'poses.jsonl', 'keypoints.json', 'images.json', 'sheet.jpg', 'pictures'
    }  # fmt: skip


def test_coordinates_survive(run, network):
    run('data')
    expected = {}
    for name in PHOTOS:
        (pose,) = Estimator(network)(name, 'whole-image')
        expected[name] = pose
    assert json.loads(Path('out/images.json').read_text()) == [
        dict(id=number, file_name=name, height=60, width=80)
        for number, name in enumerate(sorted(PHOTOS), start=1)
    ]
    for number, name in enumerate(PHOTOS):
        (result,) = by_name()[name]
        rows = np.array(result['keypoints']).reshape(17, 3)
        np.testing.assert_allclose(rows[:, :2], expected[name].keypoints, atol=1e-4)
        np.testing.assert_allclose(rows[:, 2], expected[name].scores, atol=1e-4)
        assert np.abs(rows[0, :2] - (20 + 8 * number, 30)).max() < 4  # the spot itself
        assert result['bbox'] == [0, 0, 80, 60]
        assert result['category_id'] == 1


@pytest.mark.parametrize(
    ('arguments', 'count'),
    [(['data/*.jpg'], 1), (['data/**/*.jpg'], 2), (['data/b', 'data/a.png'], 3), (['data/*'], 5)],
)
def test_globs_and_several_inputs(run, arguments, count):
    status, out = run(*arguments)
    assert status == 0
    assert out.startswith(f'{count} image{"s" * (count > 1)}, {count} person')


def test_results_inside_the_folder_are_no_inputs(run):
    run('data', out='data/poses')
    status, out = run('data', out='data/poses')
    assert status == 0
    assert out.startswith("'data/poses' already holds all of this (--force begins anew)\n5 images")


def test_no_pictures(run):
    run('data', '--no-pictures')
    assert {path.name for path in Path('out').iterdir()} == {
        'poses.jsonl', 'keypoints.json', 'images.json'
    }  # fmt: skip


def test_nobody(run, network):
    Path('none.json').write_text(json.dumps([coco_box(7, 99)]))
    photo('img/1.png', 20), photo('img/2.png', 20)
    status, out = run('img', boxes='none.json')
    assert status == 0
    assert out.startswith('2 images, 0 persons\npictures: out/pictures\nCOCO results: ')
    assert results() == []
    assert not Path('out/sheet.jpg').exists()
    assert cv2.imread('out/pictures/1.jpg').shape == (60, 80, 3)


def test_a_broken_image_is_named_counted_and_tried_again(run, network):
    whole = Path('data/b/a.jpg').read_bytes()
    Path('data/b/a.jpg').write_bytes(whole[:-20])
    Path('data/z.png').write_text('no image')
    status, out = run('data')
    assert status == 1
    assert out.splitlines()[0] == '6 images, 4 persons'
    assert out.splitlines()[-3:] == [
        f"problem: image 'data/b/a.jpg' is cut short: its end is missing ({len(whole) - 20} bytes)",
        "problem: image 'data/z.png' is not an image that can be decoded: broken, or of a format "
        'that OpenCV does not read (8 bytes)',
        '2 problems; 2 of 6 files could not be used',
    ]
    assert network.seen == 4
    assert by_name()['data/b/a.jpg'] == []
    assert len(results()) == 4
    Path('data/b/a.jpg').write_bytes(whole)
    status, out = run('data')
    assert status == 1
    assert "going on in 'out': 4 of 6 files are done" in out
    assert out.splitlines()[-1] == '1 problem; 1 of 6 files could not be used'
    assert network.seen == 5
    assert len(by_name()['data/b/a.jpg']) == 1
    assert Path('out/pictures/b/a.jpg').is_file()
    # What is no longer there is no longer a problem.
    Path('data/z.png').unlink()
    status, out = run('data')
    assert status == 0
    assert '5 images, 5 persons' in out
    assert network.seen == 5


def test_many_problems_are_counted_and_not_all_shown(run):
    for number in range(14):
        Path(f'data/bad{number:02}.jpg').write_text('')
    status, out = run('data')
    assert status == 1
    assert out.count('problem: ') == 10
    assert "... and 4 more, in the .jsonl files of 'out'" in out
    assert '14 problems; 14 of 19 files could not be used' in out


def test_the_contact_sheet_spreads_over_the_images_and_names_them(run, monkeypatch):
    for number in range(60):
        photo(f'many/{number:03}.png', 40)
    captions = []

    def contact_sheet(items):
        for image, poses, caption in items:
            assert (image.shape, len(poses)) == ((60, 80, 3), 1)
            captions.append(caption)
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr(outputs, 'contact_sheet', contact_sheet)
    run('many', '--no-pictures')
    assert captions == []
    run('many', '--force')
    assert len(captions) == outputs.SHEET
    assert captions[0] == '000.png'
    assert captions[-1] == '059.png'
    assert captions == sorted(captions)


def test_other_skeletons(run, network):
    """Not only COCO's names come back from the journal."""
    network.skeleton = Skeleton(
        tuple(f'point {k}' for k in range(17)), ((0, 1), (2, 16)), tuple(range(17))
    )
    status, _ = run('data')
    assert status == 0
    assert len(results()[0]['keypoints']) == 51
    assert Path('out/sheet.jpg').is_file()


# Boxes from files


def coco_box(x0, image_id, score=0.9) -> dict:
    return dict(image_id=image_id, category_id=1, bbox=[x0, 5, 24, 48], score=score)


@pytest.fixture
def annotated(folder) -> dict:
    """boxes.json: an annotation file of three images, with odd numbers; the images in val."""
    images, annotations = [], []
    for number, image_id in enumerate((900, 17, 52)):
        name = f'{number}.png'
        photo(f'val/{name}', 20 + 12 * number)
        images.append(dict(id=image_id, file_name=name, width=80, height=60))
        keypoints = [20 + 12 * number, 30, 2] * 17
        annotations.append(
            dict(id=number + 1, iscrowd=0, area=1000, num_keypoints=17, keypoints=keypoints)
            | coco_box(8 + 12 * number, image_id)
        )
    category = dict(id=1, name='person', keypoints=list(COCO.names), skeleton=[])
    content = dict(images=images, annotations=annotations, categories=[category])
    Path('boxes.json').write_text(json.dumps(content))
    return content


def test_coco_results_of_an_annotation_file_are_those_that_pycocotools_loads(run, annotated):
    from pycocotools.coco import COCO as Truth
    from pycocotools.cocoeval import COCOeval

    status, _ = run('val', boxes='boxes.json')
    assert status == 0
    truth = Truth('boxes.json')
    found = truth.loadRes('out/keypoints.json')
    assert {row['image_id'] for row in results()} == {900, 17, 52}
    evaluation = COCOeval(truth, found, 'keypoints')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # AP at 0.5 and 0.75: the spots, about which the keypoints are spread, are where the file says.
    np.testing.assert_allclose(evaluation.stats[1:3], 1)
    images = {
        row['file_name']: row['id'] for row in json.loads(Path('out/images.json').read_text())
    }
    assert images == {'val/0.png': 900, 'val/1.png': 17, 'val/2.png': 52}


def test_an_image_that_the_file_does_not_know_keeps_the_others_numbers(run, annotated):
    photo('val/99.png', 40)
    status, out = run('val', boxes='boxes.json')
    assert status == 1
    assert "problem: image 'val/99.png' is not one of those of 'boxes.json'" in out
    assert '1 problem; 0 of 4 files could not be used' in out
    images = {
        row['file_name']: row['id'] for row in json.loads(Path('out/images.json').read_text())
    }
    assert images == {'val/0.png': 900, 'val/1.png': 17, 'val/2.png': 52, 'val/99.png': 901}
    assert {row['image_id'] for row in results()} == {900, 17, 52}


def test_two_images_of_one_number_are_refused_before_any_work(run, annotated, network):
    shutil.copytree('val', 'copy/val')
    status, _ = run('val', 'copy', boxes='boxes.json')
    assert status == (
        "error: 'val/0.png' and 'copy/val/0.png' are both image 900 of 'boxes.json': predict them "
        'into different folders'
    )
    assert not Path('out').exists()


def test_boxes_that_hold_no_person_are_named(run, annotated, network):
    Path('det.json').write_text(json.dumps([coco_box(8, 900), coco_box(300, 17), coco_box(9, 52)]))
    status, out = run('val', '--annotations', 'boxes.json', boxes='det.json')
    assert status == 1
    assert 'problem: box 0 of val/1.png lies outside the image of 80x60' in out
    assert '1 problem; 0 of 3 files could not be used' in out
    assert [row['image_id'] for row in results()] == [900, 52]


def test_box_threshold(run, annotated):
    content = [coco_box(8, 900, 0.9), coco_box(9, 900, 0.4), coco_box(9, 52, 0.3)]
    Path('det.json').write_text(json.dumps(content))
    _, out = run('val', '--annotations', 'boxes.json', '--box-threshold', '0.35', boxes='det.json')
    assert out.startswith('3 images, 2 persons')


# What is refused


@pytest.mark.parametrize(
    ('arguments', 'line'),
    [
        (['nowhere'], "error: 'nowhere' does not exist"),
        (['empty'], "error: folder 'empty' holds no images and no videos"),
        (['data', '--shard', '3/3'], 'error: --shard 3/3: give I/N with I from 0 to N-1, e.g. 0/4'),
        (['data', '--shard', '1'], 'error: --shard 1: give I/N'),
        (['data', '--out', 'data/a.png'], "error: --out 'data/a.png' is a file: give a folder"),
        (['data', '--out', 'data/a.png/x'], "error: folder 'data/a.png/x' cannot be made: Not a"),
        (['data', '--out', 'data/b'], "error: --out 'data/b' holds files that are not of `hrform"),
        (['data', '--boxes', 'no.json'], "error: file of boxes 'no.json' does not exist"),
        (['data', '--boxes', 'yolo'], "error: there is no detector 'yolo': give 'hog', "),
        (['camera:x'], "error: 'camera:x': a camera is given alone"),
        (['data', '--batch-size', '0'], 'error: batch_size=0 is not at least 1'),
    ],
)
def test_mistakes_are_one_line(run, network, arguments, line):
    Path('empty').mkdir()
    before = sorted(Path().rglob('*'))
    flags = {'--out': 'out', '--boxes': 'whole-image'}
    flags.update(zip(*[iter(arguments[1:])] * 2, strict=True))
    status, out = run(
        arguments[0],
        *itertools.chain(*flags.items()),
        boxes=flags['--boxes'],
        out=flags['--out'],
    )
    assert str(status).startswith(line)
    assert '\n' not in status
    assert out == ''
    assert network.seen == 0
    assert [path for path in sorted(Path().rglob('*')) if path.parts[0] != 'out'] == before


@pytest.mark.parametrize(
    ('flags', 'line'),
    [
        (['--model', 'm.onnx', '--checkpoint', 'c'], '--checkpoint is for configs: '),
        (
            ['--model', 'm.xml', '--no-flip'],
            "--flip is for configs: 'm.xml' is an exported network",
        ),
        (['--model', 'm.onnx', '--precision', 'auto'], '--precision is for configs'),
        (['--model', 'm.onnx'], "network 'm.onnx' does not exist"),
        (['--model', 'tiny'], '--model tiny needs its weights: --checkpoint FILE'),
        (['--model', 'tiny', '--checkpoint', 'c', '--backend', 'openvino'], '--backend is for exp'),
    ],
)
def test_flags_that_do_not_go_together(monkeypatch, capsys, tmp_path, flags, line):
    monkeypatch.chdir(tmp_path)
    photo('a.png', 9)
    arguments = ['predict', 'a.png', '--boxes', 'whole-image', *flags]
    status, _ = hrformer(monkeypatch, capsys, *arguments)
    assert status.startswith(f'error: {line}')


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


def test_files_of_others_stay(run, network):
    Path('out').mkdir()
    Path('out/thesis.txt').write_text('mine')
    Path('out/poses_of_mine.jsonl').write_text('mine, too')
    status, _ = run('data')
    assert status == (
        "error: --out 'out' holds files that are not of `hrformer predict`: choose another "
        'folder, or --force to write beside them'
    )
    assert network.seen == 0
    assert sorted(path.name for path in Path('out').iterdir()) == [
        'poses_of_mine.jsonl', 'thesis.txt'
    ]  # fmt: skip
    status, _ = run('data', '--force')
    assert status == 0
    assert Path('out/thesis.txt').read_text() == 'mine'
    assert Path('out/poses_of_mine.jsonl').read_text() == 'mine, too'


def test_hidden_files_do_not_make_a_folder_someone_s(run):
    Path('out').mkdir()
    Path('out/.DS_Store').touch()
    assert run('data')[0] == 0


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


def test_settings_are_compared_before_the_network_is_loaded(run, monkeypatch):
    run('data')

    def fail(args):
        raise AssertionError('loaded')

    monkeypatch.setattr(predict, '_estimator', fail)
    assert 'now it is 0.5' in run('data', '--threshold', '0.5')[0]


# Going on


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


# Shards


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_shards_in_any_order_give_what_one_run_gives(run, network, order):
    run('data', out='whole')
    for place, shard in enumerate(order):
        status, out = run('data', '--shard', f'{shard}/3')
        assert status == 0
        assert f'part {shard}/3: {2 if shard < 2 else 1} image' in out
        assert Path('out/keypoints.json').exists() == (place == 2)
        if place < 2:
            assert 'COCO results are written when all is done; images are left to the parts' in out
    assert network.seen == 10
    assert results() == results('whole')
    assert Path('out/images.json').read_bytes() == Path('whole/images.json').read_bytes()
    assert Path('out/sheet.jpg').read_bytes() == Path('whole/sheet.jpg').read_bytes()


def test_torchrun_s_environment_names_the_shard(run, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    for rank in '01':
        monkeypatch.setenv('RANK', rank)
        assert run('data')[0] == 0
    assert names('out/poses-0-of-2.jsonl') == sorted(PHOTOS)[::2]
    assert names('out/poses-1-of-2.jsonl') == sorted(PHOTOS)[1::2]
    assert len(results()) == 5
    monkeypatch.setenv('RANK', '2')
    assert run('data')[0].startswith('error: RANK/WORLD_SIZE of the environment are 2/2: give I/N')
    assert run('data', '--shard', '0/2')[0] == 0
    monkeypatch.delenv('WORLD_SIZE')
    assert run('data', out='alone')[0] == 0
    assert len(names('alone/poses.jsonl')) == 5


@pytest.mark.parametrize('order', [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_no_image_is_lost_where_a_folder_grows_between_shards(run, network, order):
    """New files shift the shares: what a shard had may be another's now."""
    grown = []
    for number, shard in enumerate(order):
        run('data', '--shard', f'{shard}/3')
        grown.append(photo(f'data/{("a0", "b/0", "zz")[number]}.png', 40))
    assert not Path('out/keypoints.json').exists()
    for shard in order:
        status, out = run('data', '--shard', f'{shard}/3')
        assert status == 0
    assert 'images are left' not in out
    assert sorted(by_name()) == sorted([*PHOTOS, *map(str, grown)])
    assert [len(found) for found in by_name().values()] == [1] * 8
    journals = [names(f'out/poses-{shard}-of-3.jsonl') for shard in range(3)]
    assert Counter(itertools.chain(*journals)) == Counter(by_name().keys())  # none done twice
    assert network.seen == 8


def test_a_failure_that_another_shard_has_mended_does_not_count(run, network):
    whole = Path('data/a.jpg').read_bytes()
    Path('data/a.jpg').write_bytes(whole[:-9])
    assert run('data', '--shard', '0/2')[0] == 1
    Path('data/a.jpg').write_bytes(whole)
    photo('data/0.png', 40)  # now a.jpg belongs to part 1
    assert run('data', '--shard', '1/2')[0] == 0
    assert run('data', '--shard', '0/2')[0] == 0
    assert len(by_name()['data/a.jpg']) == 1
    assert len(results()) == 6
    Path('data/0.png').unlink()  # and now to part 0 again, which itself knows of the failure alone
    status, out = run('data', '--shard', '0/2')
    assert status == 0
    assert 'part 0/2: 3 images, 3 persons' in out
    assert len(by_name()['data/a.jpg']) == 1


def test_shards_of_other_settings_are_not_mixed(run, network):
    run('data', '--shard', '0/2')
    status, _ = run('data', '--shard', '1/2', '--threshold', '0.5')
    assert status == (
        "error: 'out/poses-0-of-2.jsonl' holds predictions made with threshold=0.3, now it is 0.5: "
        'choose another --out, or --force to begin anew'
    )
    # With --force each part begins anew, and results wait for all of them.
    status, out = run('data', '--shard', '1/2', '--threshold', '0.5', '--force')
    assert status == 0
    assert 'images are left to the parts 0/2 (3)' in out
    assert not Path('out/keypoints.json').exists()
    run('data', '--shard', '0/2', '--threshold', '0.5', '--force')
    assert len(results()) == 5


def test_a_broken_image_counts_in_its_own_shard(run):
    Path('data/a.jpg').write_text('')
    status, out = run('data', '--shard', '0/2')
    assert status == 1
    assert 'part 0/2: 3 images, 2 persons' in out
    assert '1 problem; 1 of 3 files could not be used' in out
    status, out = run('data', '--shard', '1/2')
    assert status == 0
    assert len(results()) == 4


# Names of results


def test_results_have_names_of_their_own():
    def named(*inputs, **options):
        return outputs.output_names(inputs, '.jpg', **options)

    assert named('x/a.png') == {'x/a.png': 'a.jpg'}
    assert named('x/a.png', 'x/y/a.png') == {'x/a.png': 'a.jpg', 'x/y/a.png': 'y/a.jpg'}
    assert named('x/a.png', 'z/a.png') == {'x/a.png': 'x/a.jpg', 'z/a.png': 'z/a.jpg'}
    assert named('../q/a.png', '/w/a.b.png')['/w/a.b.png'] == 'w/a.b.jpg'
    # Of one stem, and a third that has the name that this leads to.
    three = named('a.jpg', 'a.png', 'a.jpg.png')
    assert three['a.png'] == 'a.png.jpg'
    assert len(set(three.values())) == 3
    assert named() == {}
    taken = named('b.png', 'x/b.png', taken={'x/b.png': 'b.jpg'})
    assert taken == {'x/b.png': 'b.jpg', 'b.png': 'b-2.jpg'}


def test_many_names_of_one_stem_take_no_time():
    """A hundred thousand, of which two are alike."""
    inputs = [f'd/{number}.jpg' for number in range(100_000)] + ['d/7.png']
    found = outputs.output_names(inputs, '.jpg')
    assert (found['d/7.jpg'], found['d/7.png'], found['d/8.jpg']) == (
        '7.jpg.jpg', '7.png.jpg', '8.jpg'
    )  # fmt: skip


def test_numbers_of_images():
    assert outputs.image_ids(['b', 'a'], 'whole-image') == {'b': 1, 'a': 2}
    boxes = CocoDetections.__new__(CocoDetections)
    boxes.path, boxes._list, boxes._names = 'f.json', 'f.json', {'a': [('a', 4)], 'c': [('c', 9)]}
    assert outputs.image_ids(['x/b', 'x/a', 'x/c', 'd'], boxes) == {
        'x/a': 4, 'x/c': 9, 'x/b': 10, 'd': 11
    }  # fmt: skip
    with pytest.raises(UserError, match="'x/a' and 'y/a' are both image 4 of"):
        outputs.image_ids(['x/a', 'y/a'], boxes)


# Videos


def test_a_video_is_drawn_frame_by_frame(run, network):
    film(Path('clip.avi'), 20, (96, 64))
    status, out = run('clip.avi')
    assert status == 0
    assert out == "'clip.avi', 20 frames, 20 persons: out/videos/clip.mp4, clip.jsonl\n"
    rows = lines('out/videos/clip.jsonl')
    assert [row['frame'] for row in rows] == list(range(20))
    frames = list(sources.Video('clip.avi'))
    for row, frame in zip(rows, frames, strict=True):
        (pose,) = Estimator(network)(frame, 'whole-image')
        assert row['poses'] == [pose.to_dict()]
    drawn = list(sources.Video('out/videos/clip.mp4'))
    assert [frame.shape for frame in drawn] == [(64, 96, 3)] * 20
    assert sources.Video('out/videos/clip.mp4').fps == 10
    # The bar grows from frame to frame: they are in order, and each is there.
    bars = [int((frame[30:40].mean((0, 2)) > 128).sum()) for frame in drawn]
    assert all(abs(bar - (2 * number + 2)) <= 2 for number, bar in enumerate(bars))
    assert lines()[1] == dict(
        name='clip.avi', kind='video', frames=20, persons=20, lines='videos/clip.jsonl'
    )
    assert {path.name for path in Path('out/videos').iterdir()} == {'clip.jsonl', 'clip.mp4'}


def test_a_video_that_is_done_is_not_done_again(run, network):
    film(Path('clip.mp4'), 5)
    run('clip.mp4')
    before = Path('out/videos/clip.mp4').stat().st_mtime_ns
    status, out = run('clip.mp4')
    assert status == 0
    assert out.splitlines() == [
        "'out' already holds all of this (--force begins anew)",
        "'clip.mp4', 5 frames, 5 persons: out/videos/clip.mp4, clip.jsonl",
    ]
    assert network.seen == 5
    assert Path('out/videos/clip.mp4').stat().st_mtime_ns == before


def test_a_video_that_was_interrupted_is_done_again(run, network):
    film(Path('clip.mp4'), 6)
    network.left, network.error = 3, SystemExit(9)
    run('clip.mp4', '--batch-size', '1')
    assert names() == []
    assert not Path('out/videos/clip.mp4').exists()
    network.left = float('inf')
    _, out = run('clip.mp4', '--batch-size', '1')
    assert "'clip.mp4', 6 frames, 6 persons" in out
    assert len(list(sources.Video('out/videos/clip.mp4'))) == 6
    assert len(lines('out/videos/clip.jsonl')) == 6
    assert {path.name for path in Path('out/videos').iterdir()} == {'clip.jsonl', 'clip.mp4'}


def test_videos_of_one_name_have_results_of_their_own(run):
    for path, count in (('x/clip.mp4', 3), ('y/clip.mp4', 4), ('y/clip.avi', 5)):
        Path(path).parent.mkdir(exist_ok=True)
        film(Path(path), count)
    status, out = run('x', 'y')
    assert status == 0
    counts = {line['name']: line['lines'] for line in lines() if 'name' in line}
    assert len(set(counts.values())) == 3
    for name, count in (('x/clip.mp4', 3), ('y/clip.mp4', 4), ('y/clip.avi', 5)):
        rows = Path('out', counts[name])
        assert len(lines(rows)) == count
        assert len(list(sources.Video(str(rows.with_suffix('.mp4'))))) == count
        assert f"'{name}', {count} frames" in out
    # One more of that name, later.
    Path('z').mkdir()
    film(Path('z/clip.mp4'), 6)
    run('x', 'y', 'z')
    now = {line['name']: line['lines'] for line in lines() if 'name' in line}
    assert counts.items() <= now.items()
    assert len(set(now.values())) == 4


def test_videos_that_are_cut_short(run, network):
    for name in ('a.avi', 'b.mp4'):
        whole = film(Path(name)).read_bytes()
        Path(name).write_bytes(whole[: len(whole) * 6 // 10])
    photo('c.png', 40)
    status, out = run('a.avi', 'b.mp4', 'c.png')
    assert status == 1
    count = len(lines('out/videos/a.jsonl'))
    assert 0 < count < 19
    assert out.splitlines()[-3:] == [
        f"problem: 'a.avi' is cut short: {count} of 20 frames can be read",
        "problem: 'b.mp4' cannot be opened: broken, cut short, or no video",
        '2 problems; 1 of 3 files could not be used',
    ]
    assert f"'a.avi', {count} frames" in out
    assert "'b.mp4', 0 frames, 0 persons\n" in out
    assert len(list(sources.Video('out/videos/a.mp4'))) == count
    assert not Path('out/videos/b.mp4').exists()
    # The file that cannot be opened is tried again, the other one is not; both are still named.
    seen = network.seen
    status, out = run('a.avi', 'b.mp4', 'c.png')
    assert status == 1
    assert network.seen == seen
    assert '2 problems; 1 of 3 files could not be used' in out


def test_a_video_without_a_frame(run, monkeypatch):
    film(Path('a.avi'), 3)
    monkeypatch.setattr(sources.Video, '__iter__', lambda self: iter(()))
    status, out = run('a.avi')
    assert status == 1
    assert "problem: 'a.avi' is broken: no frame can be read" in out
    assert '1 problem; 1 of 1 file could not be used' in out
    assert list(Path('out/videos').iterdir()) == []


def test_a_video_whose_frames_are_turned_on_reading(run, monkeypatch):
    """The file's own width and height are those before."""
    film(Path('a.avi'), 4, (96, 64))
    frames = [frame.transpose(1, 0, 2).copy() for frame in sources.Video('a.avi')]
    with monkeypatch.context() as patch:
        patch.setattr(sources.Video, '__iter__', lambda self: iter(frames))
        patch.setattr(sources.Video, 'cut_short', lambda self: None)
        run('a.avi')
    drawn = list(sources.Video('out/videos/a.mp4'))
    assert [frame.shape for frame in drawn] == [(96, 64, 3)] * 4


def test_without_an_encoder_there_are_poses_and_no_drawn_video(run, monkeypatch):
    film(Path('clip.mp4'), 3)
    no_encoder = type('', (), dict(isOpened=lambda self: False, release=lambda self: None))
    monkeypatch.setattr(cv2, 'VideoWriter', lambda *arguments: no_encoder())
    status, out = run('clip.mp4')
    assert status == 1
    assert "'clip.mp4', 3 frames, 3 persons: out/videos/clip.jsonl\n" in out
    assert (
        "problem: 'out/videos/clip.mp4' cannot be written: OpenCV has no encoder for mp4 here "
        '(--no-pictures goes without)'
    ) in out
    assert len(lines('out/videos/clip.jsonl')) == 3
    assert [path.name for path in Path('out/videos').iterdir()] == ['clip.jsonl']


def test_a_file_of_boxes_is_refused_for_videos_before_any_work(run, annotated, network):
    film(Path('val/clip.mp4'), 3)
    status, _ = run('val', boxes='boxes.json')
    assert status == "error: --boxes boxes.json: a file of boxes is for images, not 'val/clip.mp4'"
    assert network.seen == 0
    assert not Path('out').exists()
    status, _ = run('camera:3', boxes='boxes.json')
    assert status.endswith("a file of boxes is for images, not 'camera 3'")


def test_a_box_of_a_frame_that_holds_nobody_is_named_by_the_frame(run, monkeypatch):
    film(Path('clip.mp4'), 3)
    tables = iter([[[0, 0, 30, 40]], [[0, 0, 30, 40], [5, 5, 5, 5]], []])
    monkeypatch.setattr(predict, '_boxes', lambda args: lambda image: next(tables))
    status, out = run('clip.mp4', '--no-pictures')
    assert status == 1
    assert "problem: box 1 of frame 1 of 'clip.mp4' has no area: 5, 5, 5, 5" in out
    assert [len(row['poses']) for row in lines('out/videos/clip.jsonl')] == [1, 1, 0]
    assert not Path('out/videos/clip.mp4').exists()


class Camera(sources.Video):
    """Gives five frames, then someone presses Ctrl-C."""

    def __init__(self, source):
        assert source == 3
        self.name, self.fps, self.frames, self.read = 'camera 3', 25.0, None, 0

    def __iter__(self):
        for number in range(5):
            frame = np.zeros((48, 64, 3), np.uint8)
            frame[20, 10 + number] = 255
            yield frame
        raise KeyboardInterrupt


def test_each_recording_of_a_camera_is_kept(run, monkeypatch, network):
    monkeypatch.setattr(sources, 'Video', Camera)
    for name in ('camera-3', 'camera-3-2', 'camera-3-3'):
        status, out = run('camera:3', *(['--no-pictures'] if name == 'camera-3-2' else []))
        assert status == 0
        files = f'{name}.mp4, {name}.jsonl' if name != 'camera-3-2' else f'{name}.jsonl'
        assert out == f"'camera 3', 5 frames, 5 persons: out/{files}\n"
        # Frames are not held until a batch is full.
        assert network.batches[-5:] == [1] * 5
        assert len(lines(f'out/{name}.jsonl')) == 5
        assert Path(f'out/{name}.mp4').exists() == (name != 'camera-3-2')


def test_show_ends_a_video_and_it_is_not_taken_for_done(run, monkeypatch, network):
    film(Path('clip.mp4'), 8)
    shown = []
    monkeypatch.setattr(videos, '_shown', lambda picture: shown.append(picture) or len(shown) < 3)
    status, out = run('clip.mp4', '--show', '--no-pictures')
    assert status == 1
    assert "problem: 'clip.mp4' was ended by q: 3 frames" in out
    assert len(shown) == 3
    monkeypatch.setattr(videos, '_shown', lambda picture: True)
    status, out = run('clip.mp4', '--no-pictures')
    assert status == 0
    assert "'clip.mp4', 8 frames" in out


def test_show_without_windows_says_so(run, monkeypatch):
    film(Path('clip.mp4'), 3)

    def imshow(*_):
        raise cv2.error('not implemented')

    monkeypatch.setattr(cv2, 'imshow', imshow)
    status, _ = run('clip.mp4', '--show')
    assert status == 'error: --show: this OpenCV has no windows (opencv-python has)'


# Devices


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch):
    import torch

    from hrformer_mmpose import inference

    given = []
    monkeypatch.setattr(inference, 'PoseEstimator', lambda *args, **options: given.append(args[2]))
    flags = ['a.png', '--model', 'tiny', '--checkpoint', 'c.pth']
    for gpus, rank, device, expected in (
        (0, '1', None, None),
        (4, '0', None, 'cuda:0'),
        (4, '3', None, 'cuda:3'),
        (4, '3', 'cuda:1', 'cuda:1'),
        (4, '3', 'cpu', 'cpu'),
    ):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda gpus=gpus: gpus)
        monkeypatch.setenv('LOCAL_RANK', rank)
        more = ['--device', device] if device else []
        predict._estimator(predict.parser().parse_args([*flags, *more]))
        assert given[-1] == expected


# The terminal


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
