"""The command: what it writes runs from any folder, and mistakes are one line each."""

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS, MODELS

from hrformer_mmpose import zoo
from hrformer_mmpose.cli import check_dataset, new_dataset, terminal
from hrformer_mmpose.cli.config_checks import check
from hrformer_mmpose.cli.main import COMMANDS, main
from hrformer_mmpose.coco.metainfo import parse_metainfo
from tests.owndata import writers


@pytest.fixture
def ask(drawn, tmp_path, capsys, monkeypatch):
    """Run the command on the drawn people; return status, output and folder."""
    content, images = drawn
    monkeypatch.chdir(tmp_path)
    path = writers.coco(content, tmp_path)

    def ask(*flags, annotations=path, out='mine'):
        arguments = [str(annotations), '--images', str(images), '--out', out, *map(str, flags)]
        status = new_dataset.run(new_dataset.parser().parse_args(arguments))
        return status, capsys.readouterr().out, tmp_path / out

    ask.path, ask.content, ask.images = path, content, images
    return ask


def complain(ask, monkeypatch, *flags, **kwargs) -> str:
    """Run as from the shell; return the line of the error."""
    arguments = dict(annotations=ask.path, out='mine', images=ask.images) | kwargs
    argv = ['hrformer', 'new-dataset', arguments['annotations'], '--images', arguments['images']]
    argv += ['--out', arguments['out'], *flags]
    monkeypatch.setattr(sys, 'argv', [str(value) for value in argv])
    with pytest.raises(SystemExit) as caught:
        main()
    line = str(caught.value)
    assert line.startswith('error: ')
    assert '\n' not in line
    return line


def test_what_is_written(ask, tmp_path, monkeypatch):
    status, out, folder = ask()
    assert status == 0
    assert {f.name for f in folder.iterdir()} == {
        'config.py', 'metainfo.py', 'train.json', 'val.json', 'sheet.jpg',
    }  # fmt: skip
    assert [f.name for f in tmp_path.iterdir() if 'partial' in f.name] == []
    assert 'L_Hand <-> R_Hand, L_Foot <-> R_Foot' in out
    assert 'no problems' in out
    assert out.rstrip().endswith('next: python tools/train.py mine/config.py')

    statements = (folder / 'config.py').read_text().splitlines()
    assert 3 <= len(statements) <= 20
    monkeypatch.chdir('/')
    cfg = zoo.read_config(folder / 'config.py')
    check(cfg, ['train', 'val', 'test'])
    assert cfg.work_dir == 'work_dirs/mine'
    metainfo = parse_metainfo(cfg.train_dataloader.dataset.metainfo)
    assert list(metainfo['keypoint_id2name'].values()) == [
        'Nose', 'L_Hand', 'R_Hand', 'L_Foot', 'R_Foot',
    ]  # fmt: skip
    assert metainfo['flip_indices'] == [0, 2, 1, 4, 3]
    assert metainfo['skeleton_links'] == [(0, 1), (0, 2), (0, 3)]
    np.testing.assert_allclose(metainfo['sigmas'], [0.026, 0.072, 0.072, 0.072, 0.072])

    init_default_scope('mmpose')
    parts = [DATASETS.build(cfg[f'{use}_dataloader'].dataset) for use in ('train', 'val')]
    persons = sum(a['num_keypoints'] > 0 for a in ask.content['annotations'])
    assert sum(map(len, parts)) == persons
    images = [{part[k]['data_samples'].img_id for k in range(len(part))} for part in parts]
    assert not images[0] & images[1]
    sample = parts[0][0]
    assert sample['data_samples'].gt_fields.heatmaps.shape[0] == 5


@pytest.mark.parametrize(
    ('flags', 'size'),
    [
        (['--input-size', '256x192'], (192, 256)),
        (['--input-size', '384x288', '--model', 'base', '--codec', 'dark'], (288, 384)),
        (['--input-size', '64x96', '--model', 'tiny', '--codec', 'msra'], (96, 64)),
        (['--input-size', '96x128', '--model', 'tiny', '--overfit'], (128, 96)),
        (['--input-size', '256x192', '--model', 'tiny', '--overfit'], (192, 256)),
    ],
)
def test_configs_of_each_kind_build(ask, no_init, flags, size):
    status, _, folder = ask('--weights', 'none', *flags)
    assert status == 0
    cfg = zoo.read_config(folder / 'config.py')
    check(cfg, ['train', 'val', 'test'])
    init_default_scope('mmpose')
    model = MODELS.build(cfg.model)
    assert model.head.final_layer.out_channels == 5
    for use in ('train', 'val'):
        data = DATASETS.build(cfg[f'{use}_dataloader'].dataset)
        assert tuple(data[0]['inputs'].shape[1:]) == size[::-1]
    assert tuple(cfg.model.head.decoder.input_size) == size
    assert ('UDP' in cfg.model.head.decoder.type) == ('--codec' not in flags)
    assert cfg.model.head.decoder == cfg.train_dataloader.dataset.pipeline[-2].encoder
    random_steps = [s for s in cfg.train_dataloader.dataset.pipeline if 'Random' in s['type']]
    assert bool(random_steps) == ('--overfit' not in flags)
    if '--overfit' in flags:
        train, val = (json.loads((folder / f'{use}.json').read_text()) for use in ('train', 'val'))
        assert train == val
        assert cfg.model.backbone.drop_path_rate == 0
        assert cfg.model.test_cfg.flip_test is False


def test_the_config_needs_no_particular_place(ask, tmp_path):
    """MMEngine alone reads it, also after the folder was moved."""
    _, _, folder = ask()
    moved = folder.rename(tmp_path / 'moved, and renamed')
    cfg = Config.fromfile(moved / 'config.py')
    assert cfg.train_dataloader.dataset.data_root == str(moved)
    assert check_dataset.run(check_dataset.parser().parse_args([str(moved / 'config.py')])) == 0


def test_validation_data_and_orders_of_their_own(ask, tmp_path):
    """--val names the same keypoints in another order: they are put in the first one's."""
    other = json.loads(json.dumps(ask.content))
    order = [2, 0, 1, 4, 3]
    names = other['categories'][0]['keypoints']
    other['categories'][0].update(keypoints=[names[k] for k in order], skeleton=[])
    for a in other['annotations']:
        a['keypoints'] = np.reshape(a['keypoints'], (5, 3))[order].ravel().tolist()
    (tmp_path / 'other').mkdir()
    _, out, folder = ask('--val', writers.coco(other, tmp_path / 'other'))
    train, val = (json.loads((folder / f'{use}.json').read_text()) for use in ('train', 'val'))
    assert train == val
    assert 'note: ' in out, 'images of val are also in train'


def test_a_second_annotator_gives_sigmas(ask, tmp_path):
    second = json.loads(json.dumps(ask.content))
    rng = np.random.default_rng(0)
    for a in second['annotations']:
        rows = np.reshape(a['keypoints'], (5, 3))
        noise = rng.normal(size=(5, 2)) * 0.05 * np.sqrt(a['area'])
        rows[:, :2] += noise * (rows[:, 2:] > 0)
        a['keypoints'] = rows.ravel().tolist()
    (tmp_path / 'second').mkdir()
    _, out, folder = ask('--second', writers.coco(second, tmp_path / 'second'))
    assert 'sigmas estimated from the second annotations' in out
    sigmas = parse_metainfo(dict(from_file=str(folder / 'metainfo.py')))['sigmas']
    # One of both is exact, so that a single annotator's share is sigma^2 = 0.05^2 * 2 / 2.
    assert 0.03 < float(np.median(sigmas)) < 0.07


def test_flip_pairs_of_the_command_line(ask):
    _, out, folder = ask('--flip-pairs', 'L_Hand:R_Hand')
    assert 'UNSURE' not in out
    parsed = parse_metainfo(dict(from_file=str(folder / 'metainfo.py')))
    assert parsed['flip_indices'] == [0, 2, 1, 3, 4]


def test_unsure_pairs_are_told_on_the_screen_and_in_the_file(ask):
    names = ['p1', 'p2', 'p3', 'p4', 'p5']
    _, out, folder = ask('--keypoints', *names)
    assert 'UNSURE of p1, p2, p3, p4, p5' in out
    assert 'UNSURE' in (folder / 'metainfo.py').read_text()


def test_names_of_any_script_and_with_quotes(ask):
    names = ['нос', "l'œil", '左手', 'r "x"', 'a\\b']
    _, _, folder = ask('--keypoints', *names)
    parsed = parse_metainfo(dict(from_file=str(folder / 'metainfo.py')))
    assert list(parsed['keypoint_name2id']) == names
    val = json.loads((folder / 'val.json').read_text(encoding='utf-8'))
    assert val['categories'][0]['keypoints'] == names


def test_the_sheet_shows_the_sides(tmp_path):
    """The left hand, at the right of the image, is orange; the right one is blue."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((200, 300, 3), 128, np.uint8))
    keypoints = [250, 100, 2, 50, 100, 2, 150, 40, 2]
    names = ['hand L', 'hand R', 'head']
    person = dict(id=1, image_id=1, category_id=1, bbox=[20, 20, 260, 160], keypoints=keypoints)
    image = dict(id=1, file_name='a.png', width=300, height=200)
    content = dict(
        images=[image, dict(image, id=2, file_name='b.png')],
        annotations=[person, dict(person, id=2, image_id=2)],
        categories=[dict(id=1, name='person', keypoints=names, skeleton=[[1, 3], [2, 3]])],
    )
    cv2.imwrite(str(tmp_path / 'b.png'), np.full((200, 300, 3), 128, np.uint8))
    path = writers.coco(content, tmp_path)

    def places(*flags) -> tuple[float, float]:
        out = str(tmp_path / f'out{len(flags)}')
        arguments = [str(path), '--images', str(tmp_path), '--out', out, *flags]
        new_dataset.run(new_dataset.parser().parse_args(arguments))
        picture = cv2.imread(f'{out}/sheet.jpg')[:, : 320 + 16].astype(int)[:260]
        at = [
            np.flatnonzero((abs(picture - color) < 45).all(-1).any(0))
            for color in ((0, 140, 255), (255, 150, 40))
        ]
        assert min(map(len, at)) > 20
        return at[0].mean(), at[1].mean()

    orange, blue = places()
    assert orange > blue + 50
    orange, blue = places('--keypoints', 'hand_r', 'hand_l', 'head')
    assert orange < blue - 50, 'names that are exchanged are seen'


@pytest.mark.parametrize('kind', ['folder', 'file', 'broken link'])
def test_an_existing_out_is_never_touched(ask, monkeypatch, tmp_path, kind):
    out = tmp_path / 'mine'
    if kind == 'folder':
        out.mkdir()
    elif kind == 'file':
        out.write_text('mine')
    else:
        out.symlink_to(tmp_path / 'nowhere')
    assert 'nothing is overwritten' in complain(ask, monkeypatch)
    assert list(out.iterdir()) == [] if kind == 'folder' else not out.is_dir()


def test_a_failure_leaves_nothing_behind(ask, monkeypatch, tmp_path):
    before = set(tmp_path.iterdir())
    complain(ask, monkeypatch, '--category', 'dog')
    monkeypatch.setattr(new_dataset.sheet, 'write', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask()
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ('flags', 'kwargs', 'words'),
    [
        ([], dict(annotations='nowhere.json'), 'do not exist'),
        ([], dict(out="it's"), 'cannot hold'),
        ([], dict(out='/proc/mine'), 'nothing can be written'),
        ([], dict(out='coco.json/mine'), 'nothing can be written'),
        (['--category', 'dog'], {}, "'person' ("),
        (['--keypoints', 'Tail'], {}, "'Tail' is not one of"),
        (['--flip-pairs', 'L_Hand:Tail'], {}, "named 'Tail'"),
        (['--val-fraction', '2'], {}, 'between 0 and 1'),
        (['--overfit', '--val', 'x.json'], {}, '--overfit validates on the training data'),
        (['--val-images', 'x'], {}, '--val-images is for --val, the annotations'),
        (['--val-fraction', '0.2', '--overfit'], {}, 'not with --val or --overfit'),
        (['--weights', 'nowhere.pth'], {}, 'nowhere.pth'),
        (['--second', 'nowhere.json'], {}, 'nowhere.json'),
        (['--val', 'nowhere.json'], {}, 'nowhere.json'),
    ],
)
def test_mistakes_are_one_line(ask, monkeypatch, flags, kwargs, words):
    assert words in complain(ask, monkeypatch, *flags, **kwargs)


@pytest.mark.parametrize('flips', [[[1, 2]], [1], [0, 5, 1, 2, 3], 3, [1, 2, 0, 3, 4]], ids=str)
def test_flip_indices_that_exchange_no_pairs(ask, monkeypatch, flips):
    content = json.loads(json.dumps(ask.content))
    content['categories'][0]['flip_indices'] = flips
    Path(ask.path).write_text(json.dumps(content))
    line = complain(ask, monkeypatch)
    assert "flip_indices of 'person' must exchange its 5 keypoints in pairs" in line


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems refuse the name')
def test_names_that_are_not_utf_8(ask, monkeypatch, tmp_path):
    folder, content = tmp_path / 'copies', json.loads(json.dumps(ask.content))
    shutil.copytree(ask.images, folder)
    image = content['images'][0]
    name = image['file_name']
    image['file_name'] = os.fsdecode(b'\xe9-' + os.fsencode(os.path.basename(name)))
    os.rename(folder / name, folder / image['file_name'])
    Path(ask.path).write_text(json.dumps(content))
    line = complain(ask, monkeypatch, images=folder)
    assert 'is not UTF-8: rename the file or folder' in line
    assert not (tmp_path / 'mine').exists()


def test_the_same_file_is_no_second_annotator(ask, monkeypatch):
    assert 'the same annotations' in complain(ask, monkeypatch, '--second', ask.path)


@pytest.mark.parametrize('size', ['256', '0x0', '33x64', 'x', '-64x64'])
def test_sizes_that_are_none(ask, capsys, size):
    with pytest.raises(SystemExit):
        new_dataset.parser().parse_args(
            [str(ask.path), '--images', 'x', '--out', 'y', f'--input-size={size}']
        )
    assert 'is not HxW' in capsys.readouterr().err


@pytest.mark.parametrize('keypoints', [5, 17])
def test_weights_of_a_pose_network(ask, no_init, tmp_path, keypoints):
    """Of whatever keypoints: the training takes what fits (test_other_keypoints.py)."""
    from hrformer_mmpose.checkpoint import save_weights

    cfg = zoo.read_config('hrformer_tiny_coco_256x192')
    cfg.model.head.out_channels = keypoints
    init_default_scope('mmpose')
    save_weights(MODELS.build(cfg.model).state_dict(), tmp_path / 'pose.pth', 'mmpose')
    flags = ['--weights', 'pose.pth', '--model', 'tiny', '--input-size', '256x192']
    _, out, folder = ask(*flags)
    written = zoo.read_config(folder / 'config.py')
    check(written, ['train'])
    file = str(tmp_path / 'pose.pth')
    assert f"starts from '{file}'" in out
    assert written.load_from == file
    assert written.model.backbone.init_cfg is None


def test_133_keypoints(drawn, no_init, tmp_path, capsys):
    """COCO-WholeBody's names: pairs by name, the numbered points of the face unsure."""
    import mmpose
    from mmpose.datasets.datasets.wholebody import CocoWholeBodyDataset as WholeBody

    file = Path(mmpose.__file__).parent / '.mim' / WholeBody.METAINFO['from_file']
    info = parse_metainfo(dict(from_file=str(file)))
    names = [info['keypoint_id2name'][k] for k in range(133)]
    content, images = drawn
    rng = np.random.default_rng(0)
    for a in content['annotations']:
        x, y, w, h = a['bbox']
        xy = [x, y] + rng.random((133, 2)) * [w, h]
        a['keypoints'] = np.concatenate([xy, np.full((133, 1), 2)], 1).ravel().tolist()
    content['categories'][0].update(keypoints=names, skeleton=[[1, 2]])
    out = tmp_path / 'whole'
    path = str(writers.coco(content, tmp_path))
    flags = [path, '--images', str(images), '--out', str(out), '--weights', 'none']
    assert new_dataset.run(new_dataset.parser().parse_args(flags)) == 0
    assert 'UNSURE of face-0, ' in capsys.readouterr().out
    cfg = zoo.read_config(out / 'config.py')
    check(cfg, ['train', 'val', 'test'])
    written = parse_metainfo(cfg.train_dataloader.dataset.metainfo)
    face = {k for k, name in enumerate(names) if name.startswith('face')}
    for k in set(range(133)) - face:
        assert written['flip_indices'][k] == info['flip_indices'][k]
    for k in range(17):  # the body: COCO's, by name
        assert written['sigmas'][k] == pytest.approx(info['sigmas'][k])
    init_default_scope('mmpose')
    assert MODELS.build(cfg.model).head.final_layer.out_channels == 133


def test_it_is_a_command():
    assert 'new-dataset' in COMMANDS
    assert callable(terminal.run)


@pytest.mark.parametrize('tool', ['labelme', 'cvat', 'label_studio', 'yolo'])
def test_each_tool_from_export_to_config(three_persons, tmp_path, capsys, monkeypatch, tool):
    content, images = three_persons
    monkeypatch.chdir(tmp_path)
    extra = [images] if tool == 'yolo' else []
    path = getattr(writers, tool)(content, tmp_path, *extra)
    root = path.parent if tool == 'yolo' else images
    arguments = [str(path), '--images', str(root), '--out', 'mine', '--model', 'tiny']
    assert new_dataset.run(new_dataset.parser().parse_args(arguments)) == 0
    out = capsys.readouterr().out
    assert 'L_Hand <-> R_Hand' in out
    assert 'no problems' in out
