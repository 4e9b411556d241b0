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
from hrformer_mmpose.engine.hooks import FuseHook, LeftOutHook, ReportHook
from hrformer_mmpose.evaluation import report_pictures
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


def test_evaluators_of_others_are_only_saved(tmp_path):
    out = tmp_path / 'out.json'
    runner = SimpleNamespace(test_evaluator=SimpleNamespace(metrics=[object()]))
    ReportHook(str(out)).after_test_epoch(runner, {'PCK': 0.5})
    assert json.loads(out.read_text()) == {'PCK': 0.5}


def test_what_is_left_out_is_told_once(caplog):
    lines = ['image 1', 'image 2']
    skipping = SimpleNamespace(on_error='skip', skipped=lambda: list(lines))
    wrapped = SimpleNamespace(dataset=SimpleNamespace(datasets=[SimpleNamespace(), skipping]))
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=wrapped), logger=logging.getLogger('left')
    )
    hook = LeftOutHook()
    with caplog.at_level('WARNING', 'left'):
        hook.after_train_epoch(runner)
        hook.after_train_epoch(runner)
        assert len(caplog.records) == 1
        assert 'left out so far: 2' in caplog.text
        lines.append('image 3')
        hook.after_train_epoch(runner)
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
