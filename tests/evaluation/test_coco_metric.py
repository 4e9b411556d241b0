"""The metric against MMPose's: figures for every option, files, processes, users' mistakes."""

import copy
import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmengine.logging import MessageHub
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import METRICS

from hrformer_mmpose.coco import annotations
from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.evaluation.predictions import concatenate, from_samples, write_json

from .cases import random_case, write

META = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))


def samples_of(dataset: dict, seed: int = 0, boxes: bool = True) -> list[dict]:
    """What a model might give for boxes around (and beside) the annotated persons."""
    rng = np.random.default_rng(seed)
    samples = []
    for ann in dataset['annotations']:
        x, y, w, h = ann['bbox']
        points = np.reshape(ann['keypoints'], (17, 3))
        points = np.where(points[:, 2:] > 0, points[:, :2], rng.uniform((x, y), (x + w, y + h)))
        for _ in range(rng.integers(0, 6)):
            found = points + rng.normal(0, h * rng.choice([0.002, 0.01, 0.03]), (17, 2))
            box = np.array([[x, y, x + w, y + h]], np.float32)
            instances = dict(
                keypoints=found[None].astype(np.float32),
                keypoint_scores=rng.random((1, 17)).astype(np.float32),
            )
            if boxes:
                instances['bboxes'] = box
            samples.append(
                dict(
                    id=len(samples),
                    img_id=ann['image_id'],
                    pred_instances=instances,
                    gt_instances=dict(
                        bbox_scores=rng.random(1).astype(np.float32),
                        bbox_scales=1.25 * np.array([[w, h]], np.float32),
                    ),
                )
            )
    return samples


@pytest.fixture(scope='module')
def case(tmp_path_factory) -> tuple[str, list[dict]]:
    """Annotations of forty images, and samples."""
    merged: dict = dict(images=[], annotations=[], categories=[])
    for seed in range(1, 25):
        dataset, _ = random_case(seed)
        for image in dataset['images']:
            merged['images'].append(dict(image, id=100 * seed + image['id']))
        for ann in dataset['annotations']:
            change = dict(id=100 * seed + ann['id'], image_id=100 * seed + ann['image_id'])
            merged['annotations'].append(ann | change)
        merged['categories'] = dataset['categories']
    path = write(tmp_path_factory.mktemp('eval') / 'truth.json', merged)
    return path, samples_of(merged)


def build(scope: str, **kwargs):
    metric = METRICS.build(dict(type=f'{scope}.CocoMetric', **kwargs))
    metric.dataset_meta = dict(META)
    return metric


def run(metric, samples: list[dict], batch: int = 7) -> dict:
    for start in range(0, len(samples), batch):
        metric.process({}, samples[start : start + batch])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('nms_mode', ['oks_nms', 'soft_oks_nms', 'none'])
@pytest.mark.parametrize('score_mode', ['bbox', 'keypoint', 'bbox_keypoint', 'bbox_rle'])
def test_figures_are_mmposes(case, score_mode, nms_mode):
    path, samples = case
    # A low threshold, at which suppression has something to do.
    settings = dict(ann_file=path, score_mode=score_mode, nms_mode=nms_mode, nms_thr=0.6)
    metric = build('hrformer_mmpose', **settings)
    ours, theirs = (run(m, samples) for m in (metric, build('mmpose', **settings)))
    assert list(ours) == list(theirs)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert 0.1 < ours['coco/AP'] < 0.9
    counts = metric.outcome.report['counts']
    if nms_mode != 'soft_oks_nms':
        assert (counts['kept'] < counts['predicted']) == (nms_mode == 'oks_nms')


@pytest.mark.parametrize(
    'settings',
    [dict(use_area=False), dict(keypoint_score_thr=0.7), dict(nms_thr=0.3), dict(prefix='val')],
)
def test_options_are_mmposes(case, settings):
    path, samples = case
    ours, theirs = (
        run(build(scope, ann_file=path, **settings), samples)
        for scope in ('hrformer_mmpose', 'mmpose')
    )
    assert ours == pytest.approx(theirs, abs=1e-6)
    if 'prefix' not in settings:  # the option matters
        assert ours != run(build('hrformer_mmpose', ann_file=path), samples)


def test_without_boxes_the_keypoints_extent_is_the_area(case):
    path, _ = case
    samples = samples_of(json.loads(Path(path).read_text()), seed=1, boxes=False)
    ours, theirs = (
        run(build(scope, ann_file=path), samples) for scope in ('hrformer_mmpose', 'mmpose')
    )
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize('score_mode', ['bbox_keypoint', 'bbox_rle'])
def test_samples_of_several_poses_are_mmposes(case, score_mode):
    """As of a bottom-up model: the number of annotated boxes is another one."""
    path, singles = case
    samples = []
    for image in sorted({s['img_id'] for s in singles}):
        group = [s for s in singles if s['img_id'] == image]
        predicted = {
            key: np.concatenate([s['pred_instances'][key] for s in group])
            for key in ('keypoints', 'keypoint_scores')
        }
        annotated = dict(bbox_scores=np.full(1, 0.5, np.float32))
        ids = [s['id'] for s in group]
        samples.append(dict(id=ids, img_id=image, pred_instances=predicted, gt_instances=annotated))
    ours, theirs = (
        run(build(scope, ann_file=path, score_mode=score_mode), samples)
        for scope in ('hrformer_mmpose', 'mmpose')
    )
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert 0.1 < ours['coco/AP'] < 0.9


def test_converters_are_mmposes(case):
    path, samples = case
    converter = dict(num_keypoints=5, mapping=[(0, 0), (5, 1), (6, 2), (11, 3), (12, 4)])
    settings = dict(ann_file=path, pred_converter=converter, gt_converter=converter)
    found = []
    for scope in ('hrformer_mmpose', 'mmpose'):
        metric = METRICS.build(dict(type=f'{scope}.CocoMetric', **settings))
        metric.dataset_meta = dict(META)
        found.append(run(metric, samples))
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0] != run(build('hrformer_mmpose', ann_file=path), samples)


def test_own_sigmas_are_used(case):
    path, samples = case
    plain = run(build('hrformer_mmpose', ann_file=path), samples)
    same = run(build('hrformer_mmpose', ann_file=path, sigmas=META['sigmas']), samples)
    strict = run(build('hrformer_mmpose', ann_file=path, sigmas=META['sigmas'] / 4), samples)
    assert same == pytest.approx(plain)
    assert strict['coco/AP'] < plain['coco/AP'] - 0.05


def test_a_sample_counts_once_in_any_order(case):
    path, samples = case
    expected = run(build('hrformer_mmpose', ann_file=path), samples)
    shuffled = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))]
    again = run(build('hrformer_mmpose', ann_file=path), shuffled + samples[:9], batch=16)
    assert again == expected


PROCESS = """
import json, pickle, sys
import torch.distributed as dist
import hrformer_mmpose
from tests.evaluation.test_coco_metric import build, run
path, shares = pickle.load(open(sys.argv[1], 'rb'))
store = f'file://{sys.argv[1]}.store'
dist.init_process_group('gloo', init_method=store, rank=int(sys.argv[2]), world_size=2)
metric = build('hrformer_mmpose', ann_file=path)
figures = run(metric, shares[dist.get_rank()], batch=4)
if dist.get_rank() == 0:
    print(json.dumps([figures, metric.outcome.report]))
"""


@pytest.mark.parametrize(
    'division',
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ('turns', 'halves')), 'padded'],
)
def test_two_processes_give_exactly_ones_figures(case, tmp_path, division):
    path, samples = case
    samples = samples[: len(samples) - 1 + len(samples) % 2]
    assert len(samples) % 2
    half = len(samples) // 2
    shares = {
        'turns': (samples[::2], samples[1::2]),
        'halves': (samples[:half], samples[half:]),
        'padded': (samples[::2], [*samples[1::2], samples[0]]),  # round_up=True of the sampler
    }[division]
    file = tmp_path / 'shares.pkl'
    file.write_bytes(pickle.dumps((path, shares)))
    started = [
        subprocess.Popen(
            [sys.executable, '-c', PROCESS, str(file), str(rank)],
            env=dict(os.environ, OMP_NUM_THREADS='1'),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    answer, _ = (process.communicate(timeout=120)[0] for process in started)
    figures, report = json.loads(answer.strip().splitlines()[-1])
    metric = build('hrformer_mmpose', ann_file=path)
    assert figures == run(metric, samples)
    assert report == json.loads(json.dumps(metric.outcome.report))


def test_the_data_sets_annotations_are_taken_and_not_read_again(case, monkeypatch):
    path, samples = case
    held = annotations.read(path)
    hub = MessageHub.get_current_instance()
    hub.update_info(f'{META["dataset_name"]}_ann_file', path)
    monkeypatch.setattr(annotations, '_parse', None)
    metric = build('hrformer_mmpose')
    figures = run(metric, samples)
    assert metric.outcome.truth.annotations is held
    assert 0.1 < figures['coco/AP'] < 0.9


@pytest.mark.parametrize('format_only', [True, False])
def test_the_written_file_is_cocos_and_compact(case, tmp_path, format_only):
    path, samples = case
    prefix = tmp_path / 'sub' / 'results'
    theirs_at = tmp_path / 'theirs'
    ours = build(
        'hrformer_mmpose', ann_file=path, outfile_prefix=str(prefix), format_only=format_only
    )
    figures = run(ours, samples)
    theirs = build('mmpose', ann_file=path, outfile_prefix=str(theirs_at))
    run(theirs, samples)
    text = prefix.with_suffix('.keypoints.json').read_text()
    assert ' ' not in text
    expected = json.loads(theirs_at.with_suffix('.keypoints.json').read_text())
    by_place = lambda rows: sorted(rows, key=lambda row: (row['image_id'], row['score']))  # noqa: E731
    found = by_place(json.loads(text))
    assert len(found) == len(expected)
    for row, other in zip(found, by_place(expected), strict=True):
        assert row.keys() == other.keys()
        assert row['keypoints'] == pytest.approx(other['keypoints'], abs=6e-5)
        assert row['score'] == pytest.approx(other['score'])
    assert (figures == {}) == format_only


def test_a_file_of_more_than_1000_predictions(case, tmp_path):
    part = from_samples(case[1])
    many = concatenate([part] * (2500 // len(part)))
    scores = np.arange(len(many)) / 7
    assert len(many) > 2000
    write_json(many, scores, tmp_path / 'many.json', dict(keypoints=slice(None)))
    rows = json.loads((tmp_path / 'many.json').read_text())
    assert [row['score'] for row in rows] == scores.tolist()
    assert [row['image_id'] for row in rows] == many.image.tolist()


def test_format_only_needs_no_annotations(case, tmp_path):
    _, samples = case
    prefix = tmp_path / 'results'
    assert (
        run(build('hrformer_mmpose', format_only=True, outfile_prefix=str(prefix)), samples) == {}
    )
    assert len(json.loads(prefix.with_suffix('.keypoints.json').read_text())) > 20


@pytest.mark.parametrize(
    ('group', 'key'),
    [
        ('pred_instances', 'keypoints'),
        ('pred_instances', 'keypoint_scores'),
        ('pred_instances', 'bboxes'),
        ('gt_instances', 'bbox_scores'),
        ('gt_instances', 'bbox_scales'),
    ],
)
def test_predictions_that_are_no_numbers_are_left_out(case, group, key):
    path, samples = case
    bad = copy.deepcopy(samples[5])
    bad['id'] = 10**6
    bad[group][key].flat[0] = math.nan
    metric = build('hrformer_mmpose', ann_file=path)
    assert run(metric, [bad, *samples]) == run(build('hrformer_mmpose', ann_file=path), samples)
    assert metric.outcome.report['counts']['not_finite'] == 1


def test_an_image_whose_boxes_have_no_score_ends_in_a_line(case):
    """As with a detection file of NaN scores: nothing is left to evaluate."""
    path, samples = case
    samples = copy.deepcopy(samples)
    for sample in samples:
        sample['gt_instances']['bbox_scores'][:] = math.nan
    metric = build('hrformer_mmpose', ann_file=path)
    assert run(metric, samples)['coco/AP'] == 0
    assert 'there are no predictions' in metric.outcome.report['explanations'][0]


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(score_mode='box'), "score_mode='box' is none of bbox, "),
        (dict(nms_mode='nms'), "nms_mode='nms' is none of oks_nms, "),
        (dict(iou_type='bbox'), "iou_type='bbox' is none of keypoints, "),
        (dict(format_only=True), 'needs outfile_prefix'),
        (dict(gt_converter=dict(mapping=3)), 'gt_converter is not dict'),
    ],
)
def test_a_wrong_value_is_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        build('hrformer_mmpose', **settings)


def test_a_missing_file_stops_before_the_test(tmp_path):
    with pytest.raises(DataError, match=r'nowhere\.json'):
        build('hrformer_mmpose', ann_file=str(tmp_path / 'nowhere.json'))


def test_no_predictions_at_all(case):
    path, _ = case
    with pytest.raises(DataError, match='no predictions'):
        build('hrformer_mmpose', ann_file=path).evaluate(0)
