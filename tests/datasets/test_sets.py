"""The ready-made data sets: MMPose's samples, the sets' own figures, training and test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS

from hrformer_mmpose import zoo
from hrformer_mmpose.cli import check_dataset
from hrformer_mmpose.cli.config_checks import check
from hrformer_mmpose.coco.layouts import WHOLE_BODY
from hrformer_mmpose.errors import ConfigError, DataError

from . import naive
from .sets import SETS

NAMES = list(SETS)
HANDS = 'onehand10k', 'coco_wholebody_hand'


@pytest.fixture(scope='module')
def roots(synthetic_root, tmp_path_factory):
    """Folders of all sets, written for the generated people."""
    folder = tmp_path_factory.mktemp('sets')
    for name, ready_made in SETS.items():
        (folder / name).mkdir()
        ready_made.write(folder / name, synthetic_root)
    return folder


@pytest.fixture
def read(roots, synthetic_root, monkeypatch):
    """Read a set's config, with its root in the environment."""

    def config(name: str, arch: str = 'small', root=None):
        monkeypatch.setenv('COCO_ROOT', str(synthetic_root))
        monkeypatch.setenv(SETS[name].variable, str(root or roots / name))
        init_default_scope('mmpose')
        return zoo.read_config(f'configs/hrformer_{arch}_{name}_{SETS[name].size}.py')

    return config


@pytest.fixture
def root(roots, tmp_path):
    """Copy a set's folder, which a test may break."""
    return lambda name: shutil.copytree(roots / name, tmp_path / name, symlinks=True)


def build(settings, **changes):
    return DATASETS.build({**settings, 'bbox_file': None, 'pipeline': [], **changes})


@pytest.mark.parametrize('name', NAMES)
def test_configs(read, name):
    cfg, large = read(name), read(name, 'base')
    differs = dict(model=None, pretrained=None)
    assert {**large, **differs} == {**cfg, **differs}
    assert large.model.head == {**cfg.model.head, 'in_channels': 78}
    assert large.model.backbone.arch == 'base'
    check(cfg, ['train', 'val', 'test'])
    height, width = map(int, SETS[name].size.split('x'))
    assert cfg.codec.input_size == (width, height)
    assert cfg.codec.heatmap_size == (width // 4, height // 4)
    assert cfg.model.head.decoder == cfg.codec
    assert cfg.model.head.out_channels == SETS[name].keypoints
    assert cfg.dataset_type == ('CocoDataset' if name == 'ochuman' else SETS[name].mmpose)
    for use in ('train', 'val', 'test'):
        pipeline = cfg[f'{use}_dataloader'].dataset.pipeline
        steps = {step.type.rpartition('.')[2]: step for step in pipeline}
        assert steps['TopdownAffine'].input_size == (width, height)
        if use == 'train':
            assert steps['GenerateTarget'].encoder == cfg.codec
            assert ('RandomHalfBody' in steps) == (name not in ('mpii', *HANDS))
    half_turn = cfg.train_pipeline[3].get('rotate_factor') == 180
    assert half_turn == (name in HANDS)


@pytest.mark.parametrize(
    ('name', 'use'),
    [(name, 'val') for name in NAMES]
    + [('ochuman', 'test'), ('ap10k', 'test')]
    + [pytest.param(name, 'train', marks=pytest.mark.slow) for name in NAMES if name != 'ochuman'],
)
def test_samples_are_mmposes(read, name, use):
    cfg = read(name)
    settings = cfg[f'{use}_dataloader'].dataset
    ours = build(settings)
    keys = ('data_root', 'ann_file', 'data_prefix', 'test_mode')
    kwargs = {key: settings[key] for key in keys if key in settings}
    if 'headbox_file' in settings:
        kwargs['headbox_file'] = f'{settings.data_root}/{settings.headbox_file}'
    theirs = DATASETS.build(dict(type=f'mmpose.{SETS[name].mmpose}', **kwargs))
    assert len(ours) == len(theirs) > 5
    for index in range(len(ours)):
        sample, expected = ours.get_data_info(index), theirs.get_data_info(index)
        if name == 'halpe26':
            for key in ('keypoints', 'keypoints_visible'):
                expected[key] = expected[key][:, :26]
            expected['flip_indices'] = ours.metainfo['flip_indices']
        if name == 'mpii':
            expected['keypoints'] = expected['keypoints'] - 1
        keys = ['img_path', 'img_id', 'keypoints', 'keypoints_visible', 'bbox', 'flip_indices']
        others = 'bbox_center', 'bbox_scale', 'head_size', 'crowd_index', 'category_id', 'area'
        for key in keys + [key for key in others if key in expected]:
            if key == 'img_path':
                assert sample[key] == expected[key]
            else:  # MMPose keeps some keypoints in float64
                np.testing.assert_allclose(sample[key], expected[key], rtol=1e-6, err_msg=key)


def predictions(data, seed: int | None, largest: float = 0.1) -> list[dict]:
    """The annotated keypoints as a network would give them, shifted by up to a part of the box.

    Keypoints that are not annotated are predicted at the middle of the box.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for index in range(len(data)):
        sample = data[index]['data_samples'].to_dict()
        gt = sample['gt_instances']
        start, stop = gt['bboxes'][0, :2], gt['bboxes'][0, 2:]
        shift = rng.uniform(0, largest) * np.sqrt(np.prod(stop - start)) * (seed is not None)
        angles = rng.uniform(0, 2 * np.pi, gt['keypoints'].shape[1])
        direction = np.stack([np.cos(angles), np.sin(angles)], 1)
        scores = np.full(gt['keypoints'].shape[:2], rng.uniform(0.3, 1))
        labelled = gt['keypoints_visible'][..., None] > 0
        points = np.where(labelled, gt['keypoints'], (start + stop) / 2) + shift * direction
        found = dict(keypoints=points, keypoint_scores=scores)
        samples.append(dict(sample, pred_instances=dict(found, bboxes=gt['bboxes'])))
    return samples


def figures(cfg, data, samples) -> dict:
    """Figures of the config's evaluators."""
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = data.metainfo
    evaluator.process(samples)
    return evaluator.evaluate(len(data))


@pytest.fixture
def evaluate(read):
    """Figures of a set's annotations as predictions, and the predictions."""

    def run(name: str, seed: int | None):
        cfg = read(name)
        data = build(cfg.val_dataloader.dataset, pipeline=cfg.val_pipeline)
        samples = predictions(data, seed, 0.6 if name in HANDS else 0.1)
        return figures(cfg, data, samples), samples, data

    return run


PERFECT = dict(AP=1.0, AR=1.0, PCK=1.0, AUC=0.95, EPE=0.0)  # AUC has a threshold of 0


@pytest.mark.parametrize('name', NAMES)
def test_the_annotations_are_perfect_predictions(evaluate, name):
    values, _, _ = evaluate(name, None)
    scale = 100 if name == 'mpii' else 1
    checked = 0
    for key, value in values.items():
        metric = key.split('/')[-1].split('@')[0].split()[0]
        if metric in PERFECT:
            checked += 1
            assert value == pytest.approx(scale * PERFECT[metric]), key
    assert checked >= (2 if name == 'mpii' else 3)
    if name == 'mpii':
        assert {values[f'{part} PCK'] for part in ('Head', 'Shoulder', 'Wrist', 'Hip')} == {100}
    if name == 'coco_wholebody':
        assert values['coco-wholebody/AP (righthand)'] == pytest.approx(1)
    if name == 'crowdpose':
        assert [values[f'crowdpose/AP({part})'] for part in 'EMH'] == [1, 1, 1]


def persons_of(samples, data, name: str) -> list[dict]:
    """Predicted and annotated keypoints, with areas and boxes from the set's file."""
    content = json.loads(Path(data.ann_file).read_text())
    raw = {} if name == 'mpii' else {ann['id']: ann for ann in content['annotations']}
    people = []
    for sample in samples:
        gt = sample['gt_instances']
        visible = np.asarray(gt['keypoints_visible'])[0]
        person = dict(
            predicted=sample['pred_instances']['keypoints'][0],
            score=float(sample['pred_instances']['keypoint_scores'].mean()),
            annotated=gt['keypoints'][0],
            visible=visible,
            image=sample['img_id'],
        )
        if name == 'mpii':
            person['size'] = float(gt['head_size'])
        elif name in HANDS:
            person['size'] = float(max(gt['bboxes'][0, 2:] - gt['bboxes'][0, :2]))
        else:
            ann = raw[sample['id']]
            box_area = ann['bbox'][2] * ann['bbox'][3] * 0.53
            person['area'] = ann.get('area', box_area)
            person['category'] = ann['category_id']
        people.append(person)
    return people


def average_precision(people: list[dict], sigmas, part=slice(None)) -> float:
    """Mean over categories of the naive AP of the persons who have keypoints of a part."""
    averages = []
    counted = [p for p in people if (p['visible'][part] > 0).any()]
    for category in {p['category'] for p in counted}:
        chosen = [p for p in counted if p['category'] == category]
        similarities = [
            naive.oks(
                p['predicted'][part], p['annotated'][part], p['visible'][part], p['area'],
                np.asarray(sigmas)[part],
            )
            for p in chosen
        ]  # fmt: skip
        averages.append(naive.ap(similarities, [p['score'] for p in chosen]))
    return float(np.mean(averages))


@pytest.mark.parametrize('seed', [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', NAMES)
def test_shifted_predictions_have_the_figures_of_plain_loops(evaluate, name, seed):
    values, samples, data = evaluate(name, seed)
    people, sigmas = persons_of(samples, data, name), data.metainfo['sigmas']
    if name == 'mpii':
        expected = {'PCK': naive.pckh(people, 0.5), 'PCK@0.1': naive.pckh(people, 0.1)}
    elif name in HANDS:
        expected = dict(PCK=naive.pck(people, 0.2), AUC=naive.auc(people), EPE=naive.epe(people))
    else:
        prefix = dict(crowdpose='crowdpose', coco_wholebody='coco-wholebody').get(name, 'coco')
        expected = {f'{prefix}/AP': average_precision(people, sigmas)}
    if name == 'coco_wholebody':
        stops = np.cumsum([*WHOLE_BODY.values()])
        for part, stop, count in zip(
            ('body', 'foot', 'face', 'lefthand', 'righthand'),
            stops,
            WHOLE_BODY.values(),
            strict=True,
        ):
            key = f'coco-wholebody/AP ({part})'
            expected[key] = average_precision(people, sigmas, slice(stop - count, stop))
    if name == 'crowdpose':
        crowded = {s['img_id']: s['crowd_index'] for s in samples}
        limits = dict(E=(0, 0.2), M=(0.2, 0.8), H=(0.8, 2))
        for part, (low, high) in limits.items():
            some = [p for p in people if low <= crowded[p['image']] < high]
            expected[f'crowdpose/AP({part})'] = average_precision(some, sigmas)
    for key, value in expected.items():
        # CrowdPose's figures of a level of crowding are rounded to four digits.
        rounded = key.startswith('crowdpose/AP(')
        assert values[key] == pytest.approx(value, rel=1e-6, abs=1e-4 if rounded else 1e-6), key
        assert rounded or 0 < value < (100 if name in ('mpii', *HANDS) else 1), f'{key} is perfect'


def message(read, name: str, root, use: str = 'val') -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        build(read(name, root=root)[f'{use}_dataloader'].dataset)
    text = str(caught.value)
    assert '\n' not in text
    return text


@pytest.mark.parametrize('name', NAMES)
def test_a_missing_root_file_or_image_folder_names_the_variable(read, root, tmp_path, name):
    variable = SETS[name].variable
    text = message(read, name, tmp_path / 'nowhere')
    assert f"data root '{tmp_path}/nowhere' is not a folder: set {variable}, or" in text
    folder = root(name)
    cfg = read(name, root=folder)
    images = folder / cfg.val_dataloader.dataset.data_prefix.img
    file = folder / cfg.val_dataloader.dataset.ann_file
    if name == 'onehand10k':
        images = folder / 'Test'
    images.unlink() if images.is_symlink() else shutil.rmtree(images)
    text = message(read, name, folder)
    assert str(images) in text
    assert variable in text
    file.unlink()
    text = message(read, name, folder)
    assert f"annotation file '{file}' does not exist" in text
    assert variable in text


def edit(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('name', 'file', 'change', 'words'),
    [
        ('coco_wholebody', 'coco_wholebody_val_v1.0.json',
         lambda c: c['annotations'][1].pop('face_kpts'), 'has no face_kpts'),
        ('coco_wholebody', 'coco_wholebody_val_v1.0.json',
         lambda c: c['annotations'][1].update(foot_kpts=None), 'foot_kpts of annotation'),
        ('coco_wholebody', 'coco_wholebody_val_v1.0.json',
         lambda c: c['annotations'][1].update(foot_kpts=[1, 2, 2]), 'not have 133 keypoints'),
        ('coco_wholebody_hand', 'coco_wholebody_val_v1.0.json',
         lambda c: c['annotations'][1].pop('lefthand_valid'), 'has no lefthand_valid'),
        ('halpe26', 'halpe_val_v1.json',
         lambda c: c['annotations'][1].update(keypoints=[1, 2, 2]), 'not have 26 keypoints'),
        ('crowdpose', 'mmpose_crowdpose_test.json',
         lambda c: c['annotations'][1]['keypoints'].append(1), 'not have 14 keypoints'),
        ('mpii', 'mpii_val.json', lambda c: c[2].pop('joints'), 'person 2 in'),
        ('mpii', 'mpii_val.json', lambda c: c[2]['joints'].pop(), 'no numbers of shape (16, 2)'),
        ('mpii', 'mpii_val.json', lambda c: c[2].update(scale=[1]), 'no numbers of shape ()'),
        ('mpii', 'mpii_val.json', lambda c: c[2].update(image='a.jpg'), "has image='a.jpg'"),
        ('mpii', 'mpii_val.json', lambda c: c.clear(), 'must hold a list of persons'),
        ('mpii', 'mpii_val.json', lambda c: c.pop(), 'it is of mpii_val.json'),
    ],
)  # fmt: skip
def test_files_of_another_layout_are_named(read, root, name, file, change, words):
    folder = root(name)
    edit(folder / 'annotations' / file, change)
    text = message(read, name, folder)
    assert file in text
    assert words in text


def test_mpii_needs_its_head_boxes(read, root):
    folder = root('mpii')
    heads = folder / 'annotations/mpii_gt_val.mat'
    heads.write_bytes(b'no MATLAB file')
    assert f"'{heads}' holds no head boxes" in message(read, 'mpii', folder)
    heads.unlink()
    text = message(read, 'mpii', folder)
    assert f"head boxes '{heads}' do not exist" in text
    assert 'MPII_ROOT' in text
    build(read('mpii', root=folder).train_dataloader.dataset)  # which needs none


def test_mpii_counts_pixels_from_0_in_data_set_and_metric(read):
    cfg = read('mpii')
    cfg.val_evaluator.type = 'MpiiPCKAccuracy'
    with pytest.raises(ConfigError, match='take both from hrformer_mmpose'):
        check(cfg, ['val'])


def test_data_set_and_metric_have_one_layout(read):
    cfg = read('halpe26')
    del cfg.val_evaluator['layout']
    with pytest.raises(ConfigError, match="val_evaluator reads layout='coco', val_dataloader"):
        check(cfg, ['val'])
    cfg.val_dataloader.dataset.layout = 'halpe'
    with pytest.raises(ConfigError, match="layout='halpe' of the data set is none of coco, "):
        build(cfg.val_dataloader.dataset)


@pytest.mark.parametrize(
    ('name', 'metrics'),
    [
        ('coco_wholebody', ['coco-wholebody/AP', 'coco-wholebody/AP (face)']),
        ('mpii', ['PCK']),
        ('onehand10k', ['PCK', 'AUC', 'EPE']),
    ],
)
def test_save_best_is_a_figure_of_the_set(read, name, metrics):
    cfg = read(name)
    for metric in metrics:
        cfg.default_hooks.checkpoint.save_best = metric
        check(cfg, ['train', 'val'])
    cfg.default_hooks.checkpoint.save_best = 'coco/AP'
    with pytest.raises(ConfigError, match="save_best='coco/AP' is not one of the metrics"):
        check(cfg, ['train', 'val'])


def examine(capsys, path: str) -> tuple[int, str]:
    status = check_dataset.run(check_dataset.parser().parse_args([path, '--full']))
    return status, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_the_data_check_knows_the_set(read, root, capsys, name):
    path = read(name, root=root(name)).filename
    status, out = examine(capsys, path)
    assert status == 0, out
    assert 'no problems; every image decoded' in out
    assert '10 persons' in out or name in HANDS


@pytest.mark.slow
@pytest.mark.parametrize('name', ['coco_wholebody', 'coco_wholebody_hand'])
def test_the_data_check_knows_mmposes_classes(read, tmp_path, capsys, name):
    cfg = read(name)
    for use in ('train', 'val', 'test'):
        dataset = cfg[f'{use}_dataloader'].dataset
        dataset.update(type=SETS[name].mmpose, bbox_file=None)
        del dataset['layout'], dataset['metainfo']
    cfg.dump(tmp_path / 'config.py')
    status, out = examine(capsys, str(tmp_path / 'config.py'))
    assert status == 0, out


@pytest.mark.slow
def test_the_data_check_tells_what_mpii_lacks(read, root, capsys):
    folder = root('mpii')
    (folder / 'annotations/mpii_gt_val.mat').unlink()
    image = sorted((folder / 'images').iterdir())[0]
    image.unlink()
    status, out = examine(capsys, read('mpii', root=folder).filename)
    assert status == 1
    assert f"PROBLEM: image '{image}' does not exist" in out
    assert 'PROBLEM: head boxes' in out
