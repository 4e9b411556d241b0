"""A low AP names its cause, with the AP without it; a healthy evaluation names none."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('faster_coco_eval')
from mmpose.registry import METRICS

import hrformer_mmpose  # noqa: F401
from hrformer_mmpose.codecs.udp_heatmap import UDPHeatmap

from .cases import write

NAMES = ('nose', 'left_wrist', 'right_wrist', 'left_ankle', 'right_ankle')
FLIPS = (0, 2, 1, 4, 3)
SIGMAS = np.array([0.026, 0.062, 0.062, 0.089, 0.089])
SIZE = 640, 480
PERSONS = 60


def persons(count: int = PERSONS, K: int = 5, seed: int = 0) -> np.ndarray:
    """(count, K, 2) keypoints, far apart in a person; of every five persons one on an image."""
    rng = np.random.default_rng(seed)
    body = np.array([[0.5, 0.1], [0.9, 0.5], [0.1, 0.5], [0.7, 0.95], [0.3, 0.95]])
    if K != 5:
        angle = 2 * np.pi * np.arange(K) / K
        body = 0.5 + 0.45 * np.stack([np.sin(angle), np.cos(angle)], 1)
    height = rng.uniform(120, 380, (count, 1, 1))
    size = np.concatenate([0.5 * height, height], 2)
    start = rng.uniform(5, np.array(SIZE) - size - 5)
    return start + (body + rng.normal(0, 0.03, (count, K, 2))) * size


def dataset(keypoints: np.ndarray) -> dict:
    """Each person on an image of its own."""
    images, annotations = [], []
    for number, points in enumerate(keypoints, 1):
        low, high = points.min(0) - 8, points.max(0) + 8
        w, h = (high - low).tolist()
        rows = np.column_stack([points, np.full(len(points), 2)]).ravel().tolist()
        images.append(dict(id=number, width=SIZE[0], height=SIZE[1], file_name=f'{number}.jpg'))
        annotations.append(
            dict(id=number, image_id=number, category_id=1, bbox=[*low.tolist(), w, h],
                 area=0.6 * w * h, iscrowd=0, keypoints=rows, num_keypoints=len(points))
        )  # fmt: skip
    category = dict(id=1, name='person')
    return dict(images=images, annotations=annotations, categories=[category])


def predicted(keypoints: np.ndarray, data: dict, noise: float = 0.02, seed: int = 1) -> list[dict]:
    """The model's samples: keypoints with errors, `noise` of the person's size."""
    rng = np.random.default_rng(seed)
    samples = []
    for points, ann in zip(keypoints, data['annotations'], strict=True):
        x, y, w, h = ann['bbox']
        points = points + rng.normal(0, noise * np.sqrt(0.53 * w * h), points.shape)
        instances = dict(
            keypoints=points[None],
            keypoint_scores=np.ones((1, len(points))),
            bboxes=np.array([[x, y, x + w, y + h]]),
        )
        samples.append(dict(id=ann['id'], img_id=ann['image_id'], pred_instances=instances))
    return samples


def explained(tmp_path: Path, data: dict, samples: list[dict], **meta) -> tuple[float, list[str]]:
    """AP and sentences, from files and samples as in a test."""
    names = meta.pop('names', NAMES)
    options = meta.pop('options', {})
    path = write(tmp_path / 'truth.json', data)
    metric = METRICS.build(dict(type='hrformer_mmpose.CocoMetric', ann_file=path, **options))
    metric.dataset_meta = dict(
        dataset_name='own', keypoint_id2name=dict(enumerate(names)), flip_indices=list(FLIPS),
        sigmas=SIGMAS, boxes=dict(source='annotated', count=0, score_threshold=None),
    ) | meta  # fmt: skip
    metric.process({}, samples)
    ap = metric.evaluate(len(samples))['coco/AP']
    sentences = metric.outcome.report['explanations']
    assert all(sentence.startswith(f'AP is {ap:.3f}: ') for sentence in sentences)
    return ap, sentences


def figure(sentence: str, before: str) -> float:
    """The number that follows some words of a sentence."""
    return float(sentence.split(before)[1].split()[0].rstrip(':,;%'))


@pytest.mark.parametrize('noise', [0.02, 0.06, 0.12, 0.3, 1.0])
def test_errors_that_are_only_errors_name_no_cause(tmp_path, noise):
    """From a good network to a bad one: AP falls from 0.97 to 0.04 and below."""
    keypoints = persons()
    data = dataset(keypoints)
    ap, sentences = explained(tmp_path, data, predicted(keypoints, data, noise))
    assert (ap > 0.9) == (noise < 0.05)
    assert (ap < 0.8) == (noise > 0.05)
    assert all('is the network trained' in sentence for sentence in sentences)
    assert not sentences or ap < 0.001


@pytest.mark.parametrize('K', [1, 2])
@pytest.mark.parametrize('noise', [0.01, 0.2, 1.0])
def test_one_and_two_keypoints(tmp_path, K, noise):
    keypoints = persons(K=K)
    data = dataset(keypoints)
    meta = dict(names=NAMES[:K], flip_indices=range(K), sigmas=np.full(K, 0.07))
    ap, sentences = explained(tmp_path, data, predicted(keypoints, data, noise), **meta)
    assert (ap > 0.8) == (noise < 0.1)
    assert all('is the network trained' in sentence for sentence in sentences)


def test_one_place_for_all_keypoints_names_no_cause(tmp_path):
    """What a network predicts that has hardly been trained: the middle of the person."""
    keypoints = persons()
    data = dataset(keypoints)
    middle = np.broadcast_to(keypoints.mean(1, keepdims=True), keypoints.shape)
    ap, sentences = explained(tmp_path, data, predicted(middle, data))
    assert ap < 0.1
    assert all('is the network trained' in sentence for sentence in sentences)


@pytest.mark.parametrize('K', [5, 21])
def test_sigmas_ten_times_too_small(tmp_path, K):
    keypoints = persons(K=K)
    data, sigmas = dataset(keypoints), np.full(K, 0.07)
    meta = dict(names=[f'k{k}' for k in range(K)], flip_indices=range(K))
    samples = predicted(keypoints, data, 0.03)
    healthy, none = explained(tmp_path, data, samples, sigmas=sigmas, **meta)
    assert healthy > 0.9
    assert none == []
    ap, (sentence,) = explained(tmp_path, data, samples, sigmas=sigmas / 10, **meta)
    assert ap < 0.1
    assert 'the sigmas are small (median 0.0070' in sentence
    assert figure(sentence, 'AP is ') == pytest.approx(ap, abs=1e-3)
    assert figure(sentence, "COCO's median, AP is ") == pytest.approx(healthy, abs=0.02)
    assert 1 < figure(sentence, 'errors are below ') < 6


def test_small_sigmas_of_a_bad_network_are_not_the_cause(tmp_path):
    keypoints = persons()
    data = dataset(keypoints)
    ap, sentences = explained(tmp_path, data, predicted(keypoints, data, 0.4), sigmas=SIGMAS / 10)
    assert ap < 0.1
    assert not any('sigmas' in sentence for sentence in sentences)


@pytest.mark.parametrize('boxes', ['with boxes', 'without boxes'])
def test_areas_of_zero(tmp_path, boxes):
    """Of boxes without area, or of a tool that writes 0."""
    keypoints = persons()
    data = dataset(keypoints)
    samples = predicted(keypoints, data)
    healthy, _ = explained(tmp_path, data, samples)
    for ann in data['annotations']:
        ann['area'] = 0
        if boxes == 'without boxes':
            ann['bbox'][2:] = [0, 0]
    ap, (sentence,) = explained(tmp_path, data, samples)
    assert ap == 0
    assert (
        f'60 of 60 persons have {"an area below" if boxes == "with boxes" else "neither"}'
        in sentence
    )
    assert float(sentence.rpartition('AP is ')[2]) == pytest.approx(healthy, abs=0.1)


def test_boxes_without_area_stand_in_for_areas(tmp_path):
    """No area in the file, and none can be derived from the boxes."""
    keypoints = persons()
    data = dataset(keypoints)
    samples = predicted(keypoints, data)
    for ann in data['annotations']:
        del ann['area']
        ann['bbox'][2:] = [0, 0]
    ap, (sentence,) = explained(tmp_path, data, samples)
    assert ap == 0
    assert 'neither an area nor a box with an area' in sentence


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(iscrowd=1), '60 are crowds (iscrowd), 0 have no labelled keypoint'),
        (dict(num_keypoints=0, keypoints=[0] * 15), '0 are crowds (iscrowd), 60 have no labelled'),
    ],
)
def test_everybody_is_ignored(tmp_path, change, words):
    keypoints = persons()
    data = dataset(keypoints)
    samples = predicted(keypoints, data)
    data['annotations'] = [ann | change for ann in data['annotations']]
    path = write(tmp_path / 'truth.json', data)
    metric = METRICS.build(dict(type='hrformer_mmpose.CocoMetric', ann_file=path))
    metric.dataset_meta = dict(keypoint_id2name={}, sigmas=SIGMAS, flip_indices=FLIPS)
    metric.process({}, samples)
    assert metric.evaluate(60)['coco/AP'] == -1
    (sentence,) = metric.outcome.report['explanations']
    assert words in sentence


@pytest.mark.parametrize('share', [0.3, 0.6, 1.0])
def test_sides_that_are_annotated_the_other_way_round(tmp_path, share):
    """On some persons or all: the viewer's left instead of the person's."""
    keypoints = persons()
    data = dataset(keypoints)
    other = keypoints.copy()
    count = round(share * PERSONS)
    other[:count] = other[:count][:, list(FLIPS)]
    healthy, none = explained(tmp_path, data, predicted(keypoints, data))
    assert none == []
    _, (sentence,) = explained(tmp_path, data, predicted(other, data))
    for pair in ('left_wrist and right_wrist', 'left_ankle and right_ankle'):
        assert f'{pair} ({100 * share:.0f} % of the persons)' in sentence
    assert 'no flip pair' not in sentence
    assert figure(sentence, 'on its own side AP is ') == pytest.approx(healthy, abs=0.02)


def test_a_flip_test_with_a_pair_missing(tmp_path):
    """Right heatmaps of a picture and its mirror image, averaged by metainfo without the wrists.

    The left wrist's map then has a peak at each wrist.
    """
    keypoints, size = persons(), np.array([96, 128])
    data = dataset(keypoints)
    codec = UDPHeatmap(input_size=tuple(size), heatmap_size=(24, 32), sigma=2)
    found = []
    for points, ann in zip(keypoints, data['annotations'], strict=True):
        start, scale = np.array(ann['bbox'][:2]), size / ann['bbox'][2:]
        local = (points - start) * scale
        mirrored = np.stack([95 - local[:, 0], local[:, 1]], 1)[list(FLIPS)]
        maps, flipped = (
            codec.encode(p[None].astype(np.float32), np.ones((1, 5), np.float32))['heatmaps']
            for p in (local, mirrored)
        )
        missing = [0, 1, 2, 4, 3]
        mean = (maps + flipped[missing][..., ::-1]) / 2
        found.append(codec.decode(mean)[0][0] / scale + start)
    samples = predicted(np.array(found), data, 0.01)
    meta = dict(flip_indices=[0, 1, 2, 4, 3])
    ap, (sentence, other) = explained(tmp_path, data, samples, **meta)
    assert ap < 0.8
    assert 'left_wrist and right_wrist' in sentence
    assert 'no flip pair of the metainfo' in sentence
    assert 'at the same place' in other
    assert 'ankle' not in sentence + other
    assert figure(sentence, 'on its own side AP is ') > ap + 0.1


def test_a_pair_between_its_places(tmp_path):
    """Two peaks that are near each other are one peak in the middle: both wrists are there."""
    keypoints = persons()
    data = dataset(keypoints)
    mixed = keypoints.copy()
    mixed[:, 1:3] = keypoints[:, 1:3].mean(1, keepdims=True)
    samples = predicted(mixed, data)
    ap, (sentence,) = explained(tmp_path, data, samples, flip_indices=[0, 1, 2, 4, 3])
    assert ap < 0.8
    assert 'left_wrist and right_wrist (100 % of the persons)' in sentence
    assert 'no flip pairs of the metainfo' in sentence
    assert 'ankle' not in sentence
    assert explained(tmp_path, data, samples) == (ap, []), 'a flip pair is not the cause'


def test_another_order_of_the_keypoints(tmp_path):
    keypoints = persons()
    data = dataset(keypoints)
    healthy, _ = explained(tmp_path, data, predicted(keypoints, data))
    order = [1, 2, 0, 4, 3]  # predicted k is what is annotated as order[k]
    ap, (sentence,) = explained(tmp_path, data, predicted(keypoints[:, order], data))
    assert ap < 0.1
    assert 'nose on left_wrist, left_wrist on right_wrist, right_wrist on nose' in sentence
    assert figure(sentence, 'in the same order AP is ') == pytest.approx(healthy, abs=0.03)


def corners(box: list, _) -> list:
    x, y, w, h = box
    return [x, y, x + w, y + h]


def centered(box: list, _) -> list:
    x, y, w, h = box
    return [x + w / 2, y + h / 2, w, h]


def shares(box: list, _) -> list:
    return (np.array(box) / np.tile(SIZE, 2)).tolist()


READINGS = {
    'two corners': corners,
    'center and size': centered,
    "shares of the image's size": shares,
}


@pytest.mark.parametrize('reading', READINGS)
def test_annotated_boxes_in_another_format(tmp_path, reading):
    """The network saw other parts of the images, so that its keypoints are anywhere."""
    keypoints = persons()
    data = dataset(keypoints)
    samples = predicted(persons(seed=5), data, 0.1)
    _, sentences = explained(tmp_path, data, samples)
    assert not any('boxes' in sentence for sentence in sentences)
    for ann in data['annotations']:
        ann['bbox'] = READINGS[reading](ann['bbox'], SIZE)
    ap, sentences = explained(tmp_path, data, samples)
    assert ap < 0.1
    (sentence,) = [sentence for sentence in sentences if 'annotated boxes' in sentence]
    assert f'read as {reading}' in sentence
    assert figure(sentence, 'and to ') > 95


@pytest.mark.parametrize('reading', [*READINGS, 'of images 2.00 times as large', None])
def test_boxes_of_a_detector_in_another_format(tmp_path, reading):
    keypoints = persons()
    data = dataset(keypoints)
    samples = predicted(persons(seed=5), data, 0.1)
    other = dataset(persons(seed=9))
    for sample, ann, wrong in zip(samples, data['annotations'], other['annotations'], strict=True):
        x, y, w, h = ann['bbox'] if reading else wrong['bbox']
        if reading in READINGS:
            x, y, w, h = READINGS[reading]([x, y, w, h], SIZE)
        elif reading:
            x, y, w, h = 2 * x, 2 * y, 2 * w, 2 * h
        sample['pred_instances']['bboxes'] = np.array([[x, y, x + w, y + h]])
    boxes = dict(source='boxes.json', count=60, score_threshold=None)
    ap, sentences = explained(tmp_path, data, samples, boxes=boxes)
    assert ap < 0.1
    (sentence,) = [sentence for sentence in sentences if 'boxes.json' in sentence]
    assert ('read as' in sentence) == (reading is not None)
    assert (reading or '') in sentence
    assert figure(sentence, 'are those of ') < 50


def test_images_that_hardly_meet(tmp_path):
    keypoints = persons()
    data = dataset(keypoints)
    ap, (sentence,) = explained(tmp_path, data, predicted(keypoints, data)[:20])
    assert ap < 0.5
    assert 'only 20 of 60 images with persons have a prediction' in sentence


def test_missing_areas_are_a_share_of_the_boxes(tmp_path):
    """As if the file had them; the log counts them."""
    keypoints = persons()
    data = dataset(keypoints)
    samples = predicted(keypoints, data, 0.06)
    for ann in data['annotations'][::2]:
        ann['area'] = 0.53 * ann['bbox'][2] * ann['bbox'][3]
    stated, _ = explained(tmp_path, data, samples)
    assert 0.3 < stated < 0.9
    for ann in data['annotations'][::2]:
        del ann['area']
    path = write(tmp_path / 'truth.json', data)
    assert 'area' not in json.loads(Path(path).read_text())['annotations'][0]
    missing, _ = explained(tmp_path, data, samples)
    assert missing == stated
