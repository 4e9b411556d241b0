"""The metric of 133 keypoints against xtcocotools' figures of each part, and against MMPose's."""

import contextlib
import io
import json

import numpy as np
import pytest

pytest.importorskip('mmpose')
from mmpose.registry import METRICS

from hrformer_mmpose.coco.layouts import WHOLE_BODY
from hrformer_mmpose.coco.metainfo import parse_metainfo
from hrformer_mmpose.evaluation.coco_wholebody_metric import PARTS

from .cases import reference, write

xtcoco = pytest.importorskip('xtcocotools.coco')
xteval = pytest.importorskip('xtcocotools.cocoeval')

META = parse_metainfo(dict(from_file='configs/_base_/datasets/coco_wholebody.py'))
NAMES = ['AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR', 'AR .5', 'AR .75', 'AR (M)', 'AR (L)']


def random_case(seed: int) -> tuple[dict, list[dict]]:
    """Images with persons of every size, some without labelled hands, feet, face or body.

    Returns:
        Annotations, and samples as a model gives them, whose boxes are not the annotated ones.
    """
    rng = np.random.default_rng(seed)
    data = dict(images=[], annotations=[], categories=[dict(id=1, name='person')])
    samples = []
    for image in range(1, 9):
        data['images'].append(dict(id=image, width=640, height=480, file_name=f'{image}.jpg'))
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = *rng.uniform(0, 200, 2), *np.exp(rng.uniform(3, 5.6, 2))
            points = rng.uniform((x, y), (x + w, y + h), (133, 2)).round(1)
            visible = rng.choice([0, 0.3, 1, 2], 133)
            for part in PARTS.values():
                visible[part] *= rng.random() < 0.7
            whole = np.column_stack([points * (visible[:, None] > 0), visible])
            stops = np.cumsum([*WHOLE_BODY.values()])[:-1]
            ann = dict(
                zip(WHOLE_BODY, (p.ravel().tolist() for p in np.split(whole, stops)), strict=True)
            )
            ann |= dict(id=len(data['annotations']) + 1, image_id=image, category_id=1, iscrowd=0)
            ann |= dict(
                bbox=[x, y, w, h], area=w * h / 2, num_keypoints=int((visible[:17] > 0).sum())
            )
            data['annotations'].append(ann)
            for _ in range(rng.integers(1, 4)):
                noise = np.sqrt(w * h) * rng.choice([0.003, 0.03, 0.1])
                found = points + rng.normal(0, noise, (133, 2))
                samples.append(sample(rng, len(samples), image, found, [x, y, w * 1.5, h * 1.5]))
    return data, samples


def sample(rng, number: int, image: int, found: np.ndarray, box: list[float]) -> dict:
    x, y, w, h = box
    return dict(
        id=number,
        img_id=image,
        pred_instances=dict(
            keypoints=found[None],
            keypoint_scores=rng.random((1, 133)),
            bboxes=np.array([[x, y, x + w, y + h]]),
        ),
        gt_instances=dict(bbox_scores=rng.random(1), bbox_scales=np.array([[w, h]])),
    )


def evaluate(scope: str, path: str, samples: list[dict], **kwargs) -> dict:
    metric = METRICS.build(dict(type=f'{scope}.CocoWholeBodyMetric', ann_file=path, **kwargs))
    metric.dataset_meta = dict(META)
    metric.process([], samples)
    with contextlib.redirect_stdout(io.StringIO()):
        return metric.evaluate(len(samples))


def results_of(samples: list[dict]) -> list[dict]:
    """Samples in COCO-WholeBody's result format, scored by their boxes."""
    results = []
    for s in samples:
        found = s['pred_instances']
        whole = np.column_stack([found['keypoints'][0], found['keypoint_scores'][0]])
        stops = np.cumsum([*WHOLE_BODY.values()])[:-1]
        fields = (part.ravel().tolist() for part in np.split(whole, stops))
        score = float(s['gt_instances']['bbox_scores'][0])
        results.append(
            dict(
                zip(WHOLE_BODY, fields, strict=True),
                image_id=s['img_id'],
                category_id=1,
                score=score,
            )
        )
    return results


@pytest.mark.parametrize('use_area', [True, False])
@pytest.mark.parametrize('seed', range(4))
def test_each_part_is_xtcocotools(tmp_path, seed, use_area):
    data, samples = random_case(seed)
    path = write(tmp_path / 'truth.json', data)
    figures = evaluate(
        'hrformer_mmpose', path, samples, score_mode='bbox', nms_mode='none', use_area=use_area
    )
    results, sigmas = results_of(samples), np.array(META['sigmas'])
    parts = {'wholebody': slice(None), **PARTS}
    for part, keypoints in parts.items():
        expected = reference(
            xtcoco.COCO, xteval.COCOeval, data, results,
            f'keypoints_{part}', sigmas[keypoints], use_area,
        )  # fmt: skip
        if part == 'wholebody':
            ours = [figures[f'coco-wholebody/{name}'] for name in NAMES]
            np.testing.assert_allclose(ours, expected, atol=1e-6)
        else:
            for name, value in (('AP', expected[0]), ('AR', expected[5])):
                assert figures[f'coco-wholebody/{name} ({part})'] == pytest.approx(value, abs=1e-6)
                assert 0 <= value < 1
    assert figures['coco-wholebody/AP'] > 0.05


@pytest.mark.parametrize('seed', range(4))
def test_the_whole_is_mmposes(tmp_path, seed):
    """With rescoring and suppression, as configured by default."""
    data, samples = random_case(seed)
    path = write(tmp_path / 'truth.json', data)
    ours = evaluate('hrformer_mmpose', path, samples)
    theirs = evaluate('mmpose', path, samples, outfile_prefix=str(tmp_path / 'theirs'))
    assert set(theirs) == {f'coco-wholebody/{name}' for name in NAMES}
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, abs=1e-6), name


def test_the_result_file_is_coco_wholebodys(tmp_path):
    data, samples = random_case(1)
    path = write(tmp_path / 'truth.json', data)
    written = {}
    for scope in ('hrformer_mmpose', 'mmpose'):
        evaluate(scope, path, samples, outfile_prefix=str(tmp_path / scope), nms_mode='none')
        rows = json.loads((tmp_path / f'{scope}.keypoints.json').read_text())
        written[scope] = sorted(rows, key=lambda row: (row['image_id'], row['score']))
    assert len(written['mmpose']) == len(samples)
    for ours, theirs in zip(*written.values(), strict=True):
        assert set(theirs) == {*WHOLE_BODY, 'image_id', 'category_id', 'score'}
        for key, value in theirs.items():
            np.testing.assert_allclose(ours[key], value, atol=1e-3, err_msg=key)


def test_format_only_writes_and_evaluates_nothing(tmp_path):
    data, samples = random_case(1)
    prefix = str(tmp_path / 'found')
    path = write(tmp_path / 'truth.json', dict(data, annotations=[]))
    figures = evaluate('hrformer_mmpose', path, samples, format_only=True, outfile_prefix=prefix)
    assert figures == {}
    assert (tmp_path / 'found.keypoints.json').is_file()
