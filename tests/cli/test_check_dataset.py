"""tools/check_dataset.py: counts, every problem with file and id, the exit code."""

import json
import shutil
import struct
import sys
from zlib import compress, crc32

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS, METRICS

from hrformer_mmpose import zoo
from hrformer_mmpose.cli import check_dataset, terminal
from hrformer_mmpose.errors import UserError
from hrformer_mmpose.synthetic import shapes
from tests.datasets import segmentation_data

CONFIG = 'configs/hrformer_tiny_demo_112x84.py'
TRAIN = 'annotations/person_keypoints_train2017.json'
VAL = 'annotations/person_keypoints_val2017.json'
BOXES = 'person_detection_results/simulated_val2017_person.json'


@pytest.fixture
def root(synthetic_root, tmp_path, monkeypatch):
    """A copy that a test may break, which the config finds."""
    copied = shutil.copytree(synthetic_root, tmp_path / 'coco')
    monkeypatch.setenv('DEMO_ROOT', str(copied))
    return copied


def check(capsys, *flags) -> tuple[int, str]:
    status = check_dataset.run(check_dataset.parser().parse_args([CONFIG, *map(str, flags)]))
    return status, capsys.readouterr().out


def edit(path, change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize('flags', [[], ['--full']])
def test_good_data(root, capsys, flags):
    status, out = check(capsys, *flags)
    assert status == 0
    data = json.loads((root / TRAIN).read_text())
    assert f"{TRAIN}': 8 images, {len(data['annotations'])} annotations" in out
    assert "train2017/': 8 of 8 images with persons" in out
    assert 'val and test:' in out, 'the same data set is checked once'
    assert 'no problems' in out
    assert 'PROBLEM' not in out


def test_every_problem_is_told(root, capsys):
    def spoil(data):
        first, second, third = data['annotations'][:3]
        first['keypoints'] = first['keypoints'][:30]
        second['category_id'] = 9
        third['keypoints'][:3] = [-50, 10, 2]  # outside: worth a look, no obstacle
        third['id'] = 12345
        first['id'], second['id'] = 777, 778

    edit(root / TRAIN, spoil)
    images = sorted((root / 'val2017').iterdir())
    images[0].unlink()
    images[1].write_bytes(b'')
    status, out = check(capsys)
    assert status == 1
    assert f"PROBLEM: annotation 777 in '{root / TRAIN}' does not have 17 keypoints" in out
    assert f"PROBLEM: annotation 778 in '{root / TRAIN}' has a category" in out
    assert 'note: annotation 12345 in' in out
    assert f"PROBLEM: image '{images[0]}' does not exist" in out
    assert f"PROBLEM: image '{images[1]}' is empty" in out
    assert '4 problems' in out


def test_detections_of_other_data(root, capsys):
    option = f'val_dataloader.dataset.bbox_file={BOXES}'
    edit(root / BOXES, lambda data: data[1].update(image_id=424242))
    status, out = check(capsys, '--splits', 'val', '--cfg-options', option)
    assert status == 1
    assert 'PROBLEM: detection 1 (of image 424242)' in out
    assert 'person boxes on' in out


def test_annotations_beside_detections_are_notes(root, capsys):
    """A run checks and uses the detections only."""
    option = f'val_dataloader.dataset.bbox_file={BOXES}'
    edit(root / VAL, lambda data: data['annotations'][0].update(keypoints=[1, 2, 2], id=777))
    status, out = check(capsys, '--splits', 'val', '--cfg-options', option)
    assert status == 0
    assert f"note: annotation 777 in '{root / VAL}' does not have 17 keypoints" in out


def test_what_a_run_skips_is_a_note(root, capsys):
    flags = ['--full', '--splits', 'val', '--cfg-options', 'val_dataloader.dataset.on_error=skip']
    edit(root / VAL, lambda data: data['annotations'][0].update(keypoints=[1, 2, 2], id=777))
    first, second, *others = sorted((root / 'val2017').iterdir())
    first.unlink()
    second.write_bytes(b'<html>')
    status, out = check(capsys, *flags)
    assert status == 0
    for words in ('annotation 777 in', f"image '{first}' does not", f"image '{second}' is not an"):
        assert f'note: {words}' in out
    for path in others:
        path.write_bytes(b'<html>')
    status, out = check(capsys, *flags)
    assert status == 1
    assert 'PROBLEM: no image can be read' in out


def test_full_mode_decodes(root, capsys):
    images = sorted((root / 'train2017').iterdir())
    images[0].write_bytes(images[0].read_bytes()[:-400])
    images[1].write_bytes(b'<html>')
    other = cv2.imread(str(images[2]))
    cv2.imwrite(str(images[2]), np.rot90(other).copy())
    cv2.imwrite(str(images[3]), cv2.cvtColor(cv2.imread(str(images[3])), cv2.COLOR_BGR2GRAY))
    status, out = check(capsys, '--splits', 'train')
    assert status == 0, 'the quick mode does not look into images'
    status, out = check(capsys, '--splits', 'train', '--full')
    assert status == 1
    assert f"image '{images[0]}' is cut short" in out
    assert f"image '{images[1]}' is not an image" in out
    assert f"image '{images[2]}' (id " in out
    assert 'annotated as' in out
    assert f"note: image '{images[3]}' is grey" in out
    assert '3 problems' in out


def test_an_evaluator_of_another_file(root, capsys):
    option = f'val_evaluator.ann_file={root / TRAIN}'
    status, out = check(capsys, '--splits', 'val', '--cfg-options', option)
    assert status == 1
    assert f"val_evaluator compares with '{root / TRAIN}'" in out


def test_images_in_training_and_validation_are_noted(root, capsys):
    shutil.copy(root / TRAIN, root / VAL)
    _, out = check(capsys, '--cfg-options', 'val_dataloader.dataset.data_prefix.img=train2017/')
    assert 'note: 8 images of val are also in train' in out


@pytest.mark.parametrize('what', ['empty', 'missing', 'no persons', 'not json'])
def test_files_that_cannot_be_checked_further(root, capsys, what):
    path = root / TRAIN
    if what == 'missing':
        path.unlink()
    elif what == 'no persons':
        edit(path, lambda data: data.update(annotations=[]))
    else:
        path.write_text('' if what == 'empty' else '{"images": [')
    status, out = check(capsys)
    assert status == 1
    assert (
        f"PROBLEM: {'' if what in ('no persons', 'not json') else 'annotation file '}'{path}'"
        in out
    )
    assert 'val and test:' in out, 'the others are checked all the same'


def png(width: int, height: int) -> bytes:
    """A valid header of an image that has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b'IHDR', header) + chunk(b'IDAT', compress(b'')) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + chunks


def widened(root, width: int) -> None:
    """Put an image of that width, annotated as such, in the place of the first one of val."""
    data = json.loads((root / VAL).read_text())
    image = next(i for i in data['images'] if i['id'] == data['annotations'][0]['image_id'])
    image.update(width=width)
    (root / VAL).write_text(json.dumps(data))
    content = cv2.imencode('.png', np.zeros((image['height'], width, 3), np.uint8))[1]
    (root / 'val2017' / image['file_name']).write_bytes(content)


def without_area(root) -> None:
    edit(root / VAL, lambda data: [ann.pop('area') for ann in data['annotations']])


def other_size(root) -> None:
    """The image is larger than annotated, so that only decoding shows it."""
    path = root / 'val2017' / json.loads((root / VAL).read_text())['images'][0]['file_name']
    path.write_bytes(png(100_000, 100_000))


DATA = {
    'good': lambda root: None,
    'wide': lambda root: widened(root, 40_000),
    'wide, of other size': other_size,
    'widest': lambda root: widened(root, 32_766),
    'no area': without_area,
    'no images': lambda root: edit(root / VAL, lambda data: data.update(images=[])),
    'categories': lambda root: edit(root / VAL, lambda data: data.update(categories=['person'])),
    'category without id': lambda root: edit(
        root / VAL, lambda data: data.update(categories=[{'name': 'person'}])
    ),
}


@pytest.mark.parametrize('kind', DATA)
def test_the_check_and_a_run_agree(root, capsys, kind):
    """What a test run would do: build the metric, build the data set, read every sample."""
    DATA[kind](root)
    status, out = check(capsys, '--splits', 'val', '--full')
    cfg = Config.fromfile(zoo.find(CONFIG))
    init_default_scope('mmpose')
    refusal = None
    try:
        METRICS.build(cfg.val_evaluator)
        data = DATASETS.build(cfg.val_dataloader.dataset)
        for index in range(len(data)):
            data[index]
    except UserError as error:
        refusal = str(error)
    assert (status == 0) == (refusal is None) == (kind in ('good', 'widest', 'no area'))
    problems = [line.split('PROBLEM: ')[1] for line in out.splitlines() if 'PROBLEM: ' in line]
    if refusal:
        assert '\n' not in refusal
        assert any(refusal.startswith(problem) for problem in problems)


def test_the_tool_ends_with_the_status(root, monkeypatch):
    (root / TRAIN).write_text('')
    monkeypatch.setattr(sys, 'argv', ['check_dataset.py', CONFIG])
    with pytest.raises(SystemExit) as caught:
        terminal.run(check_dataset.run, check_dataset.parser())
    assert caught.value.code == 1


def test_folders_of_classes(tmp_path, capsys, monkeypatch):
    root = shapes.generate(tmp_path / 'shapes', num_train=2, num_val=1)
    monkeypatch.setenv('SHAPES_ROOT', str(root))

    def look(*flags):
        flags = ['configs/hrformer_tiny_shapes_64.py', *flags]
        status = check_dataset.run(check_dataset.parser().parse_args(flags))
        return status, capsys.readouterr().out

    status, out = look('--full')
    assert status == 0
    assert "train': 10 images, 5 classes" in out
    broken, empty = root / 'train/star/0000.jpg', root / 'val/star/0000.jpg'
    broken.write_text('no image')
    empty.write_bytes(b'')
    status, out = look('--full')
    assert status == 1
    assert f"'{broken}' is not an image" in out
    assert f"'{empty}' is empty" in out
    empty.unlink()
    status, out = look()
    assert f"PROBLEM: class folder '{empty.parent}' holds no images" in out
    assert '1 problem;' in out


def test_masks_of_classes(tmp_path, capsys, monkeypatch):
    root = segmentation_data.cityscapes(tmp_path)
    monkeypatch.setenv('CITYSCAPES_ROOT', str(root))

    def look(*flags):
        flags = check_dataset.parser().parse_args(['hrformer_small_cityscapes_512x1024', *flags])
        return check_dataset.run(flags), capsys.readouterr().out

    status, out = look('--full')
    assert status == 0
    assert "leftImg8bit/train': 4 images, 19 classes" in out
    assert "leftImg8bit/val': 2 images, 19 classes" in out
    masks = sorted((root / 'gtFine/train').rglob('*labelIds.png'))
    cv2.imwrite(str(masks[0]), np.full((64, 128), 40, np.uint8))
    cv2.imwrite(str(masks[1]), np.zeros((64, 128, 3), np.uint8))
    masks[2].write_bytes(b'')
    status, out = look('--full')
    assert status == 1
    assert f"PROBLEM: mask '{masks[0]}' holds 40, which is no label of cityscapes" in out
    assert f"PROBLEM: mask '{masks[1]}' has the mode RGB" in out
    assert f"PROBLEM: image '{masks[2]}' is empty" in out
    masks[3].unlink()
    status, out = look()
    assert status == 1
    assert f"has no mask '{masks[3]}'" in out
