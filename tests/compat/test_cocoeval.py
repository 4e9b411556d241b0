"""The stand-in for xtcocotools' evaluation against xtcocotools itself."""

import contextlib
import io

import numpy as np
import pytest

from hrformer_mmpose.compat.cocoeval import COCOeval
from hrformer_mmpose.errors import ConfigError

xtcoco = pytest.importorskip('xtcocotools.coco')
from pycocotools.coco import COCO  # noqa: E402
from xtcocotools.cocoeval import COCOeval as XTCOCOeval  # noqa: E402


def data(seed: int, first_id: int = 1) -> tuple[dict, list]:
    """Random persons, some crowds, some without keypoints; detections near them and elsewhere."""
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image_id in range(1, 9):
        images.append(dict(id=image_id, width=400, height=300, file_name=f'{image_id}.jpg'))
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = rng.uniform((0, 0, 20, 30), (200, 150, 150, 140))
            points = rng.uniform((x, y), (x + w, y + h), (17, 2))
            visible = rng.integers(0, 3, 17) * (rng.random() < 0.85)
            keypoints = np.column_stack([points, visible]) * (visible > 0)[:, None]
            annotations.append(
                dict(
                    id=first_id + len(annotations),
                    image_id=image_id,
                    category_id=1,
                    bbox=[x, y, w, h],
                    area=0.4 * w * h,
                    iscrowd=int(rng.random() < 0.1),
                    keypoints=keypoints.ravel().tolist(),
                    num_keypoints=int((visible > 0).sum()),
                )
            )
            for _ in range(rng.integers(0, 3)):
                found = points + rng.normal(0, 0.05 * w, (17, 2))
                scores = rng.random(17) * (rng.random() < 0.9)
                results.append(
                    dict(
                        image_id=image_id,
                        category_id=1,
                        keypoints=np.column_stack([found, scores]).ravel().tolist(),
                        score=float(rng.random()),
                    )
                )
    categories = [dict(id=1, name='person', keypoints=['k'] * 17, skeleton=[])]
    return dict(images=images, annotations=annotations, categories=categories), results


def stats(coco_class, eval_class, dataset, results, *args) -> np.ndarray:
    import copy

    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = copy.deepcopy(dataset)
        coco.anno_file = ['']
        coco.createIndex()
        found = coco.loadRes(copy.deepcopy(results))
        evaluation = eval_class(coco, found, 'keypoints', *args)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


@pytest.mark.parametrize('use_area', [True, False])
@pytest.mark.parametrize('seed', range(10))
def test_equals_xtcocotools(seed, use_area):
    sigmas = np.linspace(0.03, 0.1, 17)
    dataset, results = data(seed)
    args = (dataset, results, sigmas, use_area)
    ours = stats(COCO, COCOeval, *args)
    assert ours == pytest.approx(stats(xtcoco.COCO, XTCOCOeval, *args), abs=1e-9)
    assert 0 < ours[0] < 1


def test_labelled_keypoints_count_whatever_num_keypoints_says():
    """MMPose converts keypoints and leaves `num_keypoints` as it was."""
    dataset, results = data(1)
    plain = stats(COCO, COCOeval, dataset, results, None, True)
    for ann in dataset['annotations'][::2]:
        ann['keypoints'][2::3] = [0] * 17
    for ann in dataset['annotations'][1::4]:
        ann['num_keypoints'] = 0
    for ann in dataset['annotations'][3::4]:
        del ann['num_keypoints']
    ours, theirs = (
        stats(*classes, dataset, results, None, True)
        for classes in ((COCO, COCOeval), (xtcoco.COCO, XTCOCOeval))
    )
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert 0 < ours[0] != plain[0]


def test_an_annotation_with_id_zero_can_be_matched():
    args = (*data(3, first_id=0), None, True)
    assert stats(COCO, COCOeval, *args) == pytest.approx(stats(xtcoco.COCO, XTCOCOeval, *args))


def test_annotations_are_not_modified():
    dataset, _ = data(0)
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    before = [dict(ann) for ann in dataset['annotations']]
    evaluation = COCOeval(coco, coco, use_area=False)
    evaluation._prepare()
    for ann, old in zip(dataset['annotations'], before, strict=True):
        assert (ann['id'], ann['area']) == (old['id'], old['area'])


def test_what_only_xtcocotools_knows_says_so():
    with pytest.raises(ConfigError, match='needs xtcocotools'):
        COCOeval(None, None, 'keypoints_crowd')
