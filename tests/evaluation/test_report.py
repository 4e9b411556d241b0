"""The report: errors by kind worked out by hand, counts, and reasons for an AP of 0 or -1."""

import json

import numpy as np
import pytest

pytest.importorskip('faster_coco_eval')
from hrformer_mmpose.coco import annotations
from hrformer_mmpose.evaluation import evaluator, report
from hrformer_mmpose.evaluation.ground_truth import prepare_ground_truth

from .cases import SIGMAS, predictions_of, random_case, reference, write

AREA = 100.0**2
MIRROR = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
META = dict(keypoint_id2name={k: f'k{k}' for k in range(17)}, flip_indices=MIRROR)


def place(person: int) -> np.ndarray:
    """(17, 2): keypoints 60 pixels apart in a row, persons 200 pixels apart."""
    return np.stack([60.0 * np.arange(17), np.full(17, 100.0 + 200 * person)], 1)


def dataset(persons: int = 2, **changes) -> dict:
    anns = []
    for person in range(persons):
        keypoints = np.column_stack([place(person), np.full(17, 2)]).ravel().tolist()
        box = [0, 60 + 200 * person, 960, 80]
        anns.append(
            dict(id=person + 1, image_id=1, category_id=1, bbox=box, area=AREA, iscrowd=0,
                 keypoints=keypoints, num_keypoints=17) | changes
        )  # fmt: skip
    images = [dict(id=1, width=1000, height=600, file_name='1.jpg')]
    return dict(images=images, annotations=anns, categories=[dict(id=1, name='person')])


def result(keypoints: np.ndarray, **changes) -> dict:
    points = np.column_stack([keypoints, np.ones(17)]).ravel().tolist()
    return dict(image_id=1, category_id=1, keypoints=points, score=0.9) | changes


def build(tmp_path, data: dict, results: list[dict], iou_type: str = 'keypoints') -> dict:
    known = prepare_ground_truth(annotations.read(write(tmp_path / 'truth.json', data)), iou_type)
    predictions, scores = predictions_of(results)
    if not results:
        predictions, scores = predictions_of([result(place(0))])
        predictions, scores = predictions[:0], scores[:0]
    found = evaluator.evaluate(known, predictions, scores, SIGMAS, iou_type)
    return report.build(known, predictions, scores, found, SIGMAS, META)


def distance(keypoint: int, similarity: float) -> float:
    """Pixels at which a keypoint has the similarity: ks = exp(-d^2 / (2 (2 sigma)^2 area))."""
    return float(np.sqrt(-2 * np.log(similarity) * (2 * SIGMAS[keypoint]) ** 2 * AREA))


def test_each_kind_of_error(tmp_path):
    found = place(0)
    found[5, 1] += distance(5, 0.80)  # jitter
    found[7, 1] += distance(7, 0.90)  # good
    found[9] = place(0)[10]  # inversion: the left wrist on the right one
    found[11] = place(1)[11]  # swap: on the other person
    found[13] = place(1)[14]  # swap: on the other person's other knee
    found[15, 1] -= 500  # miss
    rows = build(tmp_path, dataset(), [result(found)])['keypoints']
    kinds = {5: 'jitter', 7: 'good', 9: 'inversion', 11: 'swap', 13: 'swap', 15: 'miss'}
    for k, row in enumerate(rows):
        assert row['name'] == f'k{k}'
        assert row['count'] == 1, 'the second person has no prediction'
        shares = {name: row[name] for name in report.KINDS}
        assert shares == {name: float(name == kinds.get(k, 'good')) for name in report.KINDS}
    assert rows[5]['oks'] == pytest.approx(0.8)
    assert rows[0]['oks'] == pytest.approx(1)


def test_unlabelled_keypoints_count_nowhere(tmp_path):
    data = dataset(1)
    data['annotations'][0]['keypoints'][2] = 0
    rows = build(tmp_path, data, [result(place(0))])['keypoints']
    assert rows[0]['count'] == 0
    assert rows[1]['count'] == 1


def test_found_persons_are_the_recall_at_one_half(tmp_path):
    for seed in range(8):
        data, results = random_case(seed)
        if not results:
            continue
        counts = build(tmp_path, data, results)
        persons, recall = counts['persons'], counts['metrics']['AR .5']
        assert persons['found'] == pytest.approx(max(recall, 0) * persons['counted'])
        sizes = counts['sizes']
        assert sum(sizes[name]['persons'] for name in sizes if name != 'all') == persons['counted']
        assert persons['counted'] + persons['ignored'] == len(data['annotations'])


def test_crowdposes_report_covers_all_images(tmp_path):
    data, results = random_case(29)
    for number, image in enumerate(data['images']):
        image['crowdIndex'] = number / 4
    found = [build(tmp_path, data, results, iou_type) for iou_type in evaluator.IOU_TYPES]
    assert found[0]['persons']['found'] == 8
    for entry in ('persons', 'keypoints'):
        assert found[0][entry] == found[1][entry]


def test_texts_name_what_matters(tmp_path):
    made = build(tmp_path, dataset(), [result(place(0))])
    boxes = dict(source='x/boxes.json', count=7, score_threshold=0.5, below_threshold=3)
    made['settings'] = dict(
        ann_file='truth.json', boxes=boxes, score_mode='bbox_keypoint', keypoint_score_thr=0.2,
        nms_mode='oks_nms', nms_thr=0.9, use_area=True, own_sigmas=False,
    )  # fmt: skip
    made['counts'] = dict(predicted=5, kept=4, not_finite=0)
    text = report.summary(made)
    for words in (
        'AP 0.505', "7, of 'x/boxes.json' (3 below score 0.5 left out)", 'oks_nms at OKS 0.9',
        '4 of 5 predictions', '2 persons', '1 are found', 'keypoints above 0.2',
    ):  # fmt: skip
        assert words in text
    assert 'k16' in report.details(made)
    assert len(report.details(made).splitlines()) == 6 + 3 + 17 + 2


@pytest.mark.parametrize(
    ('data', 'results', 'words'),
    [
        (dataset(iscrowd=1), [result(place(0))], 'AP is -1'),
        (dataset(0), [result(place(0))], '0 annotations'),
        (dataset(keypoints=None), [result(place(0))], '2 unusable'),
        (dataset(keypoints=[0] * 51), [result(place(0))], '2 have no labelled keypoint'),
        (dataset(), [], 'there are no predictions'),
        (dataset(), [result(place(0), category_id=3)], 'predictions have category 3'),
        (dataset(), [result(place(0) + 4000)], 'outside their images'),
        (dataset(), [result(place(0) / 1000)], 'within 2 pixels'),
        (dataset(), [result(place(0)[::-1])], 'is the network trained'),
    ],
)
def test_an_ap_of_nothing_explains_itself(tmp_path, data, results, words):
    made = build(tmp_path, data, results)
    assert made['metrics']['AP'] <= 0
    assert any(words in line for line in made['explanations'])


def test_the_best_oks_is_of_a_person_who_counts(tmp_path):
    """Not of a crowd, which a prediction may fit perfectly."""
    data = dataset(2)
    data['annotations'][0]['iscrowd'] = 1
    (line,) = build(tmp_path, data, [result(place(0))])['explanations']
    assert 'best OKS 0.00' in line


def test_a_good_ap_needs_no_explanation(tmp_path):
    assert build(tmp_path, dataset(), [result(place(0))])['explanations'] == []


def test_it_is_plain_json(tmp_path):
    made = build(tmp_path, *random_case(3))
    assert json.loads(json.dumps(made)) == made


def test_the_reference_is_used(tmp_path):
    """The metrics of the report are COCO's."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    data, results = random_case(3)
    metrics = list(build(tmp_path, data, results)['metrics'].values())
    assert metrics == pytest.approx(reference(COCO, COCOeval, data, results, 'keypoints'))
