"""Figures against COCO's published ones, pycocotools and xtcocotools."""

import json

import numpy as np
import pytest

pytest.importorskip('faster_coco_eval')
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hrformer_mmpose.coco import annotations
from hrformer_mmpose.errors import ConfigError, DataError
from hrformer_mmpose.evaluation import evaluator, ground_truth
from hrformer_mmpose.evaluation.ground_truth import prepare_ground_truth

from .cases import PERSON, SIGMAS, predictions_of, random_case, reference, write


def figures(path, results, iou_type='keypoints', use_area=True, sigmas=SIGMAS) -> np.ndarray:
    known = prepare_ground_truth(annotations.read(str(path)), iou_type, use_area)
    predictions, scores = predictions_of(results)
    found = evaluator.evaluate(known, predictions, scores, sigmas, iou_type)
    return np.array(list(found.metrics.values()))


def by_xtcocotools(dataset, results, iou_type, sigmas, use_area, path=''):
    coco = pytest.importorskip('xtcocotools.coco').COCO
    coco_eval = pytest.importorskip('xtcocotools.cocoeval').COCOeval
    args = (coco, coco_eval, dataset, results, iou_type, sigmas, use_area)
    return reference(*args, path=str(path))


def test_cocos_published_figures(shared):
    folder = shared / 'data/coco-eval/cocoapi_fake100'
    results = folder / 'person_keypoints_val2014_fakekeypoints100_results.json'
    path = folder / 'person_keypoints_val2014_first100.json'
    found = figures(path, json.loads(results.read_text()))
    published = [0.372, 0.636, 0.348, 0.384, 0.386, 0.514, 0.734, 0.504, 0.508, 0.522]
    assert found.round(3).tolist() == published


def test_a_real_networks_figures(shared):
    folder = shared / 'data/coco-eval/val2017_subset250'
    results = json.loads((folder / 'detections_being-aerys.json').read_text())
    known = [0.3785, 0.5929, 0.3947, 0.3210, 0.4647, 0.4228, 0.6322, 0.4407, 0.3380, 0.5345]
    assert figures(folder / 'val_subset.json', results) == pytest.approx(known, abs=1e-4)


@pytest.mark.parametrize('use_area', [True, False])
@pytest.mark.parametrize(
    ('results', 'truth'),
    [
        ('cocoapi_fake100/person_keypoints_val2014_fakekeypoints100_results.json',
         'cocoapi_fake100/person_keypoints_val2014_first100.json'),
        ('val2017_subset250/detections_being-aerys.json', 'val2017_subset250/val_subset.json'),
        ('xtcocoapi_examples/example_coco_preds.json', 'xtcocoapi_examples/example_coco_val.json'),
    ],
)  # fmt: skip
def test_recorded_results_equal_both_references(shared, results, truth, use_area):
    folder = shared / 'data/coco-eval'
    results = json.loads((folder / results).read_text())
    dataset = json.loads((folder / truth).read_text())
    found = figures(folder / truth, results, use_area=use_area)
    assert 0.1 < found[0] < 1
    theirs = by_xtcocotools(dataset, results, 'keypoints', SIGMAS, use_area)
    assert found == pytest.approx(theirs, abs=1e-6)
    if use_area:
        assert found == pytest.approx(
            reference(COCO, COCOeval, dataset, results, 'keypoints'), abs=1e-6
        )


def test_crowdpose_equals_xtcocotools(shared):
    folder = shared / 'data/coco-eval/xtcocoapi_examples'
    results = json.loads((folder / 'example_crowdpose_preds.json').read_text())
    path = folder / 'example_crowdpose_val.json'
    sigmas = np.array([79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89, 79, 79]) / 1000
    found = figures(path, results, 'keypoints_crowd', False, sigmas)
    assert len(found) == 9
    theirs = by_xtcocotools(
        json.loads(path.read_text()), results, 'keypoints_crowd', sigmas, False, path
    )
    assert found == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize('seeds', [range(start, start + 50) for start in range(0, 200, 50)])
def test_random_cases_equal_both_references(tmp_path, seeds):
    values = []
    for seed in seeds:
        dataset, results = random_case(seed)
        path = write(tmp_path / f'{seed}.json', dataset)
        found = figures(path, results)
        with_pycocotools = reference(COCO, COCOeval, dataset, results, 'keypoints')
        assert found == pytest.approx(with_pycocotools, abs=1e-6), seed
        theirs = by_xtcocotools(dataset, results, 'keypoints', SIGMAS, True)
        assert found == pytest.approx(theirs, abs=1e-6), seed
        values.append(found[0])
    values = np.array(values)
    assert ((values > 0.05) & (values < 0.95)).sum() > 25  # the cases are not trivial
    assert (values == -1).any()


def test_annotation_0_and_predictions_without_a_score(tmp_path):
    """What pycocotools gets wrong (id 0) and what xtcocotools leaves out (scores of 0)."""
    dataset, results = random_case(7)
    dataset['annotations'][0]['id'] = 0
    for result in results[::3]:
        result['keypoints'][2::3] = [0] * 17
    path = write(tmp_path / 'a.json', dataset)
    theirs = by_xtcocotools(dataset, results, 'keypoints', SIGMAS, True)
    assert figures(path, results) == pytest.approx(theirs, abs=1e-6)


def test_num_keypoints_is_counted(tmp_path):
    dataset, results = random_case(7)
    path = write(tmp_path / 'a.json', dataset)
    before = figures(path, results)
    for ann in dataset['annotations']:
        ann['num_keypoints'] = 0
    assert figures(write(tmp_path / 'b.json', dataset), results) == pytest.approx(before)


def test_repeated_ids_change_no_figure_and_are_a_line(tmp_path, monkeypatch):
    """pycocotools counts the last annotation of an id twice, and the first not at all."""
    dataset, results = random_case(7)
    expected = figures(write(tmp_path / 'a.json', dataset), results)
    dataset['annotations'][3]['id'] = dataset['annotations'][0]['id']
    path = write(tmp_path / 'b.json', dataset)
    lines: list[str] = []
    monkeypatch.setattr(ground_truth, 'print_log', lambda line, *_, **__: lines.append(line))
    assert figures(path, results) == pytest.approx(expected)
    (line,) = lines
    assert line.startswith(f"1 annotations of '{path}' have the id of an earlier one (the first")
    theirs = reference(COCO, COCOeval, dataset, results, 'keypoints')
    assert theirs != pytest.approx(expected, abs=1e-3)


def test_annotations_stay_as_they_are(tmp_path):
    dataset, results = random_case(7)
    ann = annotations.read(write(tmp_path / 'a.json', dataset))
    known = prepare_ground_truth(ann)
    predictions, scores = predictions_of(results)
    first, second = (evaluator.evaluate(known, predictions, scores, SIGMAS) for _ in range(2))
    assert first.metrics == second.metrics


def test_a_file_without_annotations_cannot_be_evaluated(tmp_path):
    dataset, _ = random_case(7)
    del dataset['annotations']
    path = write(tmp_path / 'a.json', dataset)
    with pytest.raises(DataError, match='format_only=True') as caught:
        prepare_ground_truth(annotations.read(path))
    assert path in str(caught.value)
    assert '\n' not in str(caught.value)


def test_the_20_best_of_each_image_and_category(tmp_path):
    dataset, results = random_case(7)
    dataset['categories'].append(dict(PERSON, id=2, name='dog'))
    many = [dict(results[0], category_id=1 + i % 2, score=i / 60) for i in range(60)]
    known = prepare_ground_truth(annotations.read(write(tmp_path / 'a.json', dataset)))
    for count, first in ((30, 0), (60, 20)):
        predictions, scores = predictions_of(many[:count])
        found = evaluator.evaluate(known, predictions, scores, SIGMAS)
        assert found.evaluated.tolist() == [*range(first, count)]


def test_predictions_of_other_data(tmp_path):
    dataset, results = random_case(7)
    known = prepare_ground_truth(annotations.read(write(tmp_path / 'a.json', dataset)))
    predictions, scores = predictions_of(results)
    with pytest.raises(ConfigError, match='14 sigmas'):
        evaluator.evaluate(known, predictions, scores, SIGMAS[:14])
    predictions.image[-1] = 77
    with pytest.raises(DataError, match='image 77'):
        evaluator.evaluate(known, predictions, scores, SIGMAS)
