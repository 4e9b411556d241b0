"""Annotations and predictions for the tests of evaluation, and the references' way to evaluate."""

import contextlib
import copy
import io
import json

import numpy as np

from hrformer_mmpose.evaluation.predictions import Predictions

SIGMAS = np.array(
    [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
) / 1000  # fmt: skip
PERSON = dict(id=1, name='person', keypoints=['k'] * 17, skeleton=[])


def random_case(seed: int) -> tuple[dict, list[dict]]:
    """Up to five images with persons of every size, crowds, people without keypoints, ties.

    Returns:
        Annotations and results, as COCO's files hold them.
    """
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image_id in rng.permutation(20)[: rng.integers(1, 6)].tolist():
        images.append(dict(id=image_id, width=640, height=480, file_name=f'{image_id}.jpg'))
        for _ in range(rng.integers(0, 5)):
            side = np.exp(rng.uniform(np.log(8), np.log(400)))
            x, y, w, h = *rng.uniform(0, 300, 2), side * rng.uniform(0.4, 1), side
            points = rng.uniform((x, y), (x + w, y + h), (17, 2)).round()
            visible = rng.integers(0, 3, 17) * (rng.random() < 0.8)
            annotations.append(
                dict(
                    id=10 + len(annotations),
                    image_id=image_id,
                    category_id=1,
                    bbox=[x, y, w, h],
                    area=rng.uniform(0.3, 0.7) * w * h,
                    iscrowd=int(rng.random() < 0.15),
                    keypoints=np.column_stack([points * (visible[:, None] > 0), visible])
                    .astype(int)
                    .ravel()
                    .tolist(),
                    num_keypoints=int((visible > 0).sum()),
                )
            )
            for _ in range(rng.choice([0, 1, 2, 9])):
                found = points + rng.normal(0, side * rng.choice([0.005, 0.03, 0.1]), (17, 2))
                scores = rng.uniform(0.05, 1, 17)
                results.append(
                    dict(
                        image_id=image_id,
                        category_id=1,
                        keypoints=np.column_stack([found, scores]).ravel().tolist(),
                        score=round(rng.random(), 1) if seed % 2 else rng.random(),
                    )
                )
    return dict(images=images, annotations=annotations, categories=[PERSON]), results


def predictions_of(results: list[dict]) -> tuple[Predictions, np.ndarray]:
    """Results as COCO's files hold them -> predictions, in the order of images, and scores."""
    results = sorted(results, key=lambda result: result['image_id'])
    count = len(results)
    numbers = len(results[0]['keypoints']) if results else 51
    keypoints = np.array([r['keypoints'] for r in results], float)
    keypoints = keypoints.reshape(count, numbers // 3, 3)
    bbox = [r.get('bbox', [np.nan] * 4) for r in results]
    predictions = Predictions(
        id=np.arange(count),
        image=np.array([r['image_id'] for r in results], int),
        category=np.array([r['category_id'] for r in results], int),
        keypoints=keypoints[..., :2],
        keypoint_scores=keypoints[..., 2],
        bbox=np.array(bbox, float).reshape(count, 4),
        bbox_score=np.ones(count),
        crop_area=np.ones(count),
    )
    return predictions, np.array([r['score'] for r in results], float)


def write(path, dataset: dict) -> str:
    path.write_text(json.dumps(dataset))
    return str(path)


def reference(coco_class, eval_class, dataset, results, *args, path: str = '') -> np.ndarray:
    """Figures by xtcocotools or pycocotools; `args` follow the type of evaluation."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = copy.deepcopy(dataset)
        coco.anno_file = [path]
        coco.createIndex()
        if results:
            found = coco.loadRes(copy.deepcopy(results))
        else:  # which pycocotools cannot load
            found = coco_class()
            found.dataset = dict(coco.dataset, annotations=[])
            found.createIndex()
        evaluation = eval_class(coco, found, *args)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)
