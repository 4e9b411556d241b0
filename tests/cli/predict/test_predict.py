"""`hrformer predict` from the command line to its files, with a network whose answer is known."""

import itertools
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrformer_mmpose import io
from hrformer_mmpose.cli.predict import outputs
from hrformer_mmpose.errors import UserError
from hrformer_mmpose.imaging.skeleton import COCO, Skeleton
from hrformer_mmpose.inference.detectors import CocoDetections
from hrformer_mmpose.inference.estimator import Estimator
from tests.inference.films import film

from .helpers import PHOTOS, by_name, coco_box, hrformer, lines, names, photo, results

TINY = 'hrformer_tiny_demo_112x84'

# Images


def test_a_folder(run):
    status, out = run('data')
    assert status == 0
    assert out.splitlines() == [
        '5 images, 5 persons',
        'pictures: out/pictures',
        'COCO results: out/keypoints.json',
        'keypoint names: out/categories.json',
        'image ids: out/images.json',
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
        'poses.jsonl', 'keypoints.json', 'categories.json', 'images.json', 'sheet.jpg', 'pictures'
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
    (category,) = json.loads(Path('out/categories.json').read_text())
    assert category['keypoints'] == list(COCO.names)
    assert category['skeleton'][0] == [1, 2], "COCO's edges count from 1"
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
        'poses.jsonl', 'keypoints.json', 'categories.json', 'images.json'
    }  # fmt: skip


def test_nobody(run, network):
    Path('none.json').write_text(json.dumps([coco_box(7, 99)]))
    images = [
        dict(id=number, file_name=f'{number}.png', width=80, height=60) for number in (1, 2, 99)
    ]
    Path('all.json').write_text(json.dumps(dict(images=images, annotations=[], categories=[])))
    photo('img/1.png', 20), photo('img/2.png', 20)
    status, out = run('img', '--annotations', 'all.json', boxes='none.json')
    assert status == 0
    assert out.startswith('2 images, 0 persons\npictures: out/pictures\nCOCO results: ')
    assert results() == []
    assert not Path('out/sheet.jpg').exists()
    assert cv2.imread('out/pictures/1.jpg').shape == (60, 80, 3)


@pytest.mark.parametrize('names', [('1.png', '2.png'), ('a.png', 'b.png')])
def test_boxes_of_other_images_are_refused_before_any_work(run, network, names):
    Path('none.json').write_text(json.dumps([coco_box(7, 99)]))
    for name in names:
        photo(f'img/{name}', 20)
    status, out = run('img', boxes='none.json')
    assert status == (
        f"error: 'none.json' has no box for any of the 2 images, e.g. 'img/{names[0]}': detections "
        "name an image by its id, which must be the number at the end of the file's name, or give "
        'the annotation file that lists the images (--annotations)'
    )
    assert not Path('out').exists()
    # One that it knows is enough, and a box below the threshold, too.
    photo('img/99.png', 20)
    status, out = run('img', '--box-threshold', '0.95', boxes='none.json')
    assert out.startswith('3 images, 0 persons')


def test_a_file_of_boxes_with_a_byte_order_mark(run):
    photo('img/7.png', 20)
    Path('marked.json').write_text(json.dumps([coco_box(5, 7)]), encoding='utf-8-sig')
    status, out = run('img', boxes='marked.json')
    assert status == 0, out


def test_annotations_of_other_images_are_refused_before_any_work(run, annotated):
    status, _ = run('data', boxes='boxes.json')
    assert status.startswith("error: 'boxes.json' lists none of the 5 images, e.g. 'data/a.jpg': ")


@pytest.mark.parametrize('text', ['0', 0, False, None])
def test_persons_of_iscrowd_zero_however_it_is_written(run, annotated, text):
    for annotation in annotated['annotations']:
        annotation['iscrowd'] = text
    annotated['annotations'][1]['iscrowd'] = '1' if text == '0' else 1
    Path('boxes.json').write_text(json.dumps(annotated))
    status, out = run('val', boxes='boxes.json')
    assert status == 0
    assert out.startswith('3 images, 2 persons')


def test_files_that_are_skipped_are_told(run):
    Path('data/b/x.heic').touch(), Path('data/y.SVG').touch()
    status, out = run('data')
    assert status == 0
    assert out.splitlines()[:2] == [
        'skipped 2 files that are neither image nor video by name (1 .heic, 1 .svg), e.g. '
        "'data/b/x.heic'; 'data/b/x.heic' is HEIC, which is not read: convert it to JPEG or PNG, "
        'e.g. by: magick IN.heic OUT.jpg',
        '5 images, 5 persons',
    ]


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='Windows has no such pipes')
def test_pipes_devices_and_folders_with_the_names_of_images(run, network):
    os.mkfifo('data/pipe.jpg'), os.mkfifo('data/pipe.mp4'), Path('data/z.jpg').mkdir()
    os.symlink('/dev/zero', 'data/zero.png')
    status, out = run('data', 'data/pipe.jpg', 'data/*.jpg')
    assert status == 1
    assert out.splitlines()[-4:] == [
        "problem: image 'data/pipe.jpg' is a pipe, a socket or a device, not a file",
        "problem: image 'data/zero.png' is a pipe, a socket or a device, not a file",
        "problem: 'data/pipe.mp4' is no file",
        '3 problems; 3 of 8 files could not be used',
    ]
    assert network.seen == 5
    assert run('data/z.jpg')[0] == "error: folder 'data/z.jpg' holds no images and no videos"


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
    assert "continuing in 'out': 4 of 6 files are done" in out
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
        (['data', '--out', 'data/a.png/x'], "error: folder 'data/a.png/x' cannot be created: "),
        (['data', '--out', 'data/b'], "error: --out 'data/b' holds files that are not of `hrform"),
        (['data', '--boxes', 'no.json'], "error: file of boxes 'no.json' does not exist"),
        (['data', '--boxes', 'yolo'], "error: there is no detector 'yolo': give 'hog', "),
        (['camera:x'], "error: 'camera:x': a camera is given alone"),
        (['data', '--checkpoint', ''], "error: --checkpoint '' is empty"),
        (['data', '--boxes', ''], "error: --boxes '' is empty"),
        (['data', '--boxes', 'onnx:'], "error: there is no detector 'onnx:'"),
        (['data', '--annotations', ''], "error: --annotations '' is empty"),
        (['data', '--out', ''], "error: --out '' is empty"),
        ([''], "error: '' does not exist"),
        (['data', '--threads', '99999'], 'error: threads=99999: give 1 to '),
        (['data', '--threads', '-1'], 'error: threads=-1: give 1 to '),
        (['data', '--threshold', 'nan'], 'error: --threshold nan: scores are from 0 to 1'),
        (['data', '--box-threshold', 'inf'], 'error: --box-threshold inf: scores are from 0 to 1'),
        (['data', '--threshold', '30'], 'error: --threshold 30.0: scores are from 0 to 1'),
        (['data', '--batch-size', '99999'], 'error: batch_size=99999: give 1 to 4096'),
        (['data', '--batch-size', '0'], 'error: batch_size=0: give 1 to 4096'),
    ],
)
def test_mistakes_are_one_line(run, network, arguments, line):
    Path('empty').mkdir()
    before = sorted(Path().rglob('*'))
    flags = {'--out': 'out', '--boxes': 'whole-image'}
    flags.update(zip(*[iter(arguments[1:])] * 2, strict=True))
    status, out = run(
        arguments[0], *itertools.chain(*flags.items()), boxes=flags['--boxes'], out=flags['--out']
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
        (['--model', TINY], f'--model {TINY} needs its weights: --checkpoint FILE'),
        (['--model', TINY, '--checkpoint', 'c', '--backend', 'openvino'], '--backend is for exp'),
        (
            ['--model', 'a.pth'],
            '--model a.pth is a checkpoint: give it as --checkpoint, and its con',
        ),
        (['--model', ''], "--model '' is empty: give a name or a path"),
        (['--model', 'none'], "config 'none' is neither a file nor one of the names"),
        (['--model', '.'], "config '.' is a folder: give the .py file in it; a folder that is"),
        (['--model', '/', '--checkpoint', 'c'], "config '/' is a folder: give the .py file"),
        (['--model', 'm.onnx', '--threads', '0'], 'threads=0: give 1 to '),
    ],
)
def test_flags_that_do_not_go_together(monkeypatch, capsys, tmp_path, flags, line):
    monkeypatch.chdir(tmp_path)
    photo('a.png', 9)
    arguments = ['predict', 'a.png', '--boxes', 'whole-image', *flags]
    status, _ = hrformer(monkeypatch, capsys, *arguments)
    assert status.startswith(f'error: {line}')


def content(folder: str = 'out') -> dict[str, bytes]:
    paths = [path for path in Path(folder).rglob('*') if path.is_file()]
    return {str(path): path.read_bytes() for path in paths}


def test_files_of_others_stay(run, network):
    Path('out/photos').mkdir(parents=True)
    Path('out/thesis.txt').write_text('mine')
    Path('out/photos/a.jpg').write_text('mine')
    Path('out/poses_of_mine.jsonl').write_text('mine, too')
    before = content()
    status, _ = run('data')
    assert status == (
        "error: --out 'out' holds files that are not of `hrformer predict`: choose another "
        'folder, or --force to write beside them'
    )
    assert network.seen == 0
    assert content() == before
    for _ in range(2):
        assert run('data', '--force')[0] == 0
        assert content().items() > before.items()
        assert len(results()) == 5


@pytest.mark.parametrize(
    'name',
    [
        'keypoints.json',
        'categories.json',
        'images.json',
        'sheet.jpg',
        'pictures/a.jpg',
        'videos/mine.mp4',
    ],
)
@pytest.mark.parametrize('others', [(), ('poses.jsonl',), ('camera-01.jpg',), ('camera-0.mp4',)])
def test_force_writes_over_nothing_that_is_not_its_own(run, network, name, others):
    """Also where files of other programs have the name of a journal or of a recording."""
    for path in (name, *others):
        Path('out', path).parent.mkdir(parents=True, exist_ok=True)
        Path('out', path).write_text('mine')
    before = content()
    assert run('data')[0].startswith("error: --out 'out' holds files that are not of")
    status, _ = run('data', '--force')
    assert status == (
        f"error: 'out/{name.split('/')[0]}' is not of `hrformer predict`, which would write over "
        'it: choose another --out'
    )
    assert content() == before
    assert network.seen == 0


def test_force_leaves_a_journal_of_others(run, network):
    Path('out').mkdir()
    Path('out/poses.jsonl').write_text('{"mine": 1}\n')
    before = content()
    status, _ = run('data', '--force')
    assert status == "error: 'out/poses.jsonl' is not of `hrformer predict`: choose another --out"
    assert content() == before
    assert network.seen == 0


def test_force_replaces_its_own_results_also_after_a_kill(run, network):
    for journal in (None, b'', b'{"sett'):
        run('data', '--force')
        if journal is not None:
            Path('out/poses.jsonl').write_bytes(journal)
        assert run('data', '--force')[0] == 0
        assert len(results()) == 5


def test_hidden_files_do_not_make_a_folder_someone_s(run):
    Path('out').mkdir()
    Path('out/.DS_Store').touch()
    assert run('data')[0] == 0


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


@pytest.mark.skipif(sys.platform != 'linux', reason='systems differ in the length of names')
def test_names_of_the_greatest_length(run):
    """Temporary names are longer than those of the results."""
    names = ['x' * 251, 'é' * 125 + 'x', 'x' * 250 + 'y']
    for name in names:
        photo(f'long/{name}.png', 20)
    film(Path(f'long/{"v" * 251}.avi'), 3)
    assert run('long')[0] == 0
    assert {path.name for path in Path('out/pictures').iterdir()} == {
        'x' * 200 + '.jpg', 'x' * 200 + '-2.jpg', 'é' * 100 + '.jpg'
    }  # fmt: skip
    assert len(list(Path('out/videos').iterdir())) == 2
    with io.replacing(Path('y' * 255)) as partial:
        Path(partial).write_text('new')
    assert Path('y' * 255).read_text() == 'new'


def test_a_picture_that_cannot_be_written_is_a_problem_of_its_image(run):
    photo('d/a.png', 20), photo('d/a.jpg/b.png', 20), photo('d/z.png', 20)
    status, out = run('d')
    assert status == 1
    assert 'pictures/a.jpg' in out.splitlines()[-2]
    assert out.splitlines()[-1] == '1 problem; 0 of 3 files could not be used'
    assert len(results()) == 3
    assert Path('out/pictures/z.jpg').exists()


def test_numbers_of_images():
    assert outputs.image_ids(['b', 'a'], 'whole-image') == {'b': 1, 'a': 2}
    boxes = CocoDetections.__new__(CocoDetections)
    boxes.path, boxes._list, boxes._names = 'f.json', 'f.json', {'a': [('a', 4)], 'c': [('c', 9)]}
    assert outputs.image_ids(['x/b', 'x/a', 'x/c', 'd'], boxes) == {
        'x/a': 4, 'x/c': 9, 'x/b': 10, 'd': 11
    }  # fmt: skip
    with pytest.raises(UserError, match="'x/a' and 'y/a' are both image 4 of"):
        outputs.image_ids(['x/a', 'y/a'], boxes)


def test_a_written_file_leaves_no_parts_behind(tmp_path):
    """Parts of killed processes are removed, those of running ones stay, errors leave none."""
    killed, running = (
        tmp_path / f'keypoints.json.{io._host()}-{pid}-12ab{io.PARTIAL}'
        for pid in (2**22 + 1, os.getppid())
    )
    killed.touch()
    running.touch()
    outputs._write_json(tmp_path / 'keypoints.json', [1])
    assert {*tmp_path.iterdir()} == {running, tmp_path / 'keypoints.json'}
    with pytest.raises(TypeError):
        outputs._write_json(tmp_path / 'a.json', [object()])
    assert {*tmp_path.iterdir()} == {running, tmp_path / 'keypoints.json'}


def test_parts_of_pictures_are_removed(run):
    """Those that a run left that was killed while it wrote a picture."""
    run('data/a.png')
    Path('out/pictures/b').mkdir()
    killed, foreign = (
        Path(f'out/pictures/b/{name}{io.PARTIAL}')
        for name in (f'x.jpg.{io._host()}-{2**22 + 1}-12ab', 'mine')
    )
    killed.touch(), foreign.touch()
    run('data/a.png', 'data/b/c.bmp')
    assert not killed.exists()
    assert foreign.exists()
