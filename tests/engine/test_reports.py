"""After a test: figures and report in a file, pictures beside the log, what was left out."""

import json
import logging
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('mmpose')
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import METRICS

from hrformer_mmpose.backbones import HRFormer
from hrformer_mmpose.engine.hooks import FuseHook, ReportHook, SkippedHook
from hrformer_mmpose.evaluation import report_pictures
from hrformer_mmpose.imaging.drawing import LEFT, RIGHT
from tests.conftest import relative_error
from tests.fake_cuda import fake_cuda, to_fake_cuda

META = parse_pose_metainfo(dict(from_file='configs/_base_/datasets/coco.py'))


@pytest.fixture
def metric(synthetic_root):
    """After an evaluation of the true poses, but for one shifted, one missing person."""
    folder = synthetic_root / 'val2017'
    ann_file = synthetic_root / 'annotations/person_keypoints_val2017.json'
    made = METRICS.build(dict(type='hrformer_mmpose.CocoMetric', ann_file=str(ann_file)))
    made.dataset_meta = dict(META, image_folder=str(folder))
    anns = json.loads(ann_file.read_text())['annotations']
    samples = []
    for number, ann in enumerate(anns[:-1]):
        keypoints = np.reshape(ann['keypoints'], (1, 17, 3))[..., :2].astype(np.float32)
        if number == 2:
            keypoints += 0.05 * np.sqrt(ann['area'])
        samples.append(
            dict(
                id=number,
                img_id=ann['image_id'],
                pred_instances=dict(keypoints=keypoints, keypoint_scores=np.ones((1, 17))),
                gt_instances=dict(bbox_scores=np.ones(1)),
            )
        )
    made.process({}, samples)
    figures = made.evaluate(len(samples))
    return SimpleNamespace(metric=made, figures=figures, annotations=anns)


def runner_of(metric, folder):
    evaluator = SimpleNamespace(metrics=[metric.metric])
    logger = logging.getLogger('test_reports')
    return SimpleNamespace(test_evaluator=evaluator, log_dir=str(folder), logger=logger)


@pytest.mark.parametrize('badcase', [True, False])
def test_a_test_leaves_figures_report_and_pictures(metric, tmp_path, badcase, caplog):
    out = tmp_path / 'new' / 'out.json'
    with caplog.at_level('INFO', 'test_reports'):
        runner = runner_of(metric, tmp_path)
        ReportHook(str(out), badcase).after_test_epoch(runner, metric.figures)
    saved = json.loads(out.read_text())
    report = saved.pop('report')
    assert saved == metric.figures
    assert report['persons']['counted'] == len(metric.annotations)
    assert 'left_ankle' in caplog.text
    assert cv2.imread(str(tmp_path / 'precision_recall.png')).shape[1] == 1200
    assert (tmp_path / 'badcase' / 'results.json').exists() == badcase


def test_the_worst_cases_are_those(metric, tmp_path):
    outcome, meta = metric.metric.outcome, metric.metric.dataset_meta
    names = report_pictures.worst_cases(outcome, meta, str(tmp_path), count=2, height=120)
    assert sorted(names) == ['missed.png', 'results.json', 'worst.png']
    cases = json.loads((tmp_path / 'results.json').read_text())
    assert cases['worst'][0]['annotation'] == metric.annotations[2]['id']
    assert 0.1 < cases['worst'][0]['oks'] < 0.9 < cases['worst'][1]['oks']
    assert [case['annotation'] for case in cases['missed']] == [metric.annotations[-1]['id']]
    sheet = cv2.imread(str(tmp_path / 'worst.png'))
    assert sheet.shape == (132, 3 * 194, 3)
    # The second of the two has the true pose on both sides, the first has not.
    halves = [(sheet[30:120, x + 6 : x + 96], sheet[30:120, x + 98 : x + 188]) for x in (0, 194)]
    differ = [np.mean(left != right) for left, right in halves]
    assert differ[1] < 0.02 < differ[0]


@pytest.mark.parametrize('K', [3, 21])
def test_the_worst_cases_of_any_number_of_keypoints(synthetic_root, tmp_path, K):
    """In the colours of the set's own sides: the true pose in orange, at its place."""
    image = next((synthetic_root / 'val2017').iterdir())
    height, width = cv2.imread(str(image)).shape[:2]
    names = ['paw left', 'paw right', *(f'tail{k}' for k in range(2, K))]
    points = np.column_stack([np.linspace(30, width - 30, K), np.full(K, height / 2)])
    keypoints = np.column_stack([points, np.full(K, 2)]).ravel().tolist()
    person = dict(id=1, image_id=1, category_id=1, bbox=[0, 0, width, height], area=1e4,
                  iscrowd=0, keypoints=keypoints, num_keypoints=K)  # fmt: skip
    entry = dict(id=1, width=width, height=height, file_name=image.name)
    content = dict(images=[entry], annotations=[person], categories=[dict(id=1, name='cat')])
    path = tmp_path / 'cats.json'
    path.write_text(json.dumps(content))
    made = METRICS.build(dict(type='hrformer_mmpose.CocoMetric', ann_file=str(path)))
    made.dataset_meta = dict(
        dataset_name='cats', keypoint_id2name=dict(enumerate(names)), sigmas=np.full(K, 0.07),
        skeleton_links=[(0, 1)], flip_indices=[1, 0, *range(2, K)],
        image_folder=str(synthetic_root / 'val2017'),
    )  # fmt: skip
    instances = dict(keypoints=points[None] + 9, keypoint_scores=np.ones((1, K)))
    made.process({}, [dict(id=1, img_id=1, pred_instances=instances)])
    assert 0 < made.evaluate(1)['coco/AP'] < 1
    rows = made.outcome.report['keypoints']
    assert [row['name'] for row in rows] == names
    files = report_pictures.worst_cases(made.outcome, made.dataset_meta, str(tmp_path / 'worst'))
    assert files == ['results.json', 'worst.png']
    sheet = cv2.imread(str(tmp_path / 'worst/worst.png'))
    for side in (LEFT, RIGHT):
        assert (abs(sheet.astype(int) - side).max(-1) < 20).any()


def test_evaluators_of_others_are_only_saved(tmp_path):
    out = tmp_path / 'out.json'
    runner = SimpleNamespace(test_evaluator=SimpleNamespace(metrics=[object()]))
    ReportHook(str(out)).after_test_epoch(runner, {'PCK': 0.5})
    assert json.loads(out.read_text()) == {'PCK': 0.5}


@pytest.mark.parametrize('use', ['train', 'val', 'test'])
def test_what_is_left_out_is_told_once(caplog, use):
    lines = ['image 1', 'image 2']
    skipping = SimpleNamespace(on_error='skip', skipped=lambda: list(lines))
    wrapped = SimpleNamespace(dataset=SimpleNamespace(datasets=[SimpleNamespace(), skipping]))
    runner = SimpleNamespace(
        logger=logging.getLogger('left'), **{f'{use}_dataloader': SimpleNamespace(dataset=wrapped)}
    )
    after_epoch = getattr(SkippedHook(), f'after_{use}_epoch')
    with caplog.at_level('WARNING', 'left'):
        after_epoch(runner)
        after_epoch(runner)
        assert len(caplog.records) == 1
        assert 'left out so far: 2' in caplog.text
        lines.append('image 3')
        after_epoch(runner)
    assert len(caplog.records) == 2


def test_the_folded_network_takes_the_weights_of_the_moment_and_leaves_no_trace():
    """A moving average's hook exchanges weights before a test and back after it."""
    backbone = HRFormer(arch='tiny').eval()
    runner = SimpleNamespace(
        model=SimpleNamespace(backbone=backbone), logger=logging.getLogger('fuse')
    )
    names = [*backbone.state_dict()]
    x = torch.rand(1, 3, 32, 32)
    hook = FuseHook()
    with torch.no_grad():
        for _ in range(2):
            for parameter in backbone.parameters():
                parameter.mul_(1.1)
            expected = backbone(x)[0]
            hook.before_test_epoch(runner)
            folded = backbone(x)[0]
            assert [*backbone.state_dict()] == names
            hook.after_test_epoch(runner)
            assert relative_error(folded, expected) < 1e-5
            assert not torch.equal(folded, expected), 'the other network was asked'
            assert torch.equal(backbone(x)[0], expected)


@pytest.mark.parametrize('dtype', [None, torch.float16])
def test_on_a_gpu_the_folded_network_takes_half_precision_and_gives_float32(dtype):
    """Of MMEngine's autocast nothing is left then: heads compute in float32."""
    backbone, loop = HRFormer(arch='tiny').eval(), SimpleNamespace(fp16=dtype is not None)
    runner = SimpleNamespace(
        model=SimpleNamespace(backbone=backbone), test_loop=loop, logger=logging.getLogger('fuse')
    )
    hook, seen, fused = FuseHook(dtype=dtype), [], backbone.fuse_for_inference()
    fused.stem.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    with fake_cuda(), torch.no_grad():
        backbone.fuse_for_inference = lambda: to_fake_cuda(fused)
        hook.before_test_epoch(runner)
        (result,) = backbone(torch.empty(2, 3, 64, 64, device='cuda'))
        hook.after_test_epoch(runner)
    assert seen == [dtype or torch.float32]
    assert result.dtype is torch.float32
    assert result.is_cuda
    assert not loop.fp16
    assert 'forward' not in vars(backbone)


def test_hooks_on_layers_act_in_a_folded_test_too():
    backbone, calls = HRFormer(arch='tiny').eval(), []
    for layer in (backbone, backbone.stage3, backbone.stage4[0].branches[0][0].attn.attn.qkv):
        layer.register_forward_hook(lambda *_: calls.append(1))
    own = backbone.forward = backbone.forward
    runner = SimpleNamespace(
        model=SimpleNamespace(backbone=backbone), logger=logging.getLogger('fuse')
    )
    hook, x = FuseHook(), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = backbone(x)[0]
        hook.before_test_epoch(runner)
        assert relative_error(backbone(x)[0], expected) < 1e-5
        hook.after_test_epoch(runner)
    assert len(calls) == 6
    assert vars(backbone)['forward'] is own
